"""The nouns that flow from stage to stage: frozen values, no computing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from decimal import Decimal

    import numpy as np
    from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]
IdType = Literal["string", "number", "null", "absent", "other"]
Status = Literal["scored", "skipped", "text_only"]
ExportForm = Literal["trl", "messages", "llava", "source"]


class Reason(StrEnum):
    """Why a row has no score: the fixed vocabulary of the `reason` columns."""

    INVALID_RECORD = "invalid_record"  # not a JSON object, or a field of a type no reader can use
    NO_USABLE_TURN = "no_usable_turn"  # no conversation, or no turn of it has any text
    UNKNOWN_ROLE = "unknown_role"  # a turn whose role is not understood
    UNSUPPORTED_CONTENT = "unsupported_content"  # video, audio, or content parts of another kind
    MARKER_MISMATCH = "marker_mismatch"  # some, but not as many `<image>` markers as images
    IMAGE_MISSING = "image_missing"  # no file lies where the record says
    IMAGE_UNREADABLE = "image_unreadable"  # the file is no image, or a broken one
    IMAGE_TOO_LARGE = "image_too_large"  # more pixels, or a longer and thinner shape, than may be decoded
    IMAGE_OUTSIDE = "image_outside"  # not below the image folder, and images are confined to it
    IMAGE_REFUSED = "image_refused"  # the checkpoint's own processor refuses the picture
    TEMPLATE_REFUSED = "template_refused"  # the chat template refuses the conversation
    PREPARATION_FAILED = "preparation_failed"  # an error that nobody foresaw, while text and images were made ready
    PREPARATION_CRASHED = "preparation_crashed"  # the process that made it ready died
    PREPARATION_TIMED_OUT = "preparation_timed_out"  # it took longer than a sample may take
    OUT_OF_MEMORY = "out_of_memory"  # alone it did not fit into the memory, and such rows are to be skipped
    SPANS_LOST = "spans_lost"  # the chat template rewrites texts, so tokens cannot be traced to turns
    TOO_LONG = "too_long"  # the length limit would cut an image or the whole instruction
    NOT_FINITE = "not_finite"  # the model returned NaN or infinity


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One image of a sample. The bytes of an embedded one are read by `Pool.embedded_image`.

    Attributes
    ----------
    text
        The reference as the record has it; of embedded bytes the name they came with, or where they lie.
    path
        The file it stands for: a local path, absolute or relative to the working directory, or a URL; empty where the
        bytes lie in the data themselves.
    embedded
        Where the bytes lie in the data: pool row, and number among the images of the sample; None for a file.
    within
        Folder or URL in which the file must lie, wherever links lead; None: anywhere.
    """

    text: str
    path: str
    embedded: tuple[int, int] | None = None
    within: str | None = None


@dataclass(frozen=True, slots=True)
class TextPart:
    """A stretch of text inside a turn, exactly as recorded but for whitespace beside a marker."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The place of an image inside a turn; `index` counts into `Sample.images`."""

    index: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says, as text and image parts in order; `tool` is what a tool returned."""

    role: Role
    parts: tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True, slots=True)
class RowIdentity:
    """Which row of the pool this is. The position is the key; the id is data.

    Attributes
    ----------
    row
        Position in the pool, from 0.
    source
        Name of the data set the row came from.
    id
        The value of a JSON string, the raw JSON text of anything else, None if absent.
    id_type
        What the id was in the record.
    """

    row: int
    source: str
    id: str | None
    id_type: IdType


@dataclass(frozen=True, slots=True)
class Sample:
    """One usable record: a conversation and the images it speaks of (none: text-only).

    Attributes
    ----------
    images_in_front
        The record had images but no marker, so they were put in front of the first user turn.
    text_sha256
        Hash of roles and parts, so that exact copies can be told.
    """

    identity: RowIdentity
    turns: tuple[Turn, ...]
    images: tuple[ImageReference, ...]
    images_in_front: bool
    text_sha256: str


@dataclass(frozen=True, slots=True)
class UnusableRecord:
    """One record that cannot become a sample, and why."""

    identity: RowIdentity
    reason: Reason
    detail: str
    turns: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRecord:
    """What is known of one pool row after stage 1; one line of `shard-*.rows.parquet`.

    Attributes
    ----------
    turns, images
        Counts of the record.
    image_sha256, image_bytes
        Hash and size of every image file, as read.
    tokens, vision_tokens, kept_tokens
        Lengths of the whole conversation, of its vision tokens and of the attended ones averaged.
    cut_margin
        Distance from `attention_mass` to the nearest cumulative mass: below about 1e-5 the kept set may
        differ on another device.
    uniform
        No instruction token could attend to a vision token, so all vision tokens counted alike.
    truncated
        Tokens after the last image were dropped to fit `max_length`.
    escaped
        Number of places where a text spelled out a special token of the model.
    images_in_front, exif_rotated, alpha
        No marker in the record; some image has an orientation tag that turns it; some image has transparency.
    """

    identity: RowIdentity
    status: Status
    reason: Reason | None = None
    detail: str | None = None
    turns: int = 0
    images: int = 0
    image_sha256: tuple[str, ...] = ()
    image_bytes: tuple[int, ...] = ()
    text_sha256: str | None = None
    tokens: int | None = None
    vision_tokens: int | None = None
    kept_tokens: int | None = None
    cut_margin: float | None = None
    uniform: bool = False
    truncated: bool = False
    escaped: int = 0
    images_in_front: bool = False
    exif_rotated: bool = False
    alpha: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DominantSubspace:
    """The dominant subspace of all representations (method, stage 2).

    It is that of ``Xc = (X - mean) / scale``, X the representations, or their rows over their norms where
    `normalised_rows` says so.

    Attributes
    ----------
    mean
        What is taken from every row: the mean representation, or zeros where nothing is centred, float64 [hidden].
    basis
        Right singular vectors V_k of Xc, float64 [hidden, k].
    singular_values
        The k largest singular values, float64 [k].
    energy
        Share of the summed squared singular values held by the first k.
    gap
        s_k / s_{k+1}; infinity where s_{k+1} is zero. Near 1 the subspace is not unique.
    largest_dimension_energy
        Share of the energy owned by the single largest feature dimension.
    rows
        Number of representations.
    spectrum
        Every singular value that was computed, descending, float64 [at least k]: the first ones, or all.
    total_energy
        Sum of all squared singular values, computed or not.
    scale
        What every column is divided by where columns are standardised, float64 [hidden]; None where they are not.
    normalised_rows
        Rows are divided by their norm before anything else; a row of zeros stays as it is.
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    energy: float
    gap: float
    largest_dimension_energy: float
    rows: int
    spectrum: NDArray[np.float64]
    total_energy: float
    scale: NDArray[np.float64] | None = None
    normalised_rows: bool = False

    @property
    def rank(self) -> int:
        """Dimension k of the subspace."""
        return int(self.singular_values.shape[0])


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rows to choose: a count, or a percentage of the eligible rows. Exactly one is set."""

    count: int | None = None
    percent: Decimal | None = None

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent:f}%"


@dataclass(frozen=True, slots=True)
class StratumShare:
    """One stratum: how many candidates it has, how many rows it was to give, and how many it gave."""

    candidates: int
    quota: int
    chosen: int


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The chosen rows.

    Attributes
    ----------
    rows
        Chosen row positions, ascending, int64 [chosen].
    eligible
        Number of rows that could have been chosen.
    lowest_score
        Leverage score of the last row chosen.
    ties_at_cut
        Number of candidates, chosen or not, whose score equals `lowest_score`.
    refused
        Rows that the strategy would have taken but whose image had its share already, ascending, int64 [refused].
    strata
        Of each stratum, by name: its candidates, its quota and the rows chosen from it. Empty without strata.
    notes
        What the user should be told: quotas that could not be met and where their rows came from.
    """

    rows: NDArray[np.int64]
    eligible: int
    lowest_score: float
    ties_at_cut: int
    refused: NDArray[np.int64]
    strata: dict[str, StratumShare] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
