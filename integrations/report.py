"""What the consumers did, as Markdown: one table of all files, then what each printed, shortened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from integrations.expected import MARKER, collapsed

if TYPE_CHECKING:
    from integrations.comparing import Outcome

_SHOWN = 300  # characters of a text
_DIFFERENCES = 3


def report(outcomes: list[Outcome], times: list[str]) -> str:
    """Return the report of some outcomes, and of what took how long."""
    lines = [
        "| consumer | file | known fault | rows in the file | rows kept | losses of two steps | found |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        result = outcome.result or {}
        losses = ", ".join(f"{loss:.2f}" for loss in result.get("losses") or []) or "-"
        kept = result.get("rows_kept", "-")
        cells = [outcome.consumer, outcome.file, outcome.fault or "-", outcome.rows, kept, losses, _verdict(outcome)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", *(f"- {time}" for time in times)]
    consumers = dict.fromkeys(outcome.consumer for outcome in outcomes)
    for consumer in consumers:
        lines += ["", *_printed([outcome for outcome in outcomes if outcome.consumer == consumer])]
    return "\n".join(lines) + "\n"


def _verdict(outcome: Outcome) -> str:
    if outcome.fault is None:
        return "as it must be" if outcome.as_it_must_be else f"**{len(outcome.found)} differences**"
    return "the fault" if outcome.as_it_must_be else "**not the fault**"


def _printed(outcomes: list[Outcome]) -> list[str]:
    """Return the versions, the text of one row, and the differences of one consumer."""
    lines = [f"### {outcomes[0].consumer}", ""]
    for result in (outcome.result for outcome in outcomes if outcome.result):
        lines += ["Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items()) + "."]
        break
    lines += ["", "```text"]
    for outcome in outcomes:
        texts = (outcome.result or {}).get("texts") or []
        if outcome.fault is None and texts:
            lines.append(f"{outcome.file}, row {len(texts) - 1}: {_short(texts[-1])}")
        elif outcome.found:
            lines.append(f"{outcome.file}, {outcome.fault or 'no fault'}:")
        lines += [f"  {line}" for line in outcome.found[:_DIFFERENCES]]
        if len(outcome.found) > _DIFFERENCES:
            lines.append(f"  and {len(outcome.found) - _DIFFERENCES} more")
    return [*lines, "```"]


def _short(text: str) -> str:
    """Return a text in one line, a run of markers as one with their number."""
    whole = collapsed(text)
    count = whole.count(MARKER)
    if count > 1:
        first = whole.index(MARKER)
        last = whole.rindex(MARKER) + len(MARKER)
        if whole[first:last] == MARKER * count:
            whole = f"{whole[:first]}{MARKER} x {count}{whole[last:]}"
    return whole[:_SHOWN]
