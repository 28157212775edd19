"""The pools that `strategies.py` chooses from: two synthetic ones, real easy-VQA rows, and scikit-learn's digits.

Each becomes a scored run folder by the package's own functions; the synthetic ones are drawn anew for every seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits

import scalselect
from scalselect.candidate_rows import ScoredRun
from scalselect.coordinates_file import read_coordinates
from scalselect.row_content import content_keys
from scalselect.run_folder import RunFolder
from scalselect.segments import shards_of
from scalselect.subspace.blocks import centred

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "examples"))
from build_demo import build_demo

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scalselect.coordinates_file import Coordinates
    from scalselect.records import DominantSubspace

THREADS = 1
HIDDEN = 96
CLUSTERS = 40
CENTRE_DIMENSIONS = 12
EXACT_SHARE, NEAR_SHARE = 0.2, 0.1
NEAR_NOISE = 0.05  # beside the length of what is copied: cosines of about 0.999


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPool:
    """What is chosen from and what choices are measured with; only rows with a score.

    Attributes
    ----------
    run
        The scored run folder, as a selection begins with it.
    subspace, coordinates
        As the folder has them; `coordinates.rows` are the pool positions of the rows.
    scores
        As written, float64 [rows].
    vectors
        Centred representations, float64 [rows, hidden].
    keys
        Of each row's content: image bytes and text, or the bytes of a vector that has neither, uint64 [rows, 2].
    groups
        One code for the known group of each row, int64 [rows]; None where there are no groups.
    """

    run: ScoredRun
    subspace: DominantSubspace
    coordinates: Coordinates
    scores: NDArray[np.float64]
    vectors: NDArray[np.float64]
    keys: NDArray[np.uint64]
    groups: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of pool.

    Attributes
    ----------
    title, description
        What the table says of it.
    make
        Builds the pool of a seed in an empty folder; the second argument says whether a small one will do.
    drawn
        Whether each seed has a pool of its own.
    """

    title: str
    description: str
    make: Callable[[Path, bool, int], ScoredPool]
    drawn: bool


def unequal_clusters(folder: Path, quick: bool, seed: int) -> ScoredPool:
    """Return clusters whose sizes fall as 1 / rank^1.2, in a few dimensions, with noise in all and a mean far off."""
    draw = np.random.default_rng([seed, 1])
    rows = 400 if quick else 4000
    weights = np.arange(1, CLUSTERS + 1) ** -1.2
    group = np.concatenate([np.arange(CLUSTERS), draw.choice(CLUSTERS, rows - CLUSTERS, p=weights / weights.sum())])
    centres = draw.normal(size=(CLUSTERS, CENTRE_DIMENSIONS))
    latent = centres[group] + 0.25 * draw.normal(size=(rows, CENTRE_DIMENSIONS))  # [rows, CENTRE_DIMENSIONS]
    directions = np.linalg.qr(draw.normal(size=(HIDDEN, CENTRE_DIMENSIONS)))[0]
    X = latent @ directions.T + 0.1 * draw.normal(size=(rows, HIDDEN)) + 20 * draw.normal(size=HIDDEN)
    mixed = draw.permutation(rows)
    return scored_vectors(folder, X[mixed], group[mixed])


def with_copies(folder: Path, quick: bool, seed: int) -> ScoredPool:
    """Return rows of falling spectrum and unequal lengths, of which some are exact copies and some near-copies."""
    draw = np.random.default_rng([seed, 2])
    rows = 400 if quick else 4000
    exact, near = int(EXACT_SHARE * rows), int(NEAR_SHARE * rows)
    originals = draw.normal(size=(rows - exact - near, HIDDEN)) * 0.85 ** np.arange(HIDDEN)
    originals *= draw.lognormal(sigma=0.4, size=(len(originals), 1))
    again = originals[draw.integers(len(originals), size=exact)]
    similar = originals[draw.integers(len(originals), size=near)]
    noise = draw.normal(size=similar.shape)
    noise *= NEAR_NOISE * np.linalg.norm(similar, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    X = np.concatenate([originals, again, similar + noise]) + draw.normal(size=HIDDEN)
    return scored_vectors(folder, X[draw.permutation(rows)], None)


def easy_vqa(folder: Path, quick: bool, _seed: int) -> ScoredPool:
    """Return representations of real questions by a tiny random LLaVA checkpoint; groups are the answers."""
    with contextlib.redirect_stdout(sys.stderr):
        build_demo(folder, 100 if quick else 3000)
    scalselect.represent(
        folder / "pool.json",
        model=folder / "checkpoint",
        output=folder / "run",
        vectors="vision+instruction",
        device="cpu",
        threads=THREADS,
        dataloader_workers=0,
    )
    scalselect.score(folder / "run")
    records = json.loads((folder / "pool.json").read_bytes())
    answers = np.array([record["conversations"][1]["value"] for record in records])
    return scored(RunFolder(folder / "run"), np.unique(answers, return_inverse=True)[1].astype(np.int64))


def digits(folder: Path, quick: bool, _seed: int) -> ScoredPool:
    """Return the 8 x 8 pixels of scikit-learn's handwritten digits as vectors; groups are the ten digits."""
    X, group = load_digits(return_X_y=True)
    rows = 400 if quick else len(X)
    return scored_vectors(folder, X[:rows], group[:rows])


def scored_vectors(folder: Path, X: NDArray[np.float64], groups: NDArray[np.int64] | None) -> ScoredPool:
    """Score vectors [rows, hidden] by the package, as `scalselect score --representations` does."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "X.npy", X.astype(np.float32))
    scalselect.score(representations=folder / "X.npy", output=folder / "run")
    return scored(RunFolder(folder / "run"), groups)


def scored(folder: RunFolder, groups: NDArray[np.int64] | None) -> ScoredPool:
    """Read what a run folder holds; `groups` are of all pool rows, int64 [pool]."""
    shards = shards_of(folder.require())
    subspace, coordinates = folder.read_subspace(), read_coordinates(folder.coordinates)
    table, rows = folder.read_scores(), coordinates.rows
    stored = folder.store.vectors_at(shards, rows)  # [rows, hidden]
    keys = content_keys(folder.store, shards)
    keys = keys[rows] if keys.any() else np.array([_key(vector) for vector in stored], dtype=np.uint64)
    return ScoredPool(
        run=ScoredRun(folder, shards, None, table),
        subspace=subspace,
        coordinates=coordinates,
        scores=table["leverage_score"].to_numpy()[rows],
        vectors=centred(stored, subspace),
        keys=keys,
        groups=None if groups is None else groups[rows],
    )


def _key(vector: NDArray[Any]) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.blake2b(vector.tobytes(), digest_size=16).digest(), dtype="<u8")


SOURCES = (
    Source(
        "unequal clusters",
        f"synthetic: {CLUSTERS} clusters whose sizes fall as 1 / rank^1.2, low rank plus noise; group: cluster",
        unequal_clusters,
        drawn=True,
    ),
    Source(
        "copies",
        f"synthetic: {EXACT_SHARE:.0%} exact copies, {NEAR_SHARE:.0%} near-copies (cosine about 0.999), low rank",
        with_copies,
        drawn=True,
    ),
    Source(
        "easy-VQA",
        "real pictures and questions, represented by a tiny random LLaVA checkpoint; group: answer",
        easy_vqa,
        drawn=False,
    ),
    Source("digits", "scikit-learn's handwritten digits, 8 x 8 pixels as vectors; group: digit", digits, drawn=False),
)
