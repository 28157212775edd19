"""The words of the command line: commands, their options, and what to say to words that are none."""

from __future__ import annotations

import argparse
import sys
import textwrap
from dataclasses import MISSING, fields
from typing import Any, NoReturn, get_args

import scalselect
from scalselect.config import DEFAULT_MAX_SKIPPED, OF_NEW_DATA, RepresentConfig, ScoreConfig, SelectConfig
from scalselect.engine_options import EngineConfig
from scalselect.errors import did_you_mean
from scalselect.printable import printable
from scalselect.records import ExportForm

EXIT_MISUSE = 2
_OF_CHECK = (
    "format",
    "dataset_info",
    "images",
    "allow_remote_images",
    "confine_images",
    "limit",
    "like",
    "exif",
    "alpha",
    "image_resize",
    "image_min_pixels",
    "image_max_pixels",
    "decode_max_pixels",
    "image_fit",
    "image_position",
    "max_length",
    "chat_template",
    "instruction_tokens",
    "revision",
    "trust_remote_code",
    "dataloader_workers",
    "sample_seconds",
)
_WIDTH = 80
_DATASET_HELP = "data file or folder; several follow one another. Each may be name=path,images=DIR,format=FORMAT"


class _Parser(argparse.ArgumentParser):
    """An argument parser that knows near names and leaves no half-matched option through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message), file)

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ").split(" ", 1)[0].split("=", 1)[0]
        near = did_you_mean(unknown, known) if message.startswith("unrecognized") else ""
        self.exit(EXIT_MISUSE, f"error: {message}{near}\nsee `{self.prog} --help`\n")


def parse_words(words: list[str]) -> argparse.Namespace:
    """Return the command and options meant by the words of a command line; ends the process with 2 at misuse."""
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
    command = subparsers.choices.get(words[0]) if words else None
    if command is not None:
        # Before argparse complains that a required option is missing, which may just have been misspelled.
        known = {option for action in command._actions for option in action.option_strings}  # noqa: SLF001
        for word in words[1:]:
            if word.startswith("--") and word.split("=", 1)[0] not in known:
                command.error(f"unrecognized arguments: {word}")
    return parser.parse_args(words)


def build_parser() -> _Parser:  # noqa: PLR0915  one statement for each word of each command
    """Return the parser of all commands."""
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
        command.add_argument("dataset", metavar="DATASET", nargs="+", help=_DATASET_HELP)
        command.add_argument("--model", required=True, help="folder or hub name of the model to be fine-tuned")
        command.add_argument("--output", required=True, metavar="RUN_DIR", help="the run folder")
        command.add_argument("--config", metavar="FILE.toml", help="options from a file; those given here win")
        _add_options(command, RepresentConfig, without=() if command is run else ("explanations",))
        _add_options(command, EngineConfig)
        _add_max_skipped(command)
    _add_options(run, ScoreConfig)
    _add_options(run, SelectConfig)
    score = commands.add_parser("score", help="stage 2 alone: leverage scores of a run folder (no model)")
    _add_options(score, ScoreConfig, before="the run's own, else ")
    _add_options(score, EngineConfig, without=("devices",))
    select = commands.add_parser("select", help="stage 3 alone: choose rows of a scored run folder (no model)")
    _add_options(select, SelectConfig)
    select.add_argument(
        "--list-strategies",
        action=_ListStrategies,
        nargs=0,
        default=argparse.SUPPRESS,
        help="print the strategies with their definitions",
    )
    select.add_argument(
        "--dataset", metavar="DATASET", nargs="+", help="data of the run, where they have moved; of several any of them"
    )
    score.add_argument("run_dir", metavar="RUN_DIR", nargs="?", help="the run folder")
    score.add_argument(
        "--representations", metavar="FILE", help="vectors made elsewhere, one a row: .npy, .parquet or .safetensors"
    )
    score.add_argument("--output", metavar="RUN_DIR", help="the run folder to make of --representations")
    select.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    extend = commands.add_parser("extend", help="add data files to a run: only their rows go through the model")
    extend.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    extend.add_argument(
        "new_data", metavar="NEW_DATA", nargs="+", help="new data; each may be name=path,images=DIR,format=FORMAT"
    )
    extend.add_argument("--model", help="folder or hub name of the run's model (default: the one it began with)")
    _add_options(extend, RepresentConfig, only=OF_NEW_DATA)
    _add_options(extend, EngineConfig)
    _add_max_skipped(extend)
    check = commands.add_parser("check", help="read everything and list every problem; selects nothing")
    check.add_argument("dataset", metavar="DATASET", nargs="+", help=_DATASET_HELP)
    check.add_argument("--model", help="also make samples ready for this model, which is not run")
    check.add_argument("--config", metavar="FILE.toml", help="options from a file; those given here win")
    check.add_argument(
        "--decode",
        choices=("on", "off"),
        default="on",
        help="whether every image is decoded; off: only whether the files are there (default: on)",
    )
    _add_options(check, RepresentConfig, only=_OF_CHECK)
    compare = commands.add_parser("compare", help="two runs of the same data, side by side (no model)")
    compare.add_argument("run_a", metavar="RUN_A", help="a scored run folder")
    compare.add_argument("run_b", metavar="RUN_B", help="another one, of the same data")
    compose = commands.add_parser(
        "compose-llava",
        help="make one LLaVA checkpoint of Vicuna, CLIP and a projector",
        description="Make a LLaVA-1.5 checkpoint in the Hugging Face layout of a Vicuna (Llama) checkpoint, a CLIP "
        "vision tower and LLaVA's mm_projector.bin: the model before instruction tuning, which no hub has as one.",
    )
    _add_parts(compose)
    export = commands.add_parser("export", help="the chosen rows in the form that a trainer wants (no model)")
    _add_exports(export)
    report = commands.add_parser("report", help="one HTML file that shows a run, or two side by side (no model)")
    report.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    report.add_argument("other", metavar="RUN_DIR", nargs="?", help="a second run of the same data, to compare with")
    report.add_argument("--dataset", metavar="DATASET", nargs="+", help="data of the run, where they have moved")
    report.add_argument(
        "--output",
        metavar="FILE",
        help="file to write (default: RUN_DIR/report.html; of two runs report_with_NAME.html in the first)",
    )
    for command in (run, represent, score, select, extend, check, compare, export, report, compose):
        command.add_argument("--json", action="store_true", help="print the summary as JSON")
        command.add_argument("--version", action="version", version=f"scalselect {scalselect.__version__}")
    return parser


def _run_words() -> str:
    return (
        "Represent every sample with the target model's first decoder layer, score the samples by leverage, and write "
        "the chosen records. An interrupted run continues where it stopped; a finished one changes nothing."
    )


class _ListStrategies(argparse.Action):
    """Prints the strategies and ends, whatever else is missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        sys.stdout.write(_words_of_strategies() + "\n")
        parser.exit()


def _words_of_strategies() -> str:
    """Return the strategies with their definitions, wrapped at 80 columns."""
    from scalselect.selection.strategies import STRATEGIES  # noqa: PLC0415  `--help` needs no numpy

    paragraphs = []
    for strategy in STRATEGIES.values():
        needs = " Needs --vectors vision+instruction." if "instruction" in strategy.needs else ""
        default = " (default)" if strategy is next(iter(STRATEGIES.values())) else ""
        text = textwrap.fill(strategy.definition + needs, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        paragraphs.append(f"{strategy.name}{default}\n{text}")
    return "\n".join(paragraphs)


def _add_options(
    parser: argparse.ArgumentParser,
    group: type,
    *,
    before: str = "",
    only: tuple[str, ...] | None = None,
    without: tuple[str, ...] = (),
) -> None:
    """Add one option for every field of a configuration group: names, defaults and help are written there."""
    for item in fields(group):
        if item.name in without or (only is not None and item.name not in only):
            continue
        facts = item.metadata
        kind = facts.get("kind", str)
        if kind is bool:
            flag = f"--{item.name.replace('_', '-')}"
            parser.add_argument(
                flag,
                dest=item.name,
                default=argparse.SUPPRESS,
                action="store_true" if item.default is False else argparse.BooleanOptionalAction,
                help=facts["help"] + (" (default: off)" if item.default is False else ""),
            )
            continue
        needed = item.default is MISSING
        given = None if needed else item.default
        told = f"{before}{'none' if given is None else given}" if before or given is not None else None
        parser.add_argument(
            *(f"--{name}" for name in (item.name.replace("_", "-"), *facts.get("aliases", ()))),
            dest=item.name,
            default=argparse.SUPPRESS,
            required=needed and group is SelectConfig and parser.prog.endswith("select"),
            choices=facts.get("choices"),
            type=_number_or_auto(item.name, kind) if kind in (int, float) else str,
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


def _add_exports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    parser.add_argument(
        "--to",
        required=True,
        choices=get_args(ExportForm),
        help="trl: Parquet with content blocks; messages: JSON Lines for LLaMA-Factory and ms-swift; llava: a JSON "
        "array; source: the records as they were, but for ids or paths",
    )
    parser.add_argument("--output", metavar="FILE", help="file to write (default: one in RUN_DIR/exported)")
    parser.add_argument(
        "--budget",
        default=argparse.SUPPRESS,
        metavar="16%|N",
        help="which subset, where several budgets were asked for (default: the first)".replace("%", "%%"),
    )
    for name, text in (
        ("embed-images", "with trl: copy images into the file (default: their paths)"),
        ("absolute-paths", "with source: make image paths absolute"),
        ("ids-as-strings", "with source: make every id a string"),
    ):
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, action="store_true", help=text)
    parser.add_argument("--dataset", metavar="DATASET", help="the data file of the run, where it has moved")


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
