"""Workers of this very process, one after another: what they do and raise, without the seconds that processes take."""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import replace

from scalselect import worker_place
from scalselect.engines.crew import Done, Raised, Ready
from scalselect.engines.helpers import picklable

LAST = []  # the crews of a test


class InlineCrew:
    """Everything that goes to a worker or comes from it is pickled, as it is elsewhere."""

    def __init__(self, begin):
        self._begin = pickle.dumps(replace(begin, keeps_descriptors=True))  # those of this process are the test's
        self._told = deque()
        self._works = {}
        self.begun = []
        self.given = []
        LAST.append(self)

    def start(self, worker):
        self.begun.append(worker)
        try:
            self._works[worker], facts = pickle.loads(self._begin)(worker)
        except Exception as error:  # noqa: BLE001  as in a worker
            self._tell(Raised(worker, picklable(error)))
        else:
            self._tell(Ready(worker, facts))

    def give(self, worker, task):
        self.given.append((worker, task))
        try:
            self._tell(Done(worker, self._works[worker](pickle.loads(pickle.dumps(task)))))
        except Exception as error:  # noqa: BLE001  as in a worker
            self._tell(Raised(worker, picklable(error)))

    def end(self, worker):
        self._told = deque(event for event in self._told if event.worker != worker)
        if worker in self._works:
            self._works.pop(worker).close()

    def events(self, _seconds):
        assert self._told, "it would wait for ever"
        told, self._told = self._told, deque()
        return told

    def close(self):
        for worker in sorted(self._works, reverse=True):  # each restores what it found
            self.end(worker)

    def _tell(self, event):
        self._told.append(pickle.loads(pickle.dumps(event)))


def work_inline(monkeypatch):
    """Let workers of this machine be none of their own; return the list of the crews that are made."""
    LAST.clear()
    monkeypatch.setattr(worker_place, "LocalCrew", InlineCrew)
    return LAST
