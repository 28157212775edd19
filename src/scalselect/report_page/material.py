"""What a page is made from: the saved records of a run, and of some rows what a person would look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from scalselect.explanations_file import Explanations
    from scalselect.run_folder import RunFolder

RECORD = "record"  # the role of a turn that is none: a record that cannot be used, as it was written


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPicture:
    """A picture of a shown row, small.

    Attributes
    ----------
    thumbnail
        Bytes of a WebP file; None where the image cannot be shown.
    width, height
        Pixels of the thumbnail; 0 without one.
    name
        How the record names the image, in words that may hold anything.
    fault
        Why there is no thumbnail, in words; None where there is one.
    """

    thumbnail: bytes | None
    width: int
    height: int
    name: str
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTurn:
    """A turn of a shown conversation: its role and its text, an image as the mark ``[image 1]``."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSample:
    """What a person sees of a row: its pictures and its conversation.

    Attributes
    ----------
    more_pictures
        Number of images that the row has beyond those in `pictures`.
    fault
        Why there is no conversation, in words; None where there is one. `turns` then hold the record as it was
        written, with the role `RECORD`, where it can be read.
    """

    row: int
    pictures: tuple[ShownPicture, ...]
    turns: tuple[ShownTurn, ...]
    more_pictures: int = 0
    fault: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Material:
    """The saved records of one run.

    Attributes
    ----------
    folder, shards
        The run folder and the numbers of its shards.
    run
        The content of `run.json`.
    table
        `scores.parquet`, one line for every pool row.
    selection, diagnostics
        The content of `selection.json` and `diagnostics.json`; None where nothing was selected.
    singular_values
        Those that were computed, descending, float64 [known].
    coordinates
        Whitened coordinates of the scored rows in pool order, float32 [scored, k]; may lie in a file.
    shown
        Groups of rows whose samples are shown, in the order of the page: `highest`, `just_in`, `just_out`, `lowest`,
        `skipped`; see `shown_rows`.
    samples
        What is seen of these rows, where their records could be read.
    no_samples
        Why there are none, in words; None where there are.
    explanations
        Attention of some of these rows; None where there is none that belongs to these representations.
    """

    folder: RunFolder
    shards: range
    run: Mapping[str, Any]
    table: pa.Table
    selection: Mapping[str, Any] | None
    diagnostics: Mapping[str, Any] | None
    singular_values: NDArray[np.float64]
    coordinates: NDArray[np.float32]
    shown: Mapping[str, NDArray[np.int64]]
    samples: Mapping[int, ShownSample]
    no_samples: str | None
    explanations: Explanations | None
