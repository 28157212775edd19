"""What a Ray cluster offers, and whether its nodes can do the work."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.engines.ray_engine_crew import RayCrew, in_words, words_of
from scalselect.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scalselect.engines.crew import Begin

_TO_LOOK = 60.0  # seconds in which a node tells what it sees


@dataclass(frozen=True, slots=True)
class _Node:
    """A live node: Ray's id, its address, and all that it has, free or not."""

    id: str
    address: str
    cpus: float
    gpus: float

    def places(self, cpus: float, gpus: float) -> int:
        """Return how many workers of this size the node has room for."""
        rooms = [int((has + 1e-9) / asked) for has, asked in ((self.cpus, cpus), (self.gpus, gpus)) if asked]
        return min(rooms, default=1)


class RayCluster:
    """A Ray cluster that this process is connected to.

    Parameters
    ----------
    say
        Is told in a sentence what a user should know.
    """

    def __init__(self, ray: Any, *, say: Callable[[str], None]) -> None:
        self._ray = ray
        self._say = say

    @property
    def address(self) -> str:
        """Where the cluster is reached."""
        return str(self._ray.get_runtime_context().gcs_address)

    @property
    def nodes(self) -> int:
        """Number of live nodes."""
        return len(self._live())

    @property
    def cpus(self) -> float:
        """CPUs of all live nodes, free or not."""
        return sum(node.cpus for node in self._live())

    @property
    def gpus(self) -> float:
        """GPUs of all live nodes, free or not."""
        return sum(node.gpus for node in self._live())

    def default_workers(self, cpus_each: float, gpus_each: float) -> int:
        """Return how many workers of this size the live nodes have room for, were they free; 0 where none fits."""
        return sum(node.places(cpus_each, gpus_each) for node in self._live())

    def crew(self, begin: Begin, *, cpus: float, gpus: float) -> RayCrew:
        """Return a crew whose workers have so many CPUs and GPUs each."""
        return RayCrew(begin, cpus=cpus, gpus=gpus, free=self._free, say=self._say)

    def check(self, look: Callable[[], str | None], workers: int, cpus: float, gpus: float) -> None:
        """Refuse work that the cluster cannot do, as far as a minute can tell.

        Parameters
        ----------
        look
            Called once on every live node that has room for a worker, busy or not; pickled. Returns in words what is
            wrong there, None where nothing is.
        workers
            Those that find no room at once are told of: they wait.
        cpus, gpus
            Of one worker.

        Raises
        ------
        OptionError
            If no live node has room for a worker, even were it free (a cluster that would grow on demand must have
            grown first), if Python, Ray or scalselect differ on a node, if a node does not answer within a minute,
            or if `look` says so.
        """
        fitting = [node for node in self._live() if node.places(cpus, gpus)]
        if not fitting:
            raise OptionError(self._why_none_fits(cpus, gpus))
        room = self.default_workers(cpus, gpus)
        if workers > room:
            self._say(f"{workers} workers were asked for, and the cluster has room for {room}: the others wait")
        for node, answer in self._answers(look, fitting):
            wrong = _what_is_wrong(answer)
            if wrong:
                raise OptionError(f"the node {node.address} of the Ray cluster cannot take part: {wrong}")

    def _live(self) -> list[_Node]:
        found = []
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                found.append(
                    _Node(node["NodeID"], node["NodeManagerAddress"], has.get("CPU", 0.0), has.get("GPU", 0.0))
                )
        return found

    def _why_none_fits(self, cpus: float, gpus: float) -> str:
        nodes = self._live()
        if gpus and not any(node.gpus for node in nodes):
            return f"no node of the cluster has a GPU: {len(nodes)} nodes with {self.cpus:g} CPUs; give --device cpu"
        most = "; ".join(in_words(node.cpus, node.gpus) for node in sorted(nodes, key=lambda node: node.cpus)[-3:])
        asked = in_words(cpus, gpus)
        return f"a worker needs {asked}, which no node of the cluster has: its largest nodes have {most}"

    def _free(self) -> str:
        free = self._ray.available_resources()
        cpus = f"{free.get('CPU', 0.0):g} of {self.cpus:g} CPUs"
        gpus = f" and {free.get('GPU', 0.0):g} of {self.gpus:g} GPUs" if self.gpus else ""
        return f"{cpus}{gpus} are free on {self.nodes} node{'' if self.nodes == 1 else 's'}"

    def _answers(self, look: Callable[[], str | None], nodes: list[_Node]) -> Iterator[tuple[_Node, dict[str, str]]]:
        """Yield what nodes answer, those that were lost meanwhile left out."""
        ray = self._ray
        on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        # As pickled by Ray, the code of a function inside a function travels: a node without scalselect can tell.
        task = ray.remote(_looking())
        pickled = ray.cloudpickle.dumps(look)
        asked = {
            task.options(num_cpus=0, max_retries=1, scheduling_strategy=on_node(node.id, soft=False)).remote(
                pickled
            ): node
            for node in nodes
        }
        until = time.monotonic() + _TO_LOOK
        unanswered = set(asked)
        try:
            for reference, node in asked.items():
                ready, _ = ray.wait([reference], timeout=max(0.0, until - time.monotonic()))
                unanswered.difference_update(ready)
                if not ready:
                    yield node, {"words": f"it did not answer within {_TO_LOOK:.0f} seconds"}
                    continue
                try:
                    yield node, ray.get(reference)
                except ray.exceptions.RayError as error:
                    if node.id in {live.id for live in self._live()}:
                        yield node, {"words": words_of(error)}
        finally:
            # No others: cancelling a task that answers at this moment can abort this process, in Ray's compiled code.
            answered, _ = ray.wait(list(unanswered), num_returns=len(unanswered), timeout=0) if unanswered else ([], [])
            for reference in unanswered.difference(answered):
                ray.cancel(reference, force=True)


def _looking() -> Callable[[bytes], dict[str, str]]:
    """Return what a node is asked to do: tell its versions, then what `look` says there."""

    def look_there(look: bytes) -> dict[str, str]:
        import pickle  # noqa: PLC0415
        import platform  # noqa: PLC0415

        import ray  # noqa: PLC0415

        found = {"Python": platform.python_version(), "ray": ray.__version__}
        try:
            import scalselect  # noqa: PLC0415

            found["scalselect"] = scalselect.__version__
            said = pickle.loads(look)()  # noqa: S301  from the driver
        except Exception as error:  # noqa: BLE001  told in words
            found["words"] = f"{type(error).__name__}: {error}"
        else:
            if said:
                found["words"] = said
        return found

    return look_there


def _what_is_wrong(answer: dict[str, str]) -> str | None:
    """Return in words what keeps a node from taking part."""
    import ray  # noqa: PLC0415

    import scalselect  # noqa: PLC0415

    here = {"Python": platform.python_version(), "ray": ray.__version__, "scalselect": scalselect.__version__}
    for name, version in here.items():
        there = answer.get(name, version)
        if _told_apart(name, there) != _told_apart(name, version):
            return f"it has {name} {there}, and here is {version}"
    return answer.get("words")


def _told_apart(name: str, version: str) -> str:
    """Return the part of a version that must be equal: the third number of Python's changes nothing for us."""
    return ".".join(version.split(".")[:2]) if name == "Python" else version
