"""A group of samples that show the same images, from files to model inputs: opened and preprocessed once.

A bad sample becomes a row with a reason; what concerns every sample is raised. Runs beside the model, in processes of
its own, wherever there are some.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scalselect.errors import MisuseError, SampleError, ShardError
from scalselect.failures import SAMPLE_MEMORY_ADVICE, machine_failure
from scalselect.image_files import decode_image, open_image
from scalselect.records import Reason, RowRecord
from scalselect.row_limits import PixelsTogether
from scalselect.vlm.device_memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.image_files import DecodedImage, PictureView
    from scalselect.records import ImageReference, Sample
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.sample_preparer import SamplePreparer

_SHOWN_LENGTH = 200
_DETAIL_LENGTH = 600
_ADDRESS = re.compile("0x[0-9a-fA-F]{6,}")  # of objects, in messages of libraries: another one each time


@dataclass(frozen=True, slots=True)
class PreparationFacts:
    """What is known of a group beside its model inputs: a record for each sample, and seconds by stage."""

    records: list[RowRecord]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class SampleWork:
    """Makes groups of samples ready for the model.

    Attributes
    ----------
    view
        How pictures are seen.
    embedded_image
        Returns the bytes of an image that lies in the data themselves; see `Pool.embedded_image`.
    mark
        Called with the place of a sample in its group when it is begun; before, the images of the group are opened.
    skip_oom
        Whether a sample that does not fit into the memory is skipped.
    """

    preparer: SamplePreparer
    view: PictureView
    embedded_image: Callable[[ImageReference], bytes]
    mark: Callable[[int], None] = lambda _place: None
    skip_oom: bool = False

    def __call__(self, group: Sequence[Sample]) -> tuple[list[PreparedSample | None], PreparationFacts]:
        """Prepare samples that show the same images; None stands for a sample that cannot be represented.

        Raises
        ------
        ShardError
            If the memory runs out, and `skip_oom` does not say otherwise.
        MisuseError, OSError
            What concerns every sample.
        """
        facts = PreparationFacts([])
        opened = _Opened(group[0].images, self.view, self.embedded_image, facts)
        prepared: list[PreparedSample | None] = []
        with self.preparer.same_pictures():
            for place, sample in enumerate(group):
                record, inputs = self._prepare(place, sample, opened, facts)
                facts.records.append(record)
                prepared.append(inputs)
        return prepared, facts

    def _prepare(
        self, place: int, sample: Sample, opened: _Opened, facts: PreparationFacts
    ) -> tuple[RowRecord, PreparedSample | None]:
        record = new_record(sample)
        try:
            images = opened.images()
            self.mark(place)
            record = replace(
                record,
                image_sha256=tuple(image.sha256 for image in images),
                image_bytes=tuple(image.bytes for image in images),
                exif_rotated=any(image.exif_rotated for image in images),
                alpha=any(image.alpha for image in images),
            )
            with facts.timed("preprocess"):
                # Files of the same bytes may still be shown turned or not, but that is one option for the whole run.
                pictures, keys = [image.picture for image in images], [image.sha256 for image in images]
                prepared = self.preparer.prepare(sample, pictures, keys)
        except SampleError as error:
            return skipped(record, error.reason, error.detail), None
        except (MisuseError, OSError):
            raise  # concerns every sample
        except Exception as error:
            if is_out_of_memory(error):
                if self.skip_oom:
                    return skipped(record, Reason.OUT_OF_MEMORY, "memory ran out while it was made ready"), None
                row = record.identity.row
                raise ShardError(f"memory ran out while row {row} was made ready: {SAMPLE_MEMORY_ADVICE}") from error
            if (failure := machine_failure(error)) is not None:  # says nothing of this sample
                raise failure from error
            # A bad sample costs itself only, whatever a decoder or a processor makes of it.
            return skipped(record, Reason.PREPARATION_FAILED, f"{type(error).__name__}: {error}"), None
        record = replace(
            record,
            status="scored",
            tokens=prepared.tokens,
            vision_tokens=len(prepared.vision),
            truncated=prepared.truncated,
            escaped=prepared.escaped,
        )
        return record, prepared


@dataclass(slots=True)
class _Opened:
    """The images of a group, decoded when they are first asked for; a failure is the same for every sample."""

    references: Sequence[ImageReference]
    view: PictureView
    embedded_image: Callable[[ImageReference], bytes]
    facts: PreparationFacts
    _images: list[DecodedImage] | SampleError | None = None

    def images(self) -> list[DecodedImage]:
        if self._images is None:
            try:
                with self.facts.timed("decode"):
                    pixels = PixelsTogether(self.view)
                    self._images = [self._open(image, pixels) for image in self.references]
            except SampleError as error:
                self._images = error
        if isinstance(self._images, SampleError):
            raise self._images
        return self._images

    def _open(self, image: ImageReference, pixels: PixelsTogether) -> DecodedImage:
        try:
            if image.embedded is not None:
                opened = decode_image(self.embedded_image(image), view=self.view)
            else:
                opened = open_image(image.path, view=self.view, within=image.within)
            pixels.add(opened.picture)
        except SampleError as error:
            # Named as in the record: where the data lie must not change what is written.
            raise SampleError(error.reason, f"`{image.text[-_SHOWN_LENGTH:]}`: {error.detail}") from error
        return opened


def new_record(sample: Sample) -> RowRecord:
    """Return the record of a sample of which nothing is known but what its data say."""
    return RowRecord(
        identity=sample.identity,
        status="text_only",
        turns=len(sample.turns),
        images=len(sample.images),
        text_sha256=sample.text_sha256,
        images_in_front=sample.images_in_front,
    )


def skipped(record: RowRecord, reason: Reason, detail: str) -> RowRecord:
    """Return the record of a row that gets no representation, and why."""
    return replace(record, status="skipped", reason=reason, detail=_ADDRESS.sub("0x...", detail)[:_DETAIL_LENGTH])
