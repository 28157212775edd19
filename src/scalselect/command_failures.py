"""What the command says of what it could not do, and the exit codes. Never a traceback: that goes into a file."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
import traceback
import warnings
from typing import TYPE_CHECKING

from scalselect.command_options import EXIT_MISUSE
from scalselect.errors import MisuseError, ScalselectError
from scalselect.failures import advice_for, is_lasting, machine_failure, told_of
from scalselect.printable import printable, printable_line

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_FAILED = 1
_WRITES_AT_ITS_END = {"compose-llava", "check"}  # the one publishes everything there, the other nothing


def say(text: str) -> None:
    """Print a text on stderr, as far as that takes any."""
    if sys.stderr is None:  # closed by whoever started this process
        return
    with contextlib.suppress(OSError, ValueError):  # its terminal is closed, its disk is full
        sys.stderr.write(printable(text))
        sys.stderr.flush()


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Let warnings of libraries, which may tell of the data, be one line each: what they say, not where in the code."""
    before, warnings.formatwarning = warnings.formatwarning, _words_of_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


def _words_of_warning(message: Warning | str, *_place: object, **_more: object) -> str:
    return f"warning: {printable_line(str(message))}\n"


def told_and_code(error: Exception, words: list[str]) -> tuple[str, int]:
    """Return what to say of an exception that ended a command, and the exit code.

    Parameters
    ----------
    words
        The words of the command line.
    """
    failure = machine_failure(error)
    if isinstance(error, ScalselectError):
        message = str(error)
        if failure is None or is_lasting(failure):
            return f"error: {message}\n", EXIT_MISUSE if isinstance(error, MisuseError) else EXIT_FAILED
        # What the machine lacks says nothing of the data file or the option that was looked at.
        return f"error: {message}\n{_sentence(failure, words)}", EXIT_FAILED
    if failure is None and isinstance(error, OSError):
        failure = error
    if failure is not None:
        return f"error: {_sentence(failure, words)}", EXIT_FAILED
    what = f"unexpected {type(error).__name__}: {_short(error)}; this is a fault of scalselect"
    return f"error: {what}. {_trace(error)}; {_kept(words)}\n", EXIT_FAILED


def _sentence(failure: OSError | MemoryError, words: list[str]) -> str:
    return "; ".join(part for part in (told_of(failure), advice_for(failure), _kept(words)) if part) + "\n"


def told_of_ending(how: str, words: list[str]) -> str:
    """Return what to say when a signal ended a command: how to go on."""
    whole, _, again = _kept(words).partition(", ")
    return printable(f"{how}; {whole}. {again[0].upper()}{again[1:]}:\n  scalselect {shlex.join(words)}\n")


def _kept(words: list[str]) -> str:
    if words[:1] and words[0] in _WRITES_AT_ITS_END:
        return "nothing was written, the same command begins anew"
    return "what was finished is kept, the same command continues"


def _trace(error: Exception) -> str:
    """Keep the traceback in a file and return where; in words where it cannot be kept."""
    lines = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="scalselect-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(lines)
    except OSError:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"It came from {last.filename}, line {last.lineno}"
    return f"What a report of it needs is in {name}"


def _short(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or "no further words"
