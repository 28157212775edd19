"""A finished run at a glance: one line for a prompt, a small table for a notebook."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from scalselect.printable import printable_line
from scalselect.remote_path import as_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REPORT = "report.html"
# Colours and backgrounds are those of the page around it, so that it is as legible in a dark theme as in a light one.
_LABEL = "text-align: left; font-weight: 600; vertical-align: top; padding: 0.15em 1.5em 0.15em 0; background: none"
_VALUE = "text-align: left; vertical-align: top; padding: 0.15em 0; background: none"
_TABLE = "border-collapse: collapse; border: 0; margin: 0.5em 0; color: inherit; background: none"
_WARNING = "border-left: 0.25em solid #b57d00; padding-left: 0.6em; margin: 0 0 0.3em 0"


def line_of_result(folder: Path, chosen: int, scored: int, pool: int, summary: Mapping[str, Any]) -> str:
    """Return a run as one line of text, however large it is.

    Parameters
    ----------
    folder
        The run folder.
    chosen, scored, pool
        Numbers of rows.
    summary
        The content of `selection.json`, or the part of it that is known.
    """
    told = [f"folder={str(folder)!r}", f"{chosen:,} chosen of {scored:,} scored of {pool:,} rows"]
    if "asked" in summary.get("budget", {}):
        told.append(f"budget {printable_line(summary['budget']['asked'])}")
    if "k" in summary.get("subspace", {}):
        told.append(f"k = {summary['subspace']['k']}")
    if summary.get("warnings"):
        told.append(_counted(len(summary["warnings"]), "warning"))
    return f"RunResult({', '.join(told)})"


def html_of_result(folder: Path, chosen: int, scored: int, pool: int, summary: Mapping[str, Any]) -> str:
    """Return a run as a small HTML table that loads nothing from anywhere; see `line_of_result` for the parameters.

    All texts are escaped: names of data sets and the words of warnings come from the data.
    """
    lines = [
        ("chosen", _text(_words_of_choice(chosen, summary))),
        ("pool", _text(_words_of_pool(scored, pool, summary))),
        *(("subspace", _text(words)) for words in _words_of_subspace(summary)),
        *(("warnings", markup) for markup in _warnings(summary)),
        ("folder", _text(str(folder))),
        *(("report", link) for link in _link_to_report(folder)),
    ]
    rows = "".join(
        f'<tr style="background: none"><th scope="row" style="{_LABEL}">{label}</th>'
        f'<td style="{_VALUE}">{content}</td></tr>'
        for label, content in lines
    )
    return f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>'


def _words_of_choice(chosen: int, summary: Mapping[str, Any]) -> str:
    told = [f"{summary['budget']['asked']} asked"] if "budget" in summary else []
    told += [f"{summary['rows']['eligible']:,} eligible"] if "rows" in summary else []
    told += [f"strategy {summary['strategy']}"] if "strategy" in summary else []
    more = [f"{each['rows']:,} at {each['asked']}" for each in summary.get("budgets", [])[1:]]
    words = _counted(chosen, "row") + (f" ({', '.join(told)})" if told else "")
    return f"{words}; other budgets: {', '.join(more)}" if more else words


def _words_of_pool(scored: int, pool: int, summary: Mapping[str, Any]) -> str:
    rows, reasons = summary.get("rows", {}), summary.get("skipped", {})
    why = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items(), key=lambda item: -item[1]))
    told = [f"{scored:,} scored"]
    told += [f"{rows['skipped']:,} skipped ({why})"] if rows.get("skipped") else []
    told += [f"{rows['text_only']:,} text-only"] if rows.get("text_only") else []
    return f"{_counted(pool, 'row')}: {', '.join(told)}"


def _words_of_subspace(summary: Mapping[str, Any]) -> Iterator[str]:
    facts = summary.get("subspace")
    if facts:
        gap = "" if facts["gap"] is None else f"; s_k / s_k+1: {facts['gap']:.4g}"
        yield f"k = {facts['k']} with {facts['energy']:.2%} of the energy{gap}"


def _warnings(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary.get("warnings"):
        yield "".join(f'<div style="{_WARNING}">{_text(warning)}</div>' for warning in summary["warnings"])


def _link_to_report(folder: Path) -> Iterator[str]:
    """Yield a link to the page of the run where there is one on this machine.

    It is relative to the working directory, which is that of the notebook: a page of Jupyter opens no file by its
    absolute path.
    """
    report = folder / _REPORT
    if as_remote(folder) is None and report.is_file():
        # Quoted, so that a folder's name is never a scheme.
        address = quote(Path(os.path.relpath(report)).as_posix())
        yield f'<a href="{escape(address)}" target="_blank" rel="noopener">{_REPORT}</a>'


def _text(words: str) -> str:
    return escape(printable_line(words))


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
