"""What a command did, for people at 80 columns and as JSON for scripts."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from scalselect.progress import readable_seconds
from scalselect.remote_path import path_of
from scalselect.run_folder import RunFolder
from scalselect.subspace.dominant import subspace_warnings
from scalselect.subspace_file import facts_of_subspace
from scalselect.time_shares import lines_of_time
from scalselect.training_guide import training_notes_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scalselect.records import DominantSubspace
    from scalselect.results import Extended, Represented, RunResult
    from scalselect.vlm.llava_composition import ComposedLlava

_WIDTH, _LABEL = 80, 11
_STRATA_SHOWN, _STRATUM_WIDTH = 6, 30
_UNBROKEN_SPACE = "\N{INVISIBLE SEPARATOR}"  # stands for a space inside a path, where a line must not be wrapped
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_NOTED_WORDS = {
    "uniform": "whose instruction attends to no vision token",
    "truncated": "cut to the length limit",
    "images_in_front": "without a marker, images put in front",
    "exif_rotated": "with a rotated image",
    "alpha": "with a transparent image",
    "escaped": "that spell out a special token",
}
_NOTHING_DRAWN = ("top-leverage", "d-optimal")
_BARRED_WORDS = {
    "excluded": "excluded",
    "duplicate": "copies of others",
    "max_per_image": "whose image has its share",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary in both forms.

    Attributes
    ----------
    lines
        Label and text; an empty label continues the one before.
    content
        The same facts for scripts.
    """

    lines: list[tuple[str, str]]
    content: dict[str, Any]

    def as_text(self) -> str:
        """Return the summary for people, wrapped at 80 columns."""
        filled = "\n".join(
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=f"{label:<{_LABEL}}",
                subsequent_indent=" " * _LABEL,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for label, text in self.lines
        )
        return filled.replace(_UNBROKEN_SPACE, " ")

    def as_json(self) -> str:
        """Return the summary as one JSON object."""
        return json.dumps(self.content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)


def summary_of_run(result: RunResult) -> Summary:
    """Summarise a selection, with the trial's estimate where the run was one."""
    content = result.summary
    lines = [
        *_lines_of_rows(content["rows"], content["skipped"]),
        *_lines_of_text_only(content["text_only"]),
        *_lines_of_notes(content["noted"]),
        ("subspace", subspace_words(content["subspace"])),
        *_lines_of_choice(content),
        *(("warning", warning) for warning in content["warnings"]),
        *_lines_of_time(result.represented),
        *_lines_of_trial(result.represented),
        ("written", path_words(result.folder / content["selected"]["file"])),
        *(("", path_words(result.folder / budget["file"])) for budget in content["budgets"][1:]),
        *(("", path_words(result.folder / name)) for name in _files_told(result.folder)),
    ]
    notes = training_notes_of(RunFolder(result.folder)) if content.get("subset") else []
    if notes:
        lines.append(("", path_words(result.folder / "how_to_train.md")))
        told = [command_words(f"{note.trainer}: {note.short}") for note in notes]
        lines += [("train" if i == 0 else "", text) for i, text in enumerate(told)]
    facts = {**content, "run_dir": str(result.folder)}
    if result.represented is not None:
        facts["represented"] = _facts_of_representing(result.represented)
    return Summary(lines, facts)


def _files_told(folder: Path) -> list[str]:
    """Return the files of a run folder that a person may want to open, beside the subset."""
    names = ["scores.parquet", "diagnostics.json", "selection.json"]
    return [*names, "report.html"] if (folder / "report.html").exists() else names


def summary_of_representing(represented: Represented) -> Summary:
    """Summarise stage 1."""
    rows = {"pool": represented.rows, **represented.counts}
    lines = [
        *_lines_of_rows(rows, represented.reasons),
        *_lines_of_time(represented),
        *_lines_of_trial(represented),
        ("written", str(represented.folder / "representations")),
        ("next", command_words(f"scalselect score {shlex.quote(str(represented.folder))}")),
    ]
    return Summary(lines, {"run_dir": str(represented.folder), **_facts_of_representing(represented)})


def summary_of_scores(run_dir: str, subspace: DominantSubspace) -> Summary:
    """Summarise stage 2."""
    facts = facts_of_subspace(subspace)
    warnings = subspace_warnings(subspace)
    lines = [
        ("scored", _counted(subspace.rows, "row")),
        ("subspace", subspace_words(facts)),
        *(("warning", warning) for warning in warnings),
        ("written", str(path_of(run_dir) / "scores.parquet")),
        ("next", command_words(f"scalselect select {shlex.quote(str(run_dir))} --budget 16%")),
    ]
    return Summary(lines, {"run_dir": str(run_dir), "subspace": facts, "warnings": warnings})


def summary_of_extending(extended: Extended) -> Summary:
    """Summarise an extension: where the new rows stand, and what was scored and chosen among all."""
    added = [
        (
            "" if number else "extended",
            (
                f"by {_counted(segment.rows, 'row')} of {segment.source}: rows {segment.first_row:,} to "
                f"{segment.stop_row - 1:,}{' (added before)' if segment in extended.known_before else ''}"
            ),
        )
        for number, segment in enumerate(extended.segments)
    ]
    if extended.selected is not None:
        rest = summary_of_run(extended.selected)
    elif extended.subspace is not None:
        rest = summary_of_scores(str(extended.folder), extended.subspace)
        rest.lines[:0] = _lines_of_time(extended.represented)
    else:
        rest = summary_of_representing(extended.represented)
        rest.lines[0] = ("new", rest.lines[0][1])  # it speaks of the rows that were added alone
    facts = {
        "segments": [asdict(segment) for segment in extended.segments],
        "represented": _facts_of_representing(extended.represented),
    }
    return Summary([*added, *rest.lines], {**rest.content, **facts})


def summary_of_report(path: Path) -> Summary:
    """Summarise the writing of a report."""
    size = path.stat().st_size
    lines = [("written", path_words(path)), ("size", f"{size / 1e6:,.2f} MB; any browser opens it")]
    return Summary(lines, {"report": str(path), "bytes": size})


def summary_of_composing(composed: ComposedLlava) -> Summary:
    """Summarise the making of a LLaVA checkpoint."""
    layers, of = composed.decoder_layers, composed.language_model_layers
    lines = [
        ("composed", f"LLaVA with {layers} of {of} decoder layers, {composed.parameter_bytes / 1e6:,.0f} MB"),
        ("", f"`<image>` is token {composed.image_token_id}; {composed.new_rows} new rows of the embedding"),
        ("", "pictures are padded to a square (--image-fit auto)"),
        ("written", path_words(composed.folder)),
        (
            "next",
            command_words(
                f"scalselect run DATASET --model {shlex.quote(str(composed.folder))} --budget 16% --output RUN_DIR"
            ),
        ),
    ]
    facts = {field.name: getattr(composed, field.name) for field in fields(composed)}
    return Summary(lines, {**facts, "folder": str(composed.folder)})


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def path_words(path: Path) -> str:
    """Return a path that is not wrapped at its spaces."""
    return str(path).replace(" ", _UNBROKEN_SPACE)


def command_words(text: str) -> str:
    """Return words and commands in which nothing is wrapped between quotes: a broken path cannot be copied."""
    return _QUOTED.sub(lambda quoted: quoted[0].replace(" ", _UNBROKEN_SPACE), text)


def _lines_of_rows(rows: Mapping[str, int], reasons: Mapping[str, int]) -> list[tuple[str, str]]:
    told = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items(), key=lambda pair: -pair[1]))
    return [
        ("pool", _counted(rows["pool"], "row")),
        ("scored", f"{rows.get('scored', 0):,}"),
        ("skipped", f"{rows.get('skipped', 0):,}" + (f" ({told})" if told else "")),
        *([("", "why: `detail` in representations/*.rows.parquet; not tried again")] if told else []),
        ("text-only", f"{rows.get('text_only', 0):,}"),
    ]


def _lines_of_text_only(text_only: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what became of the rows without images, where there are any."""
    if not text_only["rows"]:
        return []
    out = f", {text_only['excluded']:,} of them excluded" if text_only["excluded"] else ""
    return [("", f"{text_only['chosen']:,} chosen on top of the budget (--text-only {text_only['asked']}){out}")]


def _lines_of_notes(noted: Mapping[str, int]) -> list[tuple[str, str]]:
    found = [f"{noted[name]:,} {words}" for name, words in _NOTED_WORDS.items() if noted.get(name)]
    return [("noted" if i == 0 else "", text) for i, text in enumerate(found)]


def _lines_of_choice(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was barred, and what was chosen at each budget and how."""
    rows, chosen, barred = content["rows"], content["selected"], content["barred"]
    kinds = ("excluded", "duplicate", "max_per_image")
    told = [f"{barred[kind]:,} {_BARRED_WORDS[kind]}" for kind in kinds if barred[kind]]
    near = content["near_copies_of_other_questions"]
    held = [_counted(chosen["images"], "image")] if chosen["images"] else []
    held += [] if chosen["tokens"] is None else [_counted(chosen["tokens"], "token")]
    asked = f"{content['budget']['asked']} asked, {rows['eligible']:,} eligible"
    how = content["tie_rule"] if content["strategy"] == "top-leverage" else f"by {content['strategy']}"
    how += f", seed {content['seed']}" if content["strategy"] not in _NOTHING_DRAWN else ""
    how += f"; {_counted(content['included'], 'row')} had to be included" if content["included"] else ""
    return [
        *([("barred", ", ".join(told))] if told else []),
        *([("kept", f"{near:,} near-copies of other questions about an image (not barred)")] if near else []),
        ("chosen", ", ".join([f"{_words_of_size(content)} ({asked})", *held])),
        *(("", _words_of_budget(budget)) for budget in content["budgets"][1:]),
        ("", f"lowest score {chosen['lowest_score']:.6g}; {how}"),
        *_lines_of_strata(content["strata"]),
    ]


def _words_of_size(content: Mapping[str, Any]) -> str:
    """Return how many rows were chosen, and with those that are text-only how many records trainers report."""
    rows, more = content["budget"]["rows"], content["text_only"]["chosen"]
    return _counted(rows, "row") + (f" + {more:,} text-only = {_counted(rows + more, 'record')}" if more else "")


def _words_of_budget(budget: Mapping[str, Any]) -> str:
    more = f" and {budget['text_only']:,} text-only" if budget["text_only"] else ""
    return f"{_counted(budget['rows'], 'row')}{more} ({budget['asked']} asked)"


def _lines_of_strata(strata: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    """Return how many rows of its candidates each stratum gave, of many the largest."""
    largest = sorted(strata, key=lambda name: (-strata[name]["chosen"], name))[:_STRATA_SHOWN]
    told = [f"{_short(name)} {strata[name]['chosen']:,} of {strata[name]['candidates']:,}" for name in largest]
    more = [f"{len(strata) - len(largest):,} more in selection.json"] if len(strata) > len(largest) else []
    return [("strata", ", ".join([*told, *more]))] if told else []


def _short(name: str) -> str:
    return textwrap.shorten(name, _STRATUM_WIDTH, placeholder="...") or name[:_STRATUM_WIDTH]


def _lines_of_time(represented: Represented | None) -> list[tuple[str, str]]:
    told = [] if represented is None else lines_of_time(represented.seconds, represented.workers)
    return [("time" if i == 0 else "", command_words(text)) for i, text in enumerate(told)]


def _lines_of_trial(represented: Represented | None) -> list[tuple[str, str]]:
    if represented is None or represented.rows >= represented.pool_rows:
        return []
    words = (
        f"the first {represented.rows:,} of {represented.pool_rows:,} rows at {represented.rows_per_second:.1f} "
        f"rows/s; all of them would take about {readable_seconds(represented.seconds_for_all)} here (in another "
        "folder: this one holds the trial)"
    )
    return [("trial", words)]


def subspace_words(facts: Mapping[str, Any]) -> str:
    """Return rank, energy and gap of a subspace in words; see `scalselect.subspace_file.facts_of_subspace`."""
    gap = "none left" if facts["gap"] is None else f"{facts['gap']:.4g}"
    hold = "dimension holds" if facts["k"] == 1 else "dimensions hold"
    return f"k = {facts['k']} {hold} {facts['energy']:.2%} of the energy; s_k / s_k+1: {gap}"


def _facts_of_representing(represented: Represented) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "rows": represented.rows,
        "pool_rows": represented.pool_rows,
        "counts": represented.counts,
        "reasons": represented.reasons,
        "seconds": represented.seconds,
        "waiting_share": represented.waiting_share,
        "rows_per_second": represented.rows_per_second,
    }
    if represented.rows < represented.pool_rows:
        facts["estimated_seconds_for_all"] = represented.seconds_for_all
    return facts
