"""Share the missing shards among the processes of a run: each takes what nobody is at, and waits at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.claims import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from scalselect.claims import Claims
    from scalselect.process_mark import ProcessMark
    from scalselect.representation_store import RepresentationStore


def shared_shards(
    shards: Iterable[int], store: RepresentationStore, claims: Claims, say: Callable[[str], None]
) -> Generator[int]:
    """Yield shards, each claimed until the next one is asked for, or published by somebody else.

    One that another process is at is put off until all others are done, and then waited for: until it is published,
    or that process is dead or has failed at it. Should a claim be lost all the same, a shard is represented twice, with
    the same result: publishing it does no harm.

    Parameters
    ----------
    say
        Is told for whom is waited, shard by shard.

    Raises
    ------
    OSError
        See `scalselect.claims.Claims.take`.
    """
    postponed: dict[int, ProcessMark | None] = dict.fromkeys(shards)
    waits = False
    while postponed:
        before = len(postponed)
        for shard in tuple(postponed):
            if store.is_published(shard):
                del postponed[shard]
                yield shard
                continue
            claim = claims.take(f"shard-{shard:07d}")
            if isinstance(claim, Claim):
                del postponed[shard]
                with claim:
                    yield shard
                continue
            if waits and claim != postponed[shard]:
                say(f"waiting: shard {shard} is being represented by {claim.words}")
                postponed[shard] = claim
        if waits and len(postponed) == before:
            claims.pause()
        waits = True
