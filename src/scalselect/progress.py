"""Progress on stderr: a bar where stderr is a terminal, plain lines where it is a file or a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from typing import TYPE_CHECKING, Protocol

from tqdm import tqdm

from scalselect.errors import ScalselectWarning
from scalselect.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 10.0


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

    def stop(self) -> None:
        """Tell nothing."""


class Stderr:
    """Rows per second, time left and skipped rows on stderr, never on stdout.

    Parameters
    ----------
    done
        What was done to the rows that are counted.
    """

    def __init__(self, done: str = "represented") -> None:
        self._done_word = done
        self._bar: tqdm[None] | None = None
        self._total = self._done = self._here = self._skipped = 0
        self._began = self._last = 0.0

    def say(self, line: str) -> None:
        """Print one line, unless nobody can read it any more: that is no reason to end a run."""
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(printable_line(line), file=sys.stderr)

    def warn(self, line: str) -> None:
        """Print one line."""
        self.say(f"warning: {line}")

    def start(self, total: int, done: int, skipped: int) -> None:
        """Begin counting rows."""
        self._total, self._done, self._here, self._skipped = total, done, 0, skipped
        self._began = self._last = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="row", file=sys.stderr, dynamic_ncols=True, leave=False)

    def row(self, status: str) -> None:
        """Count one finished row."""
        self._done += 1
        self._here += 1
        self._skipped += status == "skipped"
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.update()
                if status == "skipped":
                    self._bar.set_postfix_str(f"skipped {self._skipped}")
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.say(self._line())

    def stop(self) -> None:
        """End counting rows and print how fast it went."""
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None
        if self._here:
            self.say(self._line())

    def _line(self) -> str:
        rate = self._here / max(time.monotonic() - self._began, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        ahead = f", {readable_seconds(left)} left" if self._done < self._total else ""
        done = f"{self._done_word} {self._done:,} of {self._total:,} rows"
        return f"{done}, {rate:.1f} rows/s{ahead}, {self._skipped:,} skipped"


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
