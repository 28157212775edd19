"""Balance: what the chosen rows are like beside the pool, property by property, over- and under-represented marked."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from scipy.special import bdtr, bdtrc

from scalselect.printable import printable_line
from scalselect.report_page.number_words import counted, number, percent
from scalselect.report_page.page import Section
from scalselect.report_page.page_warnings import is_starved, rows_due

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalselect.report_page.material import Material

PROPERTIES = {
    "source": "Data set",
    "stratum": "Stratum",
    "answer_type": "Kind of answer",
    "length": "Length of the conversation",
    "turns": "Turns of the conversation",
    "images": "Images in a row",
    "answer": "Answers",
}
_NOTES = {
    "length": "Text tokens as the model reads them, template included, images not counted.",
    "answer_type": "Of the first answer of a conversation.",
    "answer": "The first answer, or the first word of a longer one; the values whose share changed most.",
}
_ORDERED = ("length", "turns", "images")
_OVER, _UNDER = 1.25, 0.8  # times the share in the pool
_CHANCE = 0.01  # of a random choice to come as far off on that side: what is likelier is not marked
_LONGEST_VALUE = 48  # characters; of a longer one the rest opens
_LEAST_RANDOM = 0.01  # total variation: that of one random choice is a draw, and near nothing now and then
_FIRST_NUMBER = re.compile(r"\d+")
_PAIR = Markup(
    '<svg class="pair" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
    '<rect x="0" y="0" width="{:.1f}" height="6" class="bar others"></rect>'
    '<rect x="0" y="8" width="{:.1f}" height="6" class="bar chosen"></rect></svg>'
)
_NOTABLE = 0.02  # total variation beyond that of a random choice


def balance_section(material: Material) -> Section:
    """Return the section on balance."""
    diagnostics = material.diagnostics
    if diagnostics is None:
        return _empty("Nothing was chosen yet, so there is nothing to hold against the pool.")
    chosen = diagnostics["rows"]["chosen"] - diagnostics["rows"]["chosen_without_vector"]
    groups = rows_due(material)
    due = {"stratum": groups.get("stratum", {}), "source": groups.get("data set", {})}
    tables = [
        _table(name, measured, chosen, due.get(name, {}))
        for name in PROPERTIES
        if (measured := diagnostics["balance"].get(name)) is not None and _worth_showing(name, measured)
    ]
    if not tables or not chosen:
        return _empty(
            "Nothing is known of these rows that could be balanced: no records, one data set, no strata."
            if chosen
            else "No row with a score was chosen."
        )
    return Section(
        name="balance",
        title="Balance",
        content={"conclusion": _conclusion(diagnostics["balance"], tables), "tables": tables},
        data={table["name"]: {row["value"]: row["chosen_share"] for row in table["rows"]} for table in tables},
    )


def _empty(words: str) -> Section:
    return Section(name="balance", title="Balance", content={"conclusion": words, "tables": []})


def _worth_showing(name: str, measured: Mapping[str, Any]) -> bool:
    return name != "source" or measured["values"] > 1


def _conclusion(balance: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]) -> str:
    variations = {table["name"]: balance[table["name"]]["total_variation"] for table in tables}
    shares = {name: (each["chosen"] or 0.0, each["random"] or 0.0) for name, each in variations.items()}
    beyond = {name: share for name, share in shares.items() if share[0] - share[1] >= _NOTABLE}
    if not beyond:
        return "The chosen rows are spread as those of a random choice are, in everything that was looked at."
    times = {name: chosen / max(random, _LEAST_RANDOM) for name, (chosen, random) in beyond.items()}
    most = max(times, key=lambda name: times[name])
    chosen, random = beyond[most]
    ratio = f"{number(times[most], 2)} times the" if random >= _LEAST_RANDOM else "against"
    words = (
        f"Beside a random choice the chosen rows differ from the pool most in “{PROPERTIES[most].lower()}”: "
        f"{percent(chosen)} of them would have to be others to match it, {ratio} {percent(random)} of a random choice."
    )
    gone = [row for table in tables if table["name"] == most for row in table["rows"] if row["mark"] == "gone"]
    if gone:
        words += f" Nothing of {counted(len(gone), 'value')} was chosen."
    return words


def _table(name: str, measured: Mapping[str, Any], chosen: int, due: Mapping[Any, tuple[int, float]]) -> dict[str, Any]:
    """Return what the template shows of a property."""
    items = [*measured["over"], *measured["under"]]
    looked_at = (measured.get("sampled") or {}).get("chosen", chosen)
    items.sort(key=_by_number if name in _ORDERED else lambda item: (-item["pool"], str(item["value"])))
    rest = measured["values"] - len(items)
    widest = max([*(max(item["pool"], item["chosen"]) for item in items), 1e-9])
    rows = [_row(item, looked_at, widest, due.get(item["value"])) for item in items]
    left = {key: max(0.0, 1.0 - sum(item[key] for item in items)) for key in ("pool", "chosen")}
    variation = measured["total_variation"]
    return {
        "name": name,
        "title": PROPERTIES[name],
        "note": _NOTES.get(name),
        "rows": rows,
        "rest": _words_of_rest(rest, left, told=len(items)),
        "variation": percent(variation["chosen"] or 0.0),
        "random": percent(variation["random"] or 0.0),
        "sampled": f"{looked_at:,} chosen rows were looked at." if "sampled" in measured else None,
    }


def _words_of_rest(rest: int, left: Mapping[str, float], told: int) -> str | None:
    if rest <= 0:
        return None
    if not told:
        one = "The only value has" if rest == 1 else f"All {rest:,} values have"
        return f"{one} the same share among the chosen rows as in the pool."
    return (
        f"{counted(rest, 'further value')}, together {percent(left['pool'])} of the pool and {percent(left['chosen'])} "
        "of the chosen rows, changed less or not at all."
    )


def _row(item: Mapping[str, Any], looked_at: int, widest: float, due: tuple[int, float] | None) -> dict[str, Any]:
    chosen_rows, rows_due_to_it = due or (item["chosen"] * looked_at, item["pool"] * looked_at)
    mark, words = _mark(item["pool"], item["chosen"], looked_at, is_starved(chosen_rows, rows_due_to_it))
    value = _value_words(item["value"])
    return {
        "value": value,
        "short": value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE].rstrip()} ...",
        "pool": percent(item["pool"]),
        "chosen": percent(item["chosen"]),
        "chosen_share": item["chosen"],
        "rows": f"{item['chosen_rows']:,} of {item['pool_rows']:,}",
        "bars": _bars(item["pool"] / widest, item["chosen"] / widest),
        "mark": mark,
        "words": words,
    }


def _mark(pool: float, chosen: float, looked_at: int, starved: bool) -> tuple[str, str]:
    """Return a kind and words: whether a value is over- or under-represented beyond chance."""
    if not starved and _chance(pool, chosen, looked_at) >= _CHANCE:
        return "alike", "not marked"
    if not chosen:
        return "gone", "\N{BLACK DOWN-POINTING TRIANGLE} none chosen"
    if not pool:
        return "over", "\N{BLACK UP-POINTING TRIANGLE} only chosen"
    times = chosen / pool
    told = f"{number(times)} times"  # to the digits of the bounds
    if times >= _OVER:
        return "over", f"\N{BLACK UP-POINTING TRIANGLE} over: {told}"
    if times <= _UNDER or starved:
        return "under", f"\N{BLACK DOWN-POINTING TRIANGLE} under: {told}"
    return "alike", f"nearly alike: {told}"


def _chance(pool: float, chosen: float, looked_at: int) -> float:
    """Return how likely so many rows drawn at random hold so few of a value, or so many."""
    rows = round(chosen * looked_at)
    if chosen < pool:
        return float(bdtr(rows, looked_at, pool))
    return float(bdtrc(rows - 1, looked_at, pool)) if rows else 1.0


def _bars(pool: float, chosen: float) -> Markup:
    """Return two bars, of the pool above and of the chosen rows below; the columns beside them say the same."""
    return _PAIR.format(100 * pool, 100 * chosen)


def _value_words(value: Any) -> str:
    if value is None:
        return "(none)"
    return "(empty)" if value == "" else f"{value:,}" if isinstance(value, int) else printable_line(str(value))


def _by_number(item: Mapping[str, Any]) -> tuple[float, str]:
    words = str(item["value"]).replace(",", "")
    found = _FIRST_NUMBER.search(words)
    if found is None:
        return math.inf, words
    return float(found[0]) - words.startswith("below"), words
