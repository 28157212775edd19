"""Workers that are Ray actors: begun, handed one task at a time, watched, and ended without a trace in the cluster.

Nothing here refers to a call that was answered, so that Ray frees it.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scalselect.engines.crew import Died, Done, Raised, Ready
from scalselect.engines.ray_engine_actor import Actor, Place, ask_to_leave
from scalselect.errors import WorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalselect.engines.crew import Begin, Event

_LOOK = 1.0  # seconds between looks at workers that find no place
_UNTIL_TOLD = 30.0  # seconds that a worker waits for a place before it is told; then twice as long each time
_LONGEST_SILENCE = 600.0
_TO_LEAVE = 4.0  # seconds that workers are given to clean up
_TO_NOTICE, _POLL = (
    5.0,
    0.2,
)  # seconds in which Ray notices that the node of an unreachable actor is lost; between looks
_TO_DIE = 3.0  # in which Ray tells that a killed actor is dead
_CHARACTERS = 300  # characters of what Ray says of a death


@dataclass(slots=True, eq=False)
class _Hired:
    """A worker: its actor, where it lives once it has a place, and what it was asked last."""

    actor: Any
    since: float
    awaited: dict[Any, str] = field(default_factory=dict)  # references, to what was asked
    place: Place | None = None


class RayCrew:
    """Workers in the actors of a Ray cluster, one each; a `Crew`.

    An actor is never restarted and no task tried again by Ray: that is the supervisor's affair. Actors have no names,
    are spread over the nodes, and run everything in the main thread of their process, so that alarms work there. Ray
    sets OMP_NUM_THREADS to the CPUs of the actor where the node has not set it: work whose numbers depend on threads
    must set their number itself. CUDA_VISIBLE_DEVICES names the GPUs that were asked for; with none, Ray hides all GPUs
    or leaves them visible, according to its version.

    A worker that is ended at work is first sent SIGTERM by a task on its node, which raises SystemExit in it, so that
    files it was writing are removed; of one that is idle the work's method `close` is called, if it has one. What has
    not left after 4 seconds is killed.

    Parameters
    ----------
    begin
        Pickled with Ray's cloudpickle, as tasks are: the modules of functions and classes must be importable on the
        nodes.
    cpus, gpus
        Of one worker; may be fractions.
    free
        Returns in words what of the cluster is free.
    say
        Is told in a sentence which workers wait for a place.
    """

    def __init__(
        self,
        begin: Begin,
        *,
        cpus: float,
        gpus: float,
        free: Callable[[], str],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import ray  # noqa: PLC0415

        self._ray = ray
        self._begin = ray.cloudpickle.dumps(begin)
        self._actor = ray.remote(Actor).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._asks = in_words(cpus, gpus)
        self._free = free
        self._say = say
        self._clock = clock
        self._hired: dict[int, _Hired] = {}
        self._owners: dict[Any, int] = {}  # of references
        self._silence = _UNTIL_TOLD
        self._looked = clock()

    def start(self, worker: int) -> None:
        """Let an actor begin, once the cluster has a place for it."""
        hired = self._hired[worker] = _Hired(self._actor.remote(), self._clock())
        self._await(worker, hired.actor.place.remote(), "place")
        self._await(worker, hired.actor.begin.remote(self._begin, worker), "begin")

    def give(self, worker: int, task: Any) -> None:
        """Hand a task to an actor that is ready."""
        pickled = self._ray.cloudpickle.dumps(task)
        self._await(worker, self._hired[worker].actor.do.remote(pickled), "do")

    def end(self, worker: int) -> None:
        """End an actor; its work cleans up if that takes no longer than 4 seconds."""
        self._end([self._dismissed(worker)])

    def close(self) -> None:
        """End all actors."""
        self._end([self._dismissed(worker) for worker in list(self._hired)])

    def events(self, seconds: float | None) -> Sequence[Event]:
        """Return what happened to one worker, as soon as something does.

        Raises
        ------
        WorkError
            If the connection to the cluster is lost.
        """
        until = None if seconds is None else self._clock() + seconds
        while True:
            if self._clock() - self._looked >= _LOOK:  # also while others tell something all the time
                self._looked = self._clock()
                self._tell_who_waits()
            left = _LOOK if until is None else min(_LOOK, until - self._clock())
            for reference in self._ready(max(0.0, left)):
                event = self._heard(reference)
                if event is not None:
                    return [event]
            if until is not None and self._clock() >= until:
                return []

    def _ready(self, seconds: float) -> list[Any]:
        if not self._owners:
            time.sleep(seconds)
            return []
        try:
            ready: list[Any] = self._ray.wait(list(self._owners), num_returns=1, timeout=seconds)[0]
        except self._ray.exceptions.RayError as error:
            raise WorkError(f"the connection to the Ray cluster is lost: {words_of(error)}") from error
        return ready

    def _heard(self, reference: Any) -> Event | None:
        """Return what a finished call of an actor tells; None where that is no news."""
        worker = self._owners.pop(reference)
        hired = self._hired[worker]
        asked = hired.awaited.pop(reference)
        try:
            told = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # Ray's part failed, not the work
            return Raised(worker, WorkError(words_of(error)))
        except self._ray.exceptions.RayError as error:
            how = self._how(hired, error)
            self._end([self._dismissed(worker)])  # one that could not be reached may be at its task still
            return Died(worker, how)
        if asked == "place":
            hired.place = Place(*told)
            return None
        succeeded, pickled, words = pickle.loads(told)  # noqa: S301  from our own actor
        try:
            value = pickle.loads(pickled)  # noqa: S301
        except Exception as error:  # noqa: BLE001  a class that is known there and not here
            words = words or f"the result of a worker cannot be read: {type(error).__name__}: {error}"
            return Raised(worker, WorkError(words))
        if not succeeded:
            return Raised(worker, value)
        return Ready(worker, value) if asked == "begin" else Done(worker, value)

    def _await(self, worker: int, reference: Any, asked: str) -> None:
        self._owners[reference] = worker
        self._hired[worker].awaited[reference] = asked

    def _dismissed(self, worker: int) -> _Hired:
        """Take a worker from those that are listened to."""
        hired = self._hired.pop(worker)
        for reference in hired.awaited:
            self._owners.pop(reference, None)
        return hired

    def _end(self, ended: list[_Hired]) -> None:
        ray = self._ray
        with contextlib.suppress(ray.exceptions.RayError):  # a cluster that is lost
            try:
                idle = [hired.actor.leave.remote() for hired in ended if hired.place is not None and not hired.awaited]
                self._let_leave([hired for hired in ended if hired.place is not None and hired.awaited])
                if idle:
                    ray.wait(idle, num_returns=len(idle), timeout=_TO_LEAVE)
            finally:
                for hired in ended:
                    ray.kill(hired.actor, no_restart=True)
            last = [hired.actor.place.remote() for hired in ended]  # an error once Ray knows of the death
            if last:
                ray.wait(last, num_returns=len(last), timeout=_TO_DIE)

    def _let_leave(self, busy: Iterable[_Hired]) -> None:
        """Ask actors that work to clean up, and wait a while for them to be gone."""
        ray = self._ray
        marks: dict[str, list[str]] = {}
        left: list[Any] = []
        for hired in busy:
            if hired.place is not None:
                marks.setdefault(hired.place.node, []).append(hired.place.mark)
                left += hired.awaited
        if not left:
            return
        on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        ask = ray.remote(ask_to_leave)
        asked = [
            ask.options(num_cpus=0, max_retries=0, scheduling_strategy=on_node(node, soft=False)).remote(on_it)
            for node, on_it in marks.items()
        ]
        ray.wait(left, num_returns=len(left), timeout=_TO_LEAVE)
        del asked  # kept until here: what nobody refers to, Ray may cancel

    def _how(self, hired: _Hired, error: Exception) -> str:
        """Return in words how a worker ended."""
        if hired.place is None:
            return f"it did not begin: {words_of(error)}"
        unreachable = isinstance(error, self._ray.exceptions.ActorUnavailableError)
        until = time.monotonic() + (_TO_NOTICE if unreachable else 0.0)
        with contextlib.suppress(self._ray.exceptions.RayError):
            while True:
                if hired.place.node not in {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}:
                    return f"the node {hired.place.address} is lost"
                if time.monotonic() >= until:
                    break
                time.sleep(_POLL)
        if unreachable:
            return f"it cannot be reached any more on the node {hired.place.address}"
        return f"on the node {hired.place.address}: {words_of(error)}"

    def _tell_who_waits(self) -> None:
        waiting = [worker for worker, hired in self._hired.items() if hired.place is None]
        if not waiting:
            self._silence = _UNTIL_TOLD
            return
        waited = self._clock() - min(self._hired[worker].since for worker in waiting)
        if waited < self._silence:
            return
        self._silence = waited + min(waited, _LONGEST_SILENCE)
        who = f"worker {waiting[0]} waits" if len(waiting) == 1 else f"{len(waiting)} workers wait"
        others = "the others go on" if len(waiting) < len(self._hired) else "no worker has one"
        self._say(f"{who} for a place with {self._asks}, {waited:.0f} s by now; {self._free()}; {others}")


def in_words(cpus: float, gpus: float) -> str:
    """Return in words what a worker asks for."""
    words = f"{cpus:g} CPU{'' if cpus == 1 else 's'}"
    return f"{words} and {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else words


def words_of(error: Exception) -> str:
    """Return what Ray says of an error, without its advice and its tables."""
    text = str(error)
    _, found, detail = text.partition("Worker exit detail: ")
    if not found:
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\t")]
        detail = lines[-1] if lines else type(error).__name__
    detail = detail.partition(" Some common causes include")[0].strip()
    return " ".join(detail.split())[:_CHARACTERS].rstrip(".")
