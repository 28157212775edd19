"""A record format: under which keys a record keeps its turns, its system prompt and its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.content_parts import checked_text
from scalselect.dataset.conversations import USUAL_TAGS, read_conversation
from scalselect.dataset.image_values import image_values
from scalselect.dataset.record_fields import decode_field
from scalselect.dataset.turn_sources import PromptAndCompletion, QuestionAndAnswer, TurnList
from scalselect.errors import SampleError
from scalselect.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scalselect.dataset.conversations import Conversation, TurnTags
    from scalselect.dataset.image_values import ImageValue
    from scalselect.dataset.record_fields import Fields
    from scalselect.dataset.turn_sources import TurnSource

OTHER_MEDIA_KEYS = ("video", "videos", "audio", "audios")


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """Where records of one format keep what.

    Attributes
    ----------
    name, title
        For options and for people.
    turn_source
        Where the turns are.
    image_keys
        Keys of one image or a list of images, the usual one first.
    system_key
        Key of a system prompt beside the turns, None where the format has none.
    tags
        How a turn is written.
    other_media_keys
        Keys of video and audio.
    """

    name: str
    title: str
    turn_source: TurnSource
    image_keys: tuple[str, ...]
    system_key: str | None = None
    tags: TurnTags = USUAL_TAGS
    other_media_keys: tuple[str, ...] = OTHER_MEDIA_KEYS

    @property
    def main_keys(self) -> tuple[str, ...]:
        """The keys by which people know the format: of the turns, and of the images."""
        return (*self.turn_source.signatures[0], *self.image_keys[:1])

    def turns(self, fields: Fields) -> list[Any]:
        """Return the turns as recorded. Raises SampleError: `no_usable_turn`, `invalid_record`."""
        return self.turn_source.turns(fields)

    def images(self, fields: Fields) -> list[ImageValue]:
        """Return the images under the record's own keys, in order. Raises SampleError: `invalid_record`."""
        filled = [(key, images) for key in self.image_keys if (images := image_values(decode_field(fields, key), key))]
        if not filled:
            return []
        (first_key, first), *others = filled
        for key, images in others:
            if images != first:
                raise SampleError(Reason.INVALID_RECORD, f"`{first_key}` and `{key}` name different images")
        return first

    def conversation(
        self, fields: Fields, turns: Sequence[Any], images: Sequence[ImageValue], image_position: str
    ) -> Conversation:
        """Return the conversation that a record's turns and images make.

        Raises
        ------
        SampleError
            What `read_conversation` raises, and `unsupported_content` for a record with video or audio.
        """
        refuse_other_media(fields, self.other_media_keys)
        system = decode_field(fields, self.system_key) if self.system_key else None
        if system is not None:
            system = checked_text(system, f"`{self.system_key}`")
        return read_conversation(turns, images, system=system, tags=self.tags, image_position=image_position)


FORMATS = {
    known.name: known
    for known in (
        RecordFormat("llava", "LLaVA records", TurnList(("conversations",)), ("image", "images"), "system"),
        RecordFormat(
            "messages", "Message records", TurnList(("messages", "conversation")), ("images", "image"), "system"
        ),
        RecordFormat(
            "alpaca",
            "Alpaca records",
            QuestionAndAnswer(("instruction", "input"), "output", "history"),
            ("images", "image"),
            "system",
        ),
        RecordFormat(
            "query-response",
            "Query and response records",
            QuestionAndAnswer(("query",), "response", "history"),
            ("images", "image"),
            "system",
        ),
        RecordFormat("prompt-completion", "Prompt and completion records", PromptAndCompletion(), ("images", "image")),
    )
}


def refuse_other_media(fields: Fields, keys: Iterable[str] = OTHER_MEDIA_KEYS) -> None:
    """Raise SampleError, `unsupported_content`, for a record with video or audio."""
    for key in keys:
        if decode_field(fields, key):
            raise SampleError(Reason.UNSUPPORTED_CONTENT, f"the record has something under `{key}`")
