"""The phases of a command, told through a pipe by a process that watches itself enter and leave a few functions."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalselect.representation_store import RepresentationStore
from scalselect.run_folder import RunFolder
from scalselect.score_work import score_run
from scalselect.select_work import select_run
from scalselect.shard_work import ShardWork

if TYPE_CHECKING:
    from collections.abc import Callable

START, SHARD, PUBLISHING = "start", "mid-shard", "publishing"
SCORING, WRITING_SCORES = "scoring", "writing scores"
CHOOSING, WRITING_CHOICE, END = "choosing", "writing choice", "end"
WRITE = "inside a write"
PHASES = {
    START: "from the first line of the command on: data opened, model loaded, run.json",
    SHARD: "inside a shard, its files not yet begun, or between two shards",
    PUBLISHING: "while the three files of a shard are written",
    SCORING: "stores read, subspace solved; nothing of it written yet",
    WRITING_SCORES: "from the first change of a file by scoring on",
    CHOOSING: "rows chosen and measured; nothing of it written yet",
    WRITING_CHOICE: "from the first change of a file by choosing on",
    END: "after a stage's last file, before the process is gone",
    WRITE: "between the system calls of a write: file opened, flushed, renamed, folder flushed, file removed",
}
_FOR_EVER = 3600.0  # seconds: until it is killed


class Phases:
    """Tells the phases of this process.

    Parameters
    ----------
    told
        Descriptor of the pipe: a line for each phase entered, its name and the clock.
    halt_at
        Number of the write step at which the process stands still, from 0 on.
    """

    def __init__(self, told: int, halt_at: int | None) -> None:
        self._told = told
        self._halt_at = halt_at
        self._phase = START
        self._inside: list[str] = []
        self._steps = 0
        self._process = 0

    def watch(self) -> None:
        """Replace the functions at whose beginning or end a phase begins by ones that tell it."""
        self._process = os.getpid()
        self._tell(START)
        ShardWork.__call__ = self._between(ShardWork.__call__, SHARD, SHARD)  # type: ignore[method-assign]
        publish = self._between(RepresentationStore.publish, PUBLISHING, SHARD)
        RepresentationStore.publish = publish  # type: ignore[method-assign]
        for function, entered in ((score_run, SCORING), (select_run, CHOOSING)):
            telling = self._between(function, entered, END)
            for module in [module for name, module in sys.modules.items() if name.startswith("scalselect")]:
                if getattr(module, function.__name__, None) is function:
                    setattr(module, function.__name__, telling)
        forget = RunFolder.forget_selection
        RunFolder.forget_selection = self._forgetting(forget)  # type: ignore[method-assign]
        Path.open = self._opening(Path.open)  # type: ignore[method-assign, assignment]
        for place, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync"), (os, "link")):
            setattr(place, name, self._after_a_step(getattr(place, name)))

    def _tell(self, phase: str) -> None:
        self._phase = phase
        os.write(self._told, f"{phase} {time.monotonic()}\n".encode())

    def _between(self, function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        def telling(*arguments: Any, **options: Any) -> Any:
            self._tell(before)
            self._inside.append(before)
            try:
                return function(*arguments, **options)
            finally:
                self._inside.pop()
                self._tell(after)

        return telling

    def _forgetting(self, forget: Callable[[RunFolder], None]) -> Callable[[RunFolder], None]:
        begins = {SCORING: WRITING_SCORES, CHOOSING: WRITING_CHOICE}

        def forgetting(folder: RunFolder) -> None:  # the first change of a file, by scoring and by choosing
            if self._inside and self._inside[-1] in begins:
                self._tell(begins[self._inside[-1]])
            forget(folder)

        return forgetting

    def _step(self) -> None:
        if os.getpid() != self._process:  # processes beside the model write nothing of the run's
            return
        before = self._phase
        self._tell(WRITE)
        if self._steps == self._halt_at:
            time.sleep(_FOR_EVER)
        self._steps += 1
        self._tell(before)

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            stream = function(path, mode, *arguments, **options)
            if mode[0] in "wxa":
                self._step()
            return stream

        return opening

    def _after_a_step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self._step()
            return function(*arguments, **options)

        return stepping
