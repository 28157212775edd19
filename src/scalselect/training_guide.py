"""`how_to_train.md` of a run folder: written from what the folder holds, true for the place where it lies now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.segments import segments_of
from scalselect.storage import publish_bytes
from scalselect.training_notes import document, notes_of
from scalselect.training_sets import place_of, training_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.run_folder import RunFolder
    from scalselect.training_notes import Notes

_LIKE = {"llava": "LLaVA", "llamafactory": "LLaMA-Factory", "ms-swift": "ms-swift", "trl": "TRL"}


def write_guides(folder: RunFolder) -> None:
    """Write `how_to_train.md`, and one beside the subset of every further budget; one that is right is left alone.

    A run of vectors alone has no records to train on, and gets none.
    """
    run, content = folder.require(), folder.read_selection()
    for number, budget in enumerate(content["budgets"]):
        here = folder.path if number == 0 else folder.selections / budget["asked"]
        path = here / folder.guide.name
        written = _guide(folder, run, content if number == 0 else folder.read_selection(budget["asked"]), number)
        if written is None:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_bytes() != written:
            publish_bytes(path, written)


def training_notes_of(folder: RunFolder) -> list[Notes]:
    """Return the notes for the first subset of a run; none where there are no records."""
    content = folder.read_selection()
    return _notes(folder, folder.require(), content, None) if content.get("subset") else []


def _guide(folder: RunFolder, run: Mapping[str, Any], content: Mapping[str, Any], number: int) -> bytes | None:
    if not content.get("subset"):
        return None
    sets = training_sets(content["subset"], segments_of(run), folder.path)
    notes = _notes(folder, run, content, content["budget"]["asked"] if number else None)
    return document(notes, sets, _words_of_like(run["represent"].get("like"))).encode()


def _notes(folder: RunFolder, run: Mapping[str, Any], content: Mapping[str, Any], budget: str | None) -> list[Notes]:
    sets = training_sets(content["subset"], segments_of(run), folder.path)
    return notes_of(sets, place_of(folder.path), budget)


def _words_of_like(like: str | None) -> str:
    if like is None:
        return (
            "The pool was seen as the checkpoint's own processor and template show it, with the options in `run.json`; "
            "`--like` of `scalselect run` sets what one of these trainers does."
        )
    return (
        f"The pool was seen as {_LIKE.get(like, like)} shows it (`--like {like}`), but for options that say otherwise."
    )
