"""Tasks shared among processes by claims: each takes what nobody is at, and waits at the end for what others are at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.claims import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from scalselect.claims import Claims


def claimed_tasks(
    tasks: Iterable[int], is_done: Callable[[int], bool], claims: Claims, name: Callable[[int], str]
) -> Generator[int]:
    """Yield the tasks that nobody has done, each claimed until the next one is asked for; end when all are done.

    One that another process is at is put off until all others are done, and then waited for: until it is done, or that
    process is dead or has given it up.

    Parameters
    ----------
    name
        Returns what the claim of a task is called.

    Raises
    ------
    OSError
        See `scalselect.claims.Claims.take`.
    """
    left = tasks
    while True:
        put_off, moved = [], False
        for task in left:
            if is_done(task):
                moved = True
                continue
            claim = claims.take(name(task))
            if not isinstance(claim, Claim):
                put_off.append(task)
                continue
            moved = True
            with claim:
                yield task
        if not put_off:
            return
        if not moved:
            claims.pause()
        left = put_off
