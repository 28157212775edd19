"""Why a row has no score, or was barred from the choice, in words for people."""

from __future__ import annotations

from scalselect.printable import printable_line
from scalselect.records import Reason

_WORDS: dict[str, str] = {
    Reason.INVALID_RECORD: "the record cannot be read",
    Reason.NO_USABLE_TURN: "no turn has any text",
    Reason.UNKNOWN_ROLE: "a turn has an unknown role",
    Reason.UNSUPPORTED_CONTENT: "it holds video, audio or other unsupported content",
    Reason.MARKER_MISMATCH: "not as many image markers as images",
    Reason.IMAGE_MISSING: "an image is missing",
    Reason.IMAGE_UNREADABLE: "an image cannot be read",
    Reason.IMAGE_TOO_LARGE: "an image is too large",
    Reason.IMAGE_OUTSIDE: "an image lies outside the image folder",
    Reason.IMAGE_REFUSED: "the model's processor refuses an image",
    Reason.TEMPLATE_REFUSED: "the chat template refuses the conversation",
    Reason.PREPARATION_FAILED: "an unforeseen error while it was made ready",
    Reason.PREPARATION_CRASHED: "the process that made it ready died",
    Reason.PREPARATION_TIMED_OUT: "making it ready took too long",
    Reason.OUT_OF_MEMORY: "it did not fit into memory",
    Reason.SPANS_LOST: "the chat template rewrites its text",
    Reason.TOO_LONG: "it is too long",
    Reason.NOT_FINITE: "the model returned no finite numbers",
    "excluded": "excluded by request",
    "max_per_image": "its image has its share already",
}
_COPY = "duplicate_of:"


def reason_words(reason: str) -> str:
    """Return a reason of `scores.parquet` in words; one that is not known as it is written."""
    if reason.startswith(_COPY):
        return f"a copy of row {printable_line(reason.removeprefix(_COPY))}"
    return _WORDS.get(reason, printable_line(reason.replace("_", " ")))
