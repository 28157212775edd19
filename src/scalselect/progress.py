"""Progress on stderr: a bar where stderr is a terminal, plain lines where it is a file or a pipe."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections import deque
from typing import TYPE_CHECKING, Protocol

from tqdm import tqdm

from scalselect.errors import ScalselectWarning
from scalselect.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0
_TOO_MANY_DIGITS = 100_000  # rows, from which on the bar shows numbers as 12.3M


class Progress(Protocol):
    """What the pipeline tells about its progress."""

    def say(self, line: str) -> None:
        """Tell one sentence."""

    def warn(self, line: str) -> None:
        """Tell something the user should know and may act upon."""

    def start(self, total: int, done: int, skipped: int) -> None:
        """Begin counting rows; `done` of `total` are finished already, `skipped` of them without a score."""

    def row(self, status: str) -> None:
        """Count one finished row."""

    def rows(self, counts: Mapping[str, int]) -> None:
        """Count finished rows, by status: those of a shard that a worker or another process has represented."""

    def workers(self, alive: int, of: int) -> None:
        """Tell how many workers are alive, of how many; not called where there are none beside this process."""

    def stop(self) -> None:
        """End counting rows."""


class Silent:
    """Tells nothing but warnings, by the means of Python: the default of the Python functions."""

    def say(self, line: str) -> None:
        """Tell nothing."""

    def warn(self, line: str) -> None:
        """Issue a ScalselectWarning."""
        warnings.warn(printable_line(line), ScalselectWarning, stacklevel=2)

    def start(self, total: int, done: int, skipped: int) -> None:
        """Tell nothing."""

    def row(self, status: str) -> None:
        """Tell nothing."""

    def rows(self, counts: Mapping[str, int]) -> None:
        """Tell nothing."""

    def workers(self, alive: int, of: int) -> None:
        """Tell nothing."""

    def stop(self) -> None:
        """Tell nothing."""


class Logged(Silent):
    """Tells by the means of `logging`: in one of several processes, of which another one has the terminal."""

    def say(self, line: str) -> None:
        """Log it."""
        _log.info("%s", printable_line(line))

    def warn(self, line: str) -> None:
        """Log it as a warning."""
        _log.warning("%s", printable_line(line))


class Stderr:
    """Rows per second, time left and skipped rows of the whole job on stderr, never on stdout.

    Parameters
    ----------
    done
        What was done to the rows that are counted.
    """

    def __init__(self, done: str = "represented") -> None:
        self._done_word = done
        self._bar: tqdm[None] | None = None
        self._total = self._done = self._skipped = 0
        self._workers: tuple[int, int] | None = None
        self._last = 0.0
        self._speed = _Speed(0.0)

    def say(self, line: str) -> None:
        """Print one line, unless nobody can read it any more: that is no reason to end a run."""
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(printable_line(line), file=sys.stderr)

    def warn(self, line: str) -> None:
        """Print one line."""
        self.say(f"warning: {line}")

    def start(self, total: int, done: int, skipped: int) -> None:
        """Begin counting rows."""
        self._total, self._done, self._skipped = total, done, skipped
        self._last = time.monotonic()
        self._speed = _Speed(self._last)
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=self._bar_words(),
                bar_format="{percentage:3.0f}%|{bar}| {desc}",
                file=sys.stderr,
                miniters=0,  # else a few rows after a burst of them would not show
                dynamic_ncols=True,
                leave=False,
            )

    def row(self, status: str) -> None:
        """Count one finished row."""
        self.rows({status: 1})

    def rows(self, counts: Mapping[str, int]) -> None:
        """Count finished rows, by status."""
        number = sum(counts.values())
        self._done += number
        self._skipped += counts.get("skipped", 0)
        now = time.monotonic()
        self._speed.count(number, now, at_once=max(1, self._workers[0]) if self._workers else 1)
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.set_description_str(self._bar_words(), refresh=False)
                self._bar.update(number)
        elif now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self.say(self._line())

    def workers(self, alive: int, of: int) -> None:
        """Show how many workers are alive, of how many."""
        changed = self._workers != (alive, of)
        self._workers = (alive, of)
        if self._bar is not None and changed:
            with contextlib.suppress(OSError, ValueError):
                self._bar.set_description_str(self._bar_words())

    def stop(self) -> None:
        """End counting rows and print how fast it went."""
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None
        if self._speed.rows:
            self._speed.end(time.monotonic())
            self.say(self._line())
        self._workers = None

    def _line(self) -> str:
        left = self._seconds_left()
        parts = [
            f"{self._done_word} {self._done:,} of {self._total:,} rows",
            f"{self._speed.rate:.1f} rows/s",
            *([] if left is None else [f"{readable_seconds(left)} left"]),
            f"{self._skipped:,} skipped",
            *self._worker_words(),
        ]
        return ", ".join(parts)

    def _bar_words(self) -> str:
        """Return what stands beside the bar, short enough for 80 columns."""
        exact = self._total < _TOO_MANY_DIGITS

        def number(count: float) -> str:
            return f"{count:,}" if exact or count < 1000 else str(tqdm.format_sizeof(count))  # noqa: PLR2004

        left = self._seconds_left()
        rate = self._speed.rate
        parts = [
            f"{number(self._done)}/{number(self._total)}",
            *([f"{number(round(rate, 1))} rows/s"] if self._speed.rows else []),
            *([] if left is None else [f"{tqdm.format_interval(left)} left"]),
            f"{number(self._skipped)} skipped",
            *self._worker_words(),
        ]
        return ", ".join(parts)

    def _worker_words(self) -> list[str]:
        return [] if self._workers is None else [f"{self._workers[0]} of {self._workers[1]} workers"]

    def _seconds_left(self) -> float | None:
        if self._done >= self._total or not self._speed.is_known:
            return None
        return (self._total - self._done) / self._speed.rate


class _Speed:
    """Rows a second since the counting began: the average, which bursts do not move much once there were several.

    Workers hand in whole shards, often all at about the same time. When the first of them arrives, what the others have
    as good as finished is not counted yet, and the average is at its lowest. So the best average counts among those at
    the last arrivals, of which there are as many as workers.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._averages: deque[float] = deque()
        self._at_once = 1
        self.rows = 0

    def count(self, rows: int, now: float, at_once: int) -> None:
        """Count rows that arrived together, from one of so many that work at once."""
        self.rows += rows
        self._at_once = at_once
        self._averages.append(self._average(now))
        while len(self._averages) > at_once:
            self._averages.popleft()

    def end(self, now: float) -> None:
        """Nothing is under way any more: the average alone counts."""
        self._at_once = 1
        self._averages.clear()
        self._averages.append(self._average(now))

    @property
    def is_known(self) -> bool:
        """Whether as many were counted as work at once; before, most of their first shards are missing."""
        return self.rows > 0 and len(self._averages) >= self._at_once

    @property
    def rate(self) -> float:
        """Rows a second."""
        return max(self._averages, default=0.0)

    def _average(self, now: float) -> float:
        return self.rows / max(now - self._began, 1e-9)


def readable_seconds(seconds: float) -> str:
    """Return a duration as a person says it: `8 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:  # noqa: PLR2004  below that, minutes are too coarse
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004


def on_wait(progress: Progress) -> Callable[[str], None]:
    """Return what tells that somebody else, named to it, holds the claim of a run folder."""
    return lambda holder: progress.say(f"waiting: {holder or 'another process'} is scoring or selecting in this folder")


def say_removed(progress: Progress, *, here: int, temporary: int) -> None:
    """Tell how many things that killed processes had left were removed, in the run folder and below `TMPDIR`."""
    for number, place in ((here, "the run folder"), (temporary, "the folder for temporary files")):
        if number:
            progress.say(f"removed from {place} what killed processes had left: {number:,}")
