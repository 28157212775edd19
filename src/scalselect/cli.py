"""The command line: parse, call the pipeline, print. Data go to stdout, progress and messages to stderr."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import scalselect
from scalselect.command_options import EXIT_MISUSE, parse_words
from scalselect.config import RunConfig
from scalselect.errors import MisuseError, OptionError, WorkError
from scalselect.printable import printable, printable_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import FrameType

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 130, 143
_NOT_OPTIONS = ("command", "dataset", "model", "output", "config", "json", "run_dir", "new_data")


class _Terminated(BaseException):
    """The process was asked to end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; default: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    namespace = parse_words(words)
    listens = threading.current_thread() is threading.main_thread()  # only there a signal may be handled
    before = signal.signal(signal.SIGTERM, _terminate) if listens else None
    words_of_warning, warnings.formatwarning = warnings.formatwarning, _words_of_warning
    try:
        return _COMMANDS[namespace.command](namespace)
    except MisuseError as error:
        return _fail(str(error), EXIT_MISUSE)
    except WorkError as error:
        return _fail(str(error), EXIT_FAILED)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(
            f"{error.strerror or error}{where}; what was finished is kept, the same command continues", EXIT_FAILED
        )
    except KeyboardInterrupt:
        return _interrupted("interrupted", words, EXIT_INTERRUPTED)
    except _Terminated:
        return _interrupted("terminated", words, EXIT_TERMINATED)
    finally:
        warnings.formatwarning = words_of_warning
        if listens:
            signal.signal(signal.SIGTERM, before)


def _run(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import run_config  # noqa: PLC0415  `--help` needs no numpy
    from scalselect.progress import Stderr  # noqa: PLC0415
    from scalselect.summary import summary_of_run  # noqa: PLC0415

    config = RunConfig.from_options(_options(namespace), namespace.config)
    if config.select is None:
        raise OptionError("a budget is needed: give --budget 16% or a number of rows such as --budget 5000")
    result = run_config(namespace.dataset, config, model=namespace.model, output=namespace.output, progress=Stderr())
    summary = summary_of_run(result)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _represent(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import represent_config  # noqa: PLC0415
    from scalselect.progress import Stderr  # noqa: PLC0415
    from scalselect.summary import summary_of_representing  # noqa: PLC0415

    config = RunConfig.from_options(_options(namespace), namespace.config)
    represented = represent_config(
        namespace.dataset, config, model=namespace.model, output=namespace.output, progress=Stderr()
    )
    summary = summary_of_representing(represented)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _score(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import score  # noqa: PLC0415
    from scalselect.progress import Stderr  # noqa: PLC0415
    from scalselect.summary import summary_of_scores  # noqa: PLC0415

    subspace = score(namespace.run_dir, **_options(namespace), output=namespace.output, progress=Stderr())
    summary = summary_of_scores(namespace.output or namespace.run_dir, subspace)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _select(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import select  # noqa: PLC0415
    from scalselect.progress import Stderr  # noqa: PLC0415
    from scalselect.summary import summary_of_run  # noqa: PLC0415

    result = select(namespace.run_dir, **_options(namespace), dataset=namespace.dataset, progress=Stderr())
    summary = summary_of_run(result)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _compare(namespace: argparse.Namespace) -> int:
    from scalselect.comparison_summary import summary_of_comparison  # noqa: PLC0415  `--help` needs no numpy

    summary = summary_of_comparison(scalselect.compare(namespace.run_a, namespace.run_b))
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _extend(namespace: argparse.Namespace) -> int:
    from scalselect.extending import extend  # noqa: PLC0415
    from scalselect.progress import Stderr  # noqa: PLC0415
    from scalselect.summary import summary_of_extending  # noqa: PLC0415

    extended = extend(
        namespace.run_dir, namespace.new_data, model=namespace.model, **_options(namespace), progress=Stderr()
    )
    summary = summary_of_extending(extended)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _check(namespace: argparse.Namespace) -> int:
    from scalselect.check_summary import JsonReport, text_of_check  # noqa: PLC0415  `--help` needs no numpy
    from scalselect.progress import Stderr  # noqa: PLC0415

    report = JsonReport(_write) if namespace.json else None
    options = {name: value for name, value in _options(namespace).items() if name != "decode"}
    result = scalselect.check(
        namespace.dataset,
        model=namespace.model,
        decode=namespace.decode,
        on_problem=report,
        config_file=namespace.config,
        progress=Stderr("checked"),
        **options,
    )
    if report is None:
        _print(text_of_check(result))
    else:
        report.close(result)
    return EXIT_DONE if result.ok else EXIT_FAILED


def _export(namespace: argparse.Namespace) -> int:
    from scalselect.export_summary import summary_of_export  # noqa: PLC0415  `--help` needs no numpy
    from scalselect.progress import Stderr  # noqa: PLC0415

    exported = scalselect.export(
        namespace.run_dir,
        **_options(namespace),
        output=namespace.output,
        dataset=namespace.dataset,
        progress=Stderr(),
    )
    summary = summary_of_export(exported)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _compose_llava(namespace: argparse.Namespace) -> int:
    from scalselect.summary import summary_of_composing  # noqa: PLC0415  `--help` needs no numpy

    composed = scalselect.compose_llava(
        language_model=namespace.language_model,
        vision_tower=namespace.vision_tower,
        projector=namespace.projector,
        output=namespace.output,
        first_layers=namespace.first_layers,
    )
    summary = summary_of_composing(composed)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


_COMMANDS = {
    "run": _run,
    "represent": _represent,
    "score": _score,
    "select": _select,
    "extend": _extend,
    "check": _check,
    "compare": _compare,
    "export": _export,
    "compose-llava": _compose_llava,
}


def _options(namespace: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(namespace).items() if name not in _NOT_OPTIONS}


def _print(text: str) -> None:
    _write(text + "\n")


def _write(text: str) -> None:
    if sys.stdout is None:  # closed by whoever started this process
        return
    try:
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has read enough
        sys.stdout = None
    except OSError as error:
        raise WorkError(f"the work is done, but the summary cannot be printed: {error.strerror}") from error


def _words_of_warning(message: Warning | str, *_place: object, **_more: object) -> str:
    """Return the line for a warning that a library gives, of the data as well: what it says, not where in its code."""
    return f"warning: {printable_line(str(message))}\n"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(printable(f"error: {message}\n"))
    return code


def _interrupted(how: str, words: list[str], code: int) -> int:
    kept = "what was finished is kept. The same command continues"
    if words[0] in ("compose-llava", "check"):  # the one publishes everything at its end, the other nothing
        kept = "nothing was written. The same command begins anew"
    sys.stderr.write(printable(f"{how}; {kept}:\n  scalselect {shlex.join(words)}\n"))
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())
