"""The shards of several pools, one after the other: each is represented by the work on its own pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalselect.representation_store import RepresentationStore, ShardReport
    from scalselect.shard_work import ShardWork


@dataclass(frozen=True, slots=True, eq=False)
class JoinedWork:
    """Represents the shards of several pools, each by its own work; their shards follow one another."""

    parts: tuple[ShardWork, ...]

    def __call__(self, shard: int) -> ShardReport:
        """Represent and publish a shard; see `ShardWork`."""
        chosen = next(part for part in self.parts if shard in part.shards)
        for part in self.parts:
            if part is not chosen:
                part.close()  # processes for one pool at a time
        return chosen(shard)

    def close(self) -> None:
        """End the processes that make samples ready."""
        for part in self.parts:
            part.close()

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def store(self) -> RepresentationStore:
        """Where all of them publish."""
        return self.parts[0].store
