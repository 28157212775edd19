"""A window of prepared samples, represented together: batches of like length, what samples share computed once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scalselect.vlm.batches import can_be_stacked, plan_batches
from scalselect.vlm.device_memory import launch_within_memory
from scalselect.vlm.representation import launch_after_prefixes, launch_batch
from scalselect.vlm.shared_prefixes import leaders_of, prefix_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.vlm.attention_capture import Prefix
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint
    from scalselect.vlm.image_reuse import ImageFeatureCache
    from scalselect.vlm.representation import LaunchedBatch, Pooling, SampleRepresentation


@dataclass(slots=True, eq=False, kw_only=True)
class WindowPass:
    """Represents windows of samples, one after the other.

    Attributes
    ----------
    max_rows, max_tokens
        Limits of a batch, as in `plan_batches`.
    cache
        Features of images seen before; None pushes every image through the tower.
    share_prefixes
        Whether samples that begin alike are run from where they part.
    skip_oom
        Whether a sample that alone does not fit into the memory is left out.
    split_batches
        How often a batch did not fit into the memory and was halved.
    prefixes_reused
        How many samples went on from the prefix of another one.
    """

    checkpoint: Checkpoint
    pooling: Pooling
    max_rows: int | None
    max_tokens: int
    cache: ImageFeatureCache | None
    share_prefixes: bool
    skip_oom: bool = False
    split_batches: int = 0
    prefixes_reused: int = 0
    _prefixes: dict[int, Prefix] = field(default_factory=dict)

    def represent(self, samples: Sequence[PreparedSample]) -> Iterator[tuple[int, SampleRepresentation | None]]:
        """Yield the place of each sample in the window and its representation, in the order of computing.

        None stands for a sample that alone does not fit into the memory, where such are left out.

        Raises
        ------
        ShardError
            If a single sample does not fit into the memory.
        """
        on_their_way: deque[tuple[list[int], LaunchedBatch | None]] = deque()
        for launched in self._launched(samples):
            on_their_way.append(launched)
            if len(on_their_way) > 1:  # the one before, while the device works on this one
                yield from _collected(*on_their_way.popleft())
        for launched in on_their_way:
            yield from _collected(*launched)

    def _launched(self, samples: Sequence[PreparedSample]) -> Iterator[tuple[list[int], LaunchedBatch | None]]:
        self._prefixes.clear()
        leaders = leaders_of(samples) if self.share_prefixes else {}
        wanted = set(leaders.values())
        alone = [place for place in range(len(samples)) if place not in leaders]
        for places in self._batches([samples[place].length for place in alone], alone):
            yield from self._whole(samples, places, wanted)
        followers = [place for place, leader in leaders.items() if leader in self._prefixes]
        self.prefixes_reused += len(followers)
        # A suffix takes its prefix along into the attention, but not through the rest of the layer.
        lengths = [max(1, samples[place].length - prefix_length(samples[place])) for place in followers]
        for places in self._batches(lengths, followers):
            yield from self._behind(samples, places, leaders)
        left = [place for place, leader in leaders.items() if leader not in self._prefixes]
        for places in self._batches([samples[place].length for place in left], left):
            yield from self._whole(samples, places, set())
        self._prefixes.clear()

    def _batches(self, lengths: Sequence[int], places: Sequence[int]) -> Iterator[list[int]]:
        for batch in plan_batches(lengths, max_rows=self.max_rows, max_tokens=self.max_tokens):
            yield [places[i] for i in batch]

    def _whole(
        self, samples: Sequence[PreparedSample], places: list[int], wanted: set[int]
    ) -> Iterator[tuple[list[int], LaunchedBatch | None]]:
        def launch(some: Sequence[int]) -> LaunchedBatch:
            lengths = [prefix_length(samples[place]) if place in wanted else 0 for place in some]
            chosen = [samples[place] for place in some]
            return launch_batch(self.checkpoint, chosen, self.pooling, cache=self.cache, prefix_lengths=lengths)

        stacked = self.checkpoint.batches and can_be_stacked([samples[place] for place in places])
        for some in [places] if stacked else [[place] for place in places]:
            for group, batch in self._within_memory(launch, samples, some):
                found = zip(group, batch.prefixes, strict=True) if batch is not None else ()
                self._prefixes |= {place: prefix for place, prefix in found if prefix is not None}
                yield group, batch

    def _behind(
        self, samples: Sequence[PreparedSample], places: list[int], leaders: dict[int, int]
    ) -> Iterator[tuple[list[int], LaunchedBatch | None]]:
        def launch(some: Sequence[int]) -> LaunchedBatch:
            prefixes = [self._prefixes[leaders[place]] for place in some]
            return launch_after_prefixes(self.checkpoint, [samples[place] for place in some], prefixes, self.pooling)

        yield from self._within_memory(launch, samples, places)

    def _within_memory(
        self, launch: Callable[[Sequence[int]], LaunchedBatch], samples: Sequence[PreparedSample], places: list[int]
    ) -> Iterator[tuple[list[int], LaunchedBatch | None]]:
        batches, splits = launch_within_memory(launch, samples, places, self.checkpoint.device, skip_oom=self.skip_oom)
        self.split_batches += splits
        for some, batch in batches:
            yield list(some), batch


def _collected(places: list[int], batch: LaunchedBatch | None) -> Iterator[tuple[int, SampleRepresentation | None]]:
    return zip(places, [None] * len(places) if batch is None else batch.collect(), strict=True)
