"""Which chosen records an export leaves out: the trainer would stop, or learn nothing, or miss what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scalselect.dataset.message_export import why_not_llava
from scalselect.dataset.record_fields import record_fields
from scalselect.errors import SampleError

if TYPE_CHECKING:
    from scalselect.dataset.pool import Pool
    from scalselect.records import Sample

ConvertedForm = Literal["trl", "messages", "llava"]
LEFT_OUT_WORDS = {
    "ends_with_user": "that end with a question, of which nothing is learnt",
    "no_user_turn": "without a turn of the user",
    "roles_not_alternating": "whose turns do not alternate",
    "several_images": "with several images",
    "system_turn": "with a system turn",
    "tool_calls": "with calls of tools beside the text, which would be lost",
    "tool_turn": "with a turn of a tool",
}
_CALLS = ("tool_calls", "function_call")


def why_left_out(form: ConvertedForm, sample: Sample, pool: Pool, row: int) -> str | None:
    """Return why a record has no place in a form, a key of `LEFT_OUT_WORDS`; None where it has one.

    Parameters
    ----------
    pool, row
        Where the record lies.

    Raises
    ------
    DataChangedError
        The data were changed or removed.
    """
    if _has_calls(pool, row):
        return "tool_calls"
    return why_not_llava(sample) if form == "llava" else None


def left_out_words(left_out: dict[str, int]) -> str:
    """Return in words how many records were left out, by reason."""
    return ", ".join(f"{rows:,} {LEFT_OUT_WORDS.get(reason, reason)}" for reason, rows in sorted(left_out.items()))


def _has_calls(pool: Pool, row: int) -> bool:
    """Tell whether turns have calls under a key of their own, which a text as `content` does not hold."""
    try:
        turns: list[Any] = list(pool.record_format.turns(record_fields(pool.raw(row))))
    except SampleError:
        return False  # not a sample either
    return any(turn.get(key) for turn in turns if isinstance(turn, dict) for key in _CALLS)
