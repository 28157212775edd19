"""What a check found: a table for people at 80 columns, and JSON for scripts, every problem as it comes."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from scalselect.dataset.trainer_rules import counted
from scalselect.progress import readable_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalselect.checking import CheckResult
    from scalselect.dataset.validation import Problem

_WIDTH, _LABEL = 80, 11
_SHOWN = 5
_LONGEST_ID = 24
_LONGEST_DETAIL = 4  # lines
_DISK_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class JsonReport:
    """Writes one JSON object while the check goes on: first the list `problems`, then everything else.

    Parameters
    ----------
    write
        Takes each piece of text.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._count = 0

    def __call__(self, problem: Problem) -> None:
        """Write one problem."""
        separator = ",\n  " if self._count else '{"problems": [\n  '
        self._write(separator + json.dumps(asdict(problem), ensure_ascii=True))
        self._count += 1

    def close(self, result: CheckResult) -> None:
        """Write what is left, and end the object."""
        self._write("\n ]" if self._count else '{"problems": []')
        content = json.dumps(facts_of_check(result), indent=1, ensure_ascii=True, allow_nan=False)
        self._write("," + content[1:] + "\n")


def facts_of_check(result: CheckResult) -> dict[str, Any]:
    """Return everything but the problems themselves, whose number is `problems_found`."""
    left_out = ("examples", "problems")
    facts = {item.name: getattr(result, item.name) for item in fields(result) if item.name not in left_out}
    return {**facts, "problems_found": result.problems, "ok": result.ok}


def text_of_check(result: CheckResult) -> str:
    """Return the table for people: the first problems of each kind, and what there is to know beside them."""
    counts = result.counts
    lines = [
        *_labelled("pool", f"{counted(counts.get('rows', 0))}, {counts.get('text_only', 0):,} of them text-only"),
        *_labelled("images", _words_of_images(result)),
    ]
    if result.kinds:
        lines += _labelled("problems", f"{result.problems:,}, by kind and what becomes of the row:")
    for kind in result.kinds:
        lines += ["", f"{kind['kind']:<28}{kind['problems']:>10,}  {kind['effect']}"]
        examples = [
            problem for problem in result.examples if (problem.kind, problem.effect) == (kind["kind"], kind["effect"])
        ][:_SHOWN]
        several = len(result.data_sets) > 1
        for problem in examples:
            lines += _lines_of_problem(problem, several=several)
        if kind["problems"] > len(examples):
            lines.append(f"  {kind['problems'] - len(examples):,} more; --json lists all")
    lines += [""] if result.kinds else []
    for number, note in enumerate(result.notes):
        lines += _labelled("" if number else "noted", note)
    lines += _lines_of_lengths(result)
    if result.estimate is not None:
        lines += _labelled("problems", "none")
        lines += _lines_of_estimate(result)
    return "\n".join(lines)


def _words_of_images(result: CheckResult) -> str:
    counts = result.counts
    if result.decode == "off":
        return f"{counts.get('images', 0):,} named, none decoded: only looked for"
    size = readable_bytes(counts.get("image_bytes", 0))
    return f"{counts.get('images', 0):,} shown, {size} of files decoded; {readable_seconds(result.seconds)}"


def _lines_of_problem(problem: Problem, *, several: bool) -> list[str]:
    source = f"{problem.source} " if several or problem.row is None else ""
    where = f"{source}row {problem.row}" if problem.row is not None else source.strip()
    known = "" if problem.id is None else f" (id {_shortened(problem.id, _LONGEST_ID)})"
    return textwrap.wrap(
        _printable(f"{where}{known}: {problem.detail}"),
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        max_lines=_LONGEST_DETAIL,
        placeholder=" ...",
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _shortened(text: str, width: int) -> str:
    text = _printable(text)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _lines_of_lengths(result: CheckResult) -> list[str]:
    lines: list[str] = []
    for name, words in (("tokens", "tokens a sample"), ("vision_tokens", "image tokens a sample")):
        if name in result.lengths:
            told = ", ".join(f"{share} {value:,.0f}" for share, value in result.lengths[name].items())
            lines += _labelled("" if lines else "lengths", f"{words}, share of the rows up to: {told}")
    if lines:
        limit = result.max_length
        cut = sum(kind["problems"] for kind in result.kinds if kind["kind"] == "too_long")
        told = "no length limit: nothing is cut"
        if limit is not None:
            told = f"--max-length {limit:,} cuts {counted(result.counts.get('truncated', 0))} and refuses {cut:,}"
        lines += _labelled("", told)
    return lines


def _lines_of_estimate(result: CheckResult) -> list[str]:
    estimate = result.estimate or {}
    assumed = " (that of many models of 7B)" if estimate["hidden_size_assumed"] else ""
    disk = (
        f"about {readable_bytes(estimate['bytes'])} in the run folder, for vectors of {estimate['hidden_size']:,} "
        f"numbers{assumed}; the chosen records come on top, and 4 bytes a row for each dimension of the subspace"
    )
    lines = _labelled("estimate", disk)
    seconds = estimate["reading_seconds"]
    if seconds is not None:
        how = "opened and made ready" if result.lengths else "opened"
        told = f"images were {how} in {readable_seconds(seconds)} by {estimate['processes']} processes"
        lines += _labelled("", f"{told}; the time of the model is measured by `scalselect represent` with --limit 1000")
    return lines


def readable_bytes(number: float) -> str:
    """Return a size as a person says it: `12.3 MB`."""
    for size, unit in _DISK_UNITS:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} bytes"


def _labelled(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{label:<{_LABEL}}",
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
