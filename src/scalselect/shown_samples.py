"""What a person sees of some rows: their conversations, cut where they are long, and their pictures, small.

A picture that cannot be read becomes words that say why; it never ends the work. All thumbnails together, and all texts
together, stay within a size that a page can carry.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scalselect.errors import SampleError
from scalselect.failures import told_of
from scalselect.http_images import is_web_address
from scalselect.image_files import decode_image, read_image_file
from scalselect.printable import printable, printable_line
from scalselect.records import Sample, TextPart
from scalselect.remote_files import is_remote
from scalselect.report_page.material import RECORD, ShownPicture, ShownSample, ShownTurn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.image_files import PictureView
    from scalselect.records import ImageReference, Turn, UnusableRecord

MOST_PICTURES = 4  # of a sample
MOST_CHARACTERS = 2_000  # of a conversation
ALL_TEXTS = 1_000_000  # bytes of all conversations together
ALL_THUMBNAILS = 2_700_000  # bytes of all thumbnails together; in base64 a third more
SIDE = 192  # pixels of the longer side

_FEWEST_CHARACTERS = 100
_LONGEST_NAME = 200
_LONGEST_FAULT = 300
_REMOTE_SECONDS = 30.0
_EFFORT = 2  # of Pillow's 0 to 6: a third of the time of its usual 4, for 4 % more bytes
# Longer side and quality, tried in this order until the picture fits.
_QUALITIES = ((SIDE, 75), (SIDE, 50), (SIDE, 30), (128, 40), (96, 30), (64, 20))


class _LeftOutError(Exception):
    """A picture that could be read, but not in the time or the room that there is."""


def read_shown_samples(
    pool: Pool | JoinedPool, rows: Iterable[int] | NDArray[np.int64], view: PictureView
) -> dict[int, ShownSample]:
    """Read some rows of a pool, to be looked at.

    Parameters
    ----------
    pool
        The data of a run; what it may fetch from elsewhere was decided when it was opened.
    rows
        Pool positions, of each of which one item is returned.
    view
        How the run saw pictures. Its limits of size are left out: thumbnails are smaller.

    Raises
    ------
    DataChangedError
        The data file was changed or removed.
    """
    wanted = sorted({int(row) for row in rows})
    items = dict(zip(wanted, pool.samples_at(wanted), strict=True))
    samples = [item for item in items.values() if isinstance(item, Sample)]
    written = {row: _as_written(pool, row) for row, item in items.items() if not isinstance(item, Sample)}
    characters = _characters_allowed(
        [*("".join(map(_text, sample.turns)) for sample in samples), *filter(None, written.values())]
    )
    references = {reference for sample in samples for reference in sample.images[:MOST_PICTURES]}
    thumbnails = _Thumbnails(
        pool, replace(view, min_pixels=None, max_pixels=None), len(references), ALL_THUMBNAILS, _REMOTE_SECONDS
    )
    return {
        row: _shown(row, item, characters, thumbnails)
        if isinstance(item, Sample)
        else _unusable(row, item, written[row], characters)
        for row, item in items.items()
    }


def _as_written(pool: Pool | JoinedPool, row: int) -> str | None:
    """Return the beginning of a record as the data have it; None where there is nothing to be read."""
    try:
        content = pool.raw(row)[: 4 * MOST_CHARACTERS + 4]  # UTF-8 takes at most four bytes a character
    except SampleError:
        return None
    return None if content.strip() in (b"", b"null") else content.decode(errors="replace")


def _unusable(row: int, item: UnusableRecord, written: str | None, characters: int) -> ShownSample:
    """Return a record that has no conversation: as it was written, to be seen for what it is."""
    fault = f"{_words(item.reason)}: {item.detail}"[:_LONGEST_FAULT]
    if written is None:
        fault += " Its text cannot be read from the data."
    else:
        more = " [cut]" if len(written) > characters else ""
        written = f"{printable(written[:characters])}{more}"
    return ShownSample(
        row=row,
        pictures=(),
        turns=() if written is None else (ShownTurn(role=RECORD, text=written),),
        more_pictures=item.images,
        fault=printable_line(fault),
    )


def _shown(row: int, item: Sample, characters: int, thumbnails: _Thumbnails) -> ShownSample:
    shown = item.images[:MOST_PICTURES]
    return ShownSample(
        row=row,
        pictures=tuple(thumbnails.of(image) for image in shown),
        turns=_cut(item.turns, characters),
        more_pictures=len(item.images) - len(shown),
    )


def _characters_allowed(conversations: Sequence[str]) -> int:
    """Return how many characters of each conversation are shown, so that all together are not too many bytes."""
    whole = [text[:MOST_CHARACTERS] for text in conversations]
    allowed = MOST_CHARACTERS
    while (
        allowed > _FEWEST_CHARACTERS and sum(len(text[:allowed].encode(errors="replace")) for text in whole) > ALL_TEXTS
    ):
        allowed = max(_FEWEST_CHARACTERS, allowed * 3 // 4)
    return allowed


def _cut(turns: Sequence[Turn], characters: int) -> tuple[ShownTurn, ...]:
    """Return turns up to so many characters together; the last one says how much is left out."""
    texts = [_text(turn) for turn in turns]
    shown: list[ShownTurn] = []
    for place, (turn, text) in enumerate(zip(turns, texts, strict=True)):
        if len(text) <= characters:
            shown.append(ShownTurn(role=turn.role, text=printable(text)))
            characters -= len(text)
            continue
        left = len(text) - characters
        further = len(turns) - place - 1
        note = f"[cut: {left:,} more characters" + (f" and {further:,} more turns]" if further else "]")
        shown.append(ShownTurn(role=turn.role, text=f"{printable(text[:characters])} {note}".strip()))
        break
    return tuple(shown)


def _text(turn: Turn) -> str:
    parts = (part.text if isinstance(part, TextPart) else f"[image {part.index + 1}]" for part in turn.parts)
    return " ".join(parts).replace("\r\n", "\n").replace("\t", "    ")


@dataclass(slots=True)
class _Thumbnails:
    """Small pictures of images, each made once, together not larger than `ALL_THUMBNAILS`.

    Each may have an equal part of the bytes that are left, so that later ones have what one does not need. Tries begin
    one quality above the one that the last picture needed: they cost time.
    """

    pool: Pool | JoinedPool
    view: PictureView
    unread: int
    left: int
    remote_seconds: float
    first_try: int = 0
    _made: dict[ImageReference, ShownPicture] = field(default_factory=dict)

    def of(self, reference: ImageReference) -> ShownPicture:
        """Return the small picture of an image, or why there is none."""
        made = self._made.get(reference)
        if made is None:
            name = printable_line(reference.text[-_LONGEST_NAME:])
            try:
                content, width, height = self._thumbnail(reference)
                self.left -= len(content)
                made = ShownPicture(thumbnail=content, width=width, height=height, name=name)
            except SampleError as error:
                made = _faulty(name, f"{_words(error.reason)}: {error.detail}")
            except _LeftOutError as error:
                made = _faulty(name, str(error))
            except (OSError, MemoryError) as error:  # of this machine or of a store; the page is made all the same
                made = _faulty(name, told_of(error))
            self.unread -= 1
            self._made[reference] = made
        return made

    def _thumbnail(self, reference: ImageReference) -> tuple[bytes, int, int]:
        picture = decode_image(self._content(reference), view=self.view, side=SIDE).picture
        picture.thumbnail((SIDE, SIDE))
        for place in range(self.first_try, len(_QUALITIES)):
            side, quality = _QUALITIES[place]
            if side < max(picture.size):
                picture.thumbnail((side, side))
            stream = io.BytesIO()
            picture.save(stream, "WEBP", quality=quality, method=_EFFORT)
            if stream.tell() <= self.left // max(1, self.unread):
                self.first_try = max(0, place - 1)
                return stream.getvalue(), picture.width, picture.height
        raise _LeftOutError("no room is left for a thumbnail on this page")

    def _content(self, reference: ImageReference) -> bytes:
        if reference.embedded is not None:
            return self.pool.embedded_image(reference)
        if not (is_web_address(reference.path) or is_remote(reference.path)):
            return read_image_file(reference.path, within=reference.within)
        if self.remote_seconds <= 0:
            raise _LeftOutError(f"not fetched: the {_REMOTE_SECONDS:.0f} seconds for pictures from elsewhere were over")
        began = time.monotonic()
        try:
            return read_image_file(reference.path, within=reference.within)
        finally:
            self.remote_seconds -= time.monotonic() - began


def _faulty(name: str, fault: str) -> ShownPicture:
    return ShownPicture(thumbnail=None, width=0, height=0, name=name, fault=printable_line(fault[:_LONGEST_FAULT]))


def _words(reason: str) -> str:
    return str(reason).replace("_", " ")
