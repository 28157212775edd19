"""`how_to_train.md` of a run folder: written from what the folder holds, true for the place where it lies now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalselect.printable import printable
from scalselect.segments import segments_of
from scalselect.storage import publish_bytes
from scalselect.trainers import TRAINERS, overridden
from scalselect.training_notes import document, notes_of
from scalselect.training_sets import place_of, training_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.run_folder import RunFolder
    from scalselect.training_parts import Notes


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
    like = run["represent"].get("like")
    seen = _words_of_like(like, run["represent"] | {"chat_template": run.get("chat_template")})
    return printable(document(notes, sets, place_of(folder.path), seen, like or "llamafactory")).encode()


def _notes(folder: RunFolder, run: Mapping[str, Any], content: Mapping[str, Any], budget: str | None) -> list[Notes]:
    sets = training_sets(content["subset"], segments_of(run), folder.path)
    return notes_of(sets, place_of(folder.path), budget)


def _words_of_like(like: str | None, options: Mapping[str, Any]) -> str:
    """Return how the pool was seen; `options` are those of the run."""
    template = options.get("chat_template")
    used = "the checkpoint's own chat template" if template is None else f"the chat template `{template}`"
    if like is None:
        return (
            f"The pool was seen as the checkpoint's own processor shows it, with {used} and the options in `run.json`; "
            "`--like` of `scalselect run` sets what one of these trainers does."
        )
    trainer = TRAINERS[like]
    changed = overridden(like, options)
    other = ", ".join(
        f"`--{option.replace('_', '-')} {_value(options[option])}` ({trainer.title}: {_value(own)})"
        for option, own in changed.items()
    )
    but = f", but for options that say otherwise: {other}" if other else ""
    return (
        f"The pool was seen as {trainer.title} {trainer.version} shows it (`--like {like}`){but}. It was seen with "
        f"{used}; the chat template of {trainer.title}: {trainer.template}."
    )


def _value(value: object) -> str:
    return "none" if value is None else str(value)
