"""The command as a process, also ``python -m scalselect``: signals are heeded before anything slow is imported."""

from __future__ import annotations

import sys
from typing import NoReturn

from scalselect.ending import quit_at_signals, signals_end_the_work


def start() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    code = _code()
    quit_at_signals()
    sys.exit(code)


def _code() -> int:
    with signals_end_the_work() as ending:
        try:
            from scalselect.cli import run_process  # noqa: PLC0415  it takes longer than an impatient hand

            return run_process(ending)
        except BaseException:
            if ending.number is None:
                raise
        from scalselect.command_failures import say, told_of_ending  # noqa: PLC0415

        say(told_of_ending(ending.word, sys.argv[1:]))
        return ending.code


if __name__ == "__main__":
    start()
