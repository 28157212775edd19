"""The command line: parse, call the pipeline, print. Data go to stdout, progress and messages to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import scalselect
from scalselect.command_failures import EXIT_FAILED, say, told_and_code, told_of_ending, warnings_as_lines
from scalselect.command_options import parse_words
from scalselect.config import RunConfig
from scalselect.ending import signals_end_the_work
from scalselect.engines.torchrun_engine import rank_of_environment
from scalselect.errors import OptionError, WorkError
from scalselect.printable import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from scalselect.ending import Ending
    from scalselect.progress import Progress

EXIT_DONE = 0
_NOT_OPTIONS = ("command", "dataset", "model", "output", "config", "json", "run_dir", "new_data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; default: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with signals_end_the_work() as ending:
        return run_words(words, ending)


def run_words(words: list[str], ending: Ending) -> int:
    """Run the command that some words mean and return its exit code; what `ending` was told of ends it."""
    ending.say = lambda word: told_of_ending(word, words)
    try:
        namespace = parse_words(words)
        with warnings_as_lines():
            return _COMMANDS[namespace.command](namespace)
    except Exception as error:  # noqa: BLE001  no traceback for what a user can mend, and for the rest a file
        text, code = told_and_code(error, words) if ending.number is None else ("", 0)
    except KeyboardInterrupt:
        text, code = "", 0
    if not text:  # whatever a library made of the signal
        text, code = told_of_ending(ending.word, words), ending.code
    say(text)
    return code


def run_process(ending: Ending) -> int:
    """Run the command line of this process and return its exit code, also where the parser would exit by itself."""
    try:
        code = run_words(sys.argv[1:], ending)
    except SystemExit as exited:
        code = int(exited.code or 0)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:  # of the text of `--help`
        sys.stdout = None
        if not isinstance(error, BrokenPipeError):
            say(f"error: nothing can be printed: {error.strerror}\n")
            code = EXIT_FAILED
    return code


def _run(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import run_config  # noqa: PLC0415  `--help` needs no numpy
    from scalselect.summary import summary_of_run  # noqa: PLC0415

    config = RunConfig.from_options(_options(namespace), namespace.config)
    if config.select is None:
        raise OptionError("a budget is needed: give --budget 16% or a number of rows such as --budget 5000")
    result = run_config(namespace.dataset, config, model=namespace.model, output=namespace.output, progress=_progress())
    summary = summary_of_run(result)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _represent(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import represent_config  # noqa: PLC0415
    from scalselect.summary import summary_of_representing  # noqa: PLC0415

    config = RunConfig.from_options(_options(namespace), namespace.config)
    represented = represent_config(
        namespace.dataset, config, model=namespace.model, output=namespace.output, progress=_progress()
    )
    summary = summary_of_representing(represented)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _score(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import score  # noqa: PLC0415
    from scalselect.summary import summary_of_scores  # noqa: PLC0415

    subspace = score(namespace.run_dir, **_options(namespace), output=namespace.output, progress=_progress())
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
    from scalselect.summary import summary_of_extending  # noqa: PLC0415

    extended = extend(
        namespace.run_dir, namespace.new_data, model=namespace.model, **_options(namespace), progress=_progress()
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


def _report(namespace: argparse.Namespace) -> int:
    from scalselect.progress import Stderr  # noqa: PLC0415  `--help` needs no numpy
    from scalselect.summary import summary_of_report  # noqa: PLC0415

    path = scalselect.report(
        namespace.run_dir, namespace.other, dataset=namespace.dataset, output=namespace.output, progress=Stderr()
    )
    summary = summary_of_report(path)
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
    "report": _report,
    "compose-llava": _compose_llava,
}


def _options(namespace: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(namespace).items() if name not in _NOT_OPTIONS}


def _progress() -> Progress:
    """Return what tells of progress: of several processes of a launcher one tells of all."""
    from scalselect.progress import Logged, Stderr  # noqa: PLC0415  `--help` needs no numpy

    return Stderr() if _speaks() else Logged()


def _speaks() -> bool:
    rank = rank_of_environment()
    return rank is None or rank.number == 0


def _print(text: str) -> None:
    if _speaks():
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
        sys.stdout = None  # else what it could not take is tried once more at exit
        raise WorkError(f"the work is done, but the summary cannot be printed: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
