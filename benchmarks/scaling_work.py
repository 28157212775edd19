"""Work that is empty, for `scaling.py`: what is left of the time is the engine's."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def begin(_worker: int) -> tuple[Callable[[Any], int], None]:
    """Begin a worker whose work does nothing."""
    return nothing, None


def nothing(_task: Any) -> int:
    """Return a result as small as a result can be."""
    return 0


class _Store:
    """Publishes a shard as an empty file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_published(self, shard: int) -> bool:
        """Tell whether the file is there."""
        return (self._folder / f"shard-{shard:07d}").exists()

    def publish(self, shard: int) -> None:
        """Make the file."""
        (self._folder / f"shard-{shard:07d}").touch()


def rank_main() -> None:
    """Go through the shards of this rank, then through those that are missing, each under a claim; say how long."""
    from scalselect.claimed_tasks import claimed_tasks  # noqa: PLC0415  not in the workers of other engines
    from scalselect.claims import Claims  # noqa: PLC0415
    from scalselect.engines.torchrun_engine import own_then_others, rank_of_environment  # noqa: PLC0415

    folder, shards = Path(sys.argv[1]), int(sys.argv[2])
    rank = rank_of_environment()
    if rank is None:
        raise SystemExit("to be started by torchrun, as several processes")
    store = _Store(folder)
    claims = Claims(folder / ".claims")
    began, own = time.perf_counter(), 0
    ordered = own_then_others(rank, range(shards), lambda some: {one for one in some if not store.is_published(one)})
    for shard in claimed_tasks(ordered, store.is_published, claims, lambda shard: f"shard-{shard:07d}"):
        if not store.is_published(shard):
            store.publish(shard)
            own += 1
    told = {"seconds": time.perf_counter() - began, "shards": own}
    (folder / f"rank-{rank.number}.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    rank_main()
