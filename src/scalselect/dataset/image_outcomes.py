"""Images of samples opened, or only looked for, one by one for `check`: what is wrong with them; no picture is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from scalselect.errors import SampleError
from scalselect.image_files import decode_image, image_exists, open_image
from scalselect.records import Reason, RowRecord
from scalselect.row_limits import PixelsTogether

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scalselect.dataset.pool import Pool
    from scalselect.image_files import DecodedImage, PictureView
    from scalselect.records import ImageReference, Sample

_REMEMBERED = 4096  # images whose outcome a process keeps, for the next question about them
_SHOWN_LENGTH = 200


class DecodeImages:
    """Decodes every image; of those that several rows show it remembers the outcome for a while."""

    def __init__(self, view: PictureView) -> None:
        self._view = view

    def __call__(self, samples: Sequence[Sample], pool: Pool, mark: Callable[[int], None]) -> Iterable[RowRecord]:
        """Return what was found of each sample."""
        for sample in samples:
            mark(sample.identity.row)
            yield _record_of(sample, list(self._outcomes(sample, pool)))

    def _outcomes(self, sample: Sample, pool: Pool) -> Iterator[_Outcome]:
        pixels = PixelsTogether(self._view)
        for image in sample.images:
            told = self._outcome(image, pool)
            try:
                pixels.add_pixels(told.pixels)
            except SampleError as error:
                yield _failed(error)
                return  # as a run does not open the others
            yield told

    def _outcome(self, image: ImageReference, pool: Pool) -> _Outcome:
        if image.embedded is None:
            return _outcome_of_file(image.path, self._view, image.within)
        try:
            decoded = decode_image(pool.embedded_image(image), view=self._view)
        except (SampleError, OSError, MemoryError) as error:
            return _failed(error)
        return _Outcome.of(decoded)


class FindImages:
    """Only looks whether the files of images are there; what lies in the data is there."""

    def __call__(
        self,
        samples: Sequence[Sample],
        pool: Pool,  # noqa: ARG002
        mark: Callable[[int], None],
    ) -> Iterable[RowRecord]:
        """Return the samples of which an image is not there."""
        for sample in samples:
            mark(sample.identity.row)
            outcomes = [_outcome_of_path(image) for image in sample.images]
            if any(told.reason for told in outcomes):
                yield _record_of(sample, outcomes)


@dataclass(frozen=True, slots=True)
class _Outcome:
    reason: Reason | None = None
    detail: str = ""
    exif_rotated: bool = False
    alpha: bool = False
    bytes: int = 0
    pixels: int = 0

    @classmethod
    def of(cls, decoded: DecodedImage) -> _Outcome:
        pixels = decoded.picture.width * decoded.picture.height
        return cls(None, "", decoded.exif_rotated, decoded.alpha, decoded.bytes, pixels)


_THERE = _Outcome()


@lru_cache(maxsize=_REMEMBERED)
def _outcome_of_file(path: str, view: PictureView, within: str | None) -> _Outcome:
    try:
        decoded = open_image(path, view=view, within=within)
    except (SampleError, OSError, MemoryError) as error:
        return _failed(error)
    return _Outcome.of(decoded)


def _outcome_of_path(image: ImageReference) -> _Outcome:
    try:
        there = image.embedded is not None or image_exists(image.path, within=image.within)
    except (SampleError, OSError) as error:
        return _failed(error)
    return _THERE if there else _Outcome(Reason.IMAGE_MISSING, "no such file")


def _failed(error: BaseException) -> _Outcome:
    if isinstance(error, SampleError):
        return _Outcome(error.reason, error.detail)
    if isinstance(error, MemoryError):
        return _Outcome(Reason.OUT_OF_MEMORY, "it does not fit into the memory")
    return _Outcome(Reason.IMAGE_UNREADABLE, str(getattr(error, "strerror", None) or error))


def _record_of(sample: Sample, outcomes: Sequence[_Outcome]) -> RowRecord:
    bad = next(((image, told) for image, told in zip(sample.images, outcomes, strict=False) if told.reason), None)
    return RowRecord(
        identity=sample.identity,
        status="skipped" if bad else "scored",
        reason=bad[1].reason if bad else None,
        detail=f"`{bad[0].text[-_SHOWN_LENGTH:]}`: {bad[1].detail}" if bad else None,
        image_bytes=tuple(told.bytes for told in outcomes),
        exif_rotated=any(told.exif_rotated for told in outcomes),
        alpha=any(told.alpha for told in outcomes),
    )
