"""The command line: parse, call the pipeline, print. Data go to stdout, progress and messages to stderr."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

import scalselect
from scalselect.config import DEFAULT_MAX_SKIPPED, RepresentConfig, RunConfig, ScoreConfig, SelectConfig
from scalselect.errors import MisuseError, OptionError, WorkError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

EXIT_DONE, EXIT_FAILED, EXIT_MISUSE, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143
_NOT_OPTIONS = ("command", "dataset", "model", "output", "config", "json", "run_dir")


class _Terminated(BaseException):
    """The process was asked to end."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that knows near names and leaves no half-matched option through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ").split(" ", 1)[0].split("=", 1)[0]
        near = did_you_mean(unknown, known) if message.startswith("unrecognized") else ""
        self.exit(EXIT_MISUSE, f"error: {message}{near}\nsee `{self.prog} --help`\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; default: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    namespace = _parse(words)
    listens = threading.current_thread() is threading.main_thread()  # only there a signal may be handled
    before = signal.signal(signal.SIGTERM, _terminate) if listens else None
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
        if listens:
            signal.signal(signal.SIGTERM, before)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = _parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
    command = subparsers.choices.get(words[0]) if words else None
    if command is not None:
        # Before argparse complains that a required option is missing, which may just have been misspelled.
        known = {option for action in command._actions for option in action.option_strings}  # noqa: SLF001
        for word in words[1:]:
            if word.startswith("--") and word.split("=", 1)[0] not in known:
                command.error(f"unrecognized arguments: {word}")
    return parser.parse_args(words)


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

    subspace = score(namespace.run_dir, **_options(namespace), progress=Stderr())
    summary = summary_of_scores(namespace.run_dir, subspace)
    _print(summary.as_json() if namespace.json else summary.as_text())
    return EXIT_DONE


def _select(namespace: argparse.Namespace) -> int:
    from scalselect.pipeline import select  # noqa: PLC0415
    from scalselect.progress import Stderr  # noqa: PLC0415
    from scalselect.summary import summary_of_run  # noqa: PLC0415

    result = select(namespace.run_dir, budget=namespace.budget, dataset=namespace.dataset, progress=Stderr())
    summary = summary_of_run(result)
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
    "compose-llava": _compose_llava,
}


def _parser() -> _Parser:
    parser = _Parser(
        prog="scalselect",
        description="Choose, without training, the part of a visual-instruction pool worth fine-tuning a "
        "vision-language model on.",
    )
    parser.add_argument("--version", action="version", version=f"scalselect {scalselect.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    run = commands.add_parser("run", help="represent, score and select: everything", description=_run_words())
    represent = commands.add_parser("represent", help="stage 1 alone: one vector a sample (needs the model)")
    for command in (run, represent):
        command.add_argument("dataset", metavar="DATASET", help="JSON or JSONL file of LLaVA or messages records")
        command.add_argument("--model", required=True, help="folder or hub name of the model to be fine-tuned")
        command.add_argument("--output", required=True, metavar="RUN_DIR", help="the run folder")
        command.add_argument("--config", metavar="FILE.toml", help="options from a file; those given here win")
        _add_options(command, RepresentConfig)
        _add_max_skipped(command)
    _add_options(run, ScoreConfig)
    _add_options(run, SelectConfig)
    score = commands.add_parser("score", help="stage 2 alone: leverage scores of a run folder (no model)")
    _add_options(score, ScoreConfig, default="the run's own, else 0.9")
    select = commands.add_parser("select", help="stage 3 alone: choose rows of a scored run folder (no model)")
    _add_options(select, SelectConfig, required=True)
    select.add_argument("--dataset", metavar="DATASET", help="the data file of the run, where it has moved")
    for command in (score, select):
        command.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    compose = commands.add_parser(
        "compose-llava",
        help="make one LLaVA checkpoint of Vicuna, CLIP and a projector",
        description="Make a LLaVA-1.5 checkpoint in the Hugging Face layout of a Vicuna (Llama) checkpoint, a CLIP "
        "vision tower and LLaVA's mm_projector.bin: the model before instruction tuning, which no hub has as one.",
    )
    _add_parts(compose)
    for command in (run, represent, score, select, compose):
        command.add_argument("--json", action="store_true", help="print the summary as JSON")
        command.add_argument("--version", action="version", version=f"scalselect {scalselect.__version__}")
    return parser


def _run_words() -> str:
    return (
        "Represent every sample with the target model's first decoder layer, score the samples by leverage, and write "
        "the chosen records. An interrupted run continues where it stopped; a finished one does nothing."
    )


def _add_options(
    parser: argparse.ArgumentParser, group: type, *, required: bool = False, default: str | None = None
) -> None:
    """Add one option for every field of a configuration group: names, defaults and help are written there."""
    for item in fields(group):
        facts = item.metadata
        kind = facts.get("kind", str)
        told = default or (None if group is SelectConfig else item.default)
        parser.add_argument(
            *(f"--{name}" for name in (item.name.replace("_", "-"), *facts.get("aliases", ()))),
            dest=item.name,
            default=argparse.SUPPRESS,
            required=required,
            choices=facts.get("choices"),
            type=_number_or_auto(item.name, kind) if kind is not str else str,
            metavar=None if facts.get("choices") else facts.get("metavar") or _metavar(kind, item.default),
            help=(facts["help"] if told is None else f"{facts['help']} (default: {told})").replace("%", "%%"),
        )


def _add_max_skipped(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-skipped",
        default=argparse.SUPPRESS,
        metavar="PERCENT",
        help=f"stop when more rows than this are skipped (default: {DEFAULT_MAX_SKIPPED}%%)",
    )


def _add_parts(parser: argparse.ArgumentParser) -> None:
    for name, metavar, text in (
        ("--language-model", "DIR", "folder of a Llama checkpoint with its tokenizer, such as Vicuna"),
        ("--vision-tower", "DIR", "folder of a CLIP model with its preprocessor_config.json"),
        ("--projector", "FILE", "LLaVA's mm_projector.bin, or its tensors as .safetensors"),
        ("--output", "DIR", "folder to write; must not exist, or be empty"),
    ):
        parser.add_argument(name, required=True, metavar=metavar, help=text)
    parser.add_argument(
        "--first-layers",
        type=_number_or_auto("first_layers", int),
        metavar="N",
        help="decoder layers to keep, from the first (default: all); 1 is enough for `scalselect run`",
    )


def _metavar(kind: type, default: object) -> str:
    word = "N" if kind is int else "X"
    return f"auto|{word}" if default == "auto" else word


def _number_or_auto(name: str, kind: type) -> Any:
    def convert(word: str) -> Any:
        if word == "auto":
            return word
        try:
            return kind(word)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{name.replace('_', '-')} must be {wanted}: {word!r}") from None

    return convert


def _options(namespace: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(namespace).items() if name not in _NOT_OPTIONS}


def _print(text: str) -> None:
    if sys.stdout is None:  # closed by whoever started this process
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has read enough
        sys.stdout = None
    except OSError as error:
        raise WorkError(f"the work is done, but the summary cannot be printed: {error.strerror}") from error


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def _interrupted(how: str, words: list[str], code: int) -> int:
    kept = "what was finished is kept. The same command continues"
    if words[0] == "compose-llava":  # it publishes everything at its end
        kept = "nothing was written. The same command begins anew"
    sys.stderr.write(f"{how}; {kept}:\n  scalselect {shlex.join(words)}\n")
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())
