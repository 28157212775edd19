"""Parts of a scoring: whoever does them, in whatever order, the sums and the scores are the same bits."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalselect
from inline_crew import work_inline
from scalselect import score_parts
from scalselect.config import ScoreConfig, score_config
from scalselect.errors import WorkError
from scalselect.run_folder import RunFolder
from scalselect.score_parts import Projection, ScoreParts
from scalselect.scores_file import scores_made_from
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.scatter import ScatterSums, shift_from
from shard_workers import Telling
from small_pools import promised_files
from small_scorings import EMPTY, NO_INSTRUCTION, PARTS, ROWS, STEPS, copy_of, make_parts_small, parts_of, run_of_parts


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    with pytest.MonkeyPatch.context() as patched:
        make_parts_small(patched)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run of four parts, scored by nobody."""
    return run_of_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """Return the promised files of the run, scored by one process."""
    folder = copy_of(run, tmp_path_factory.mktemp("whole"))
    scalselect.score(folder.path)
    return promised_files(folder.path)


@pytest.fixture
def mine(run, tmp_path):
    """Return a copy of the run that a test may change."""
    return copy_of(run, tmp_path)


def bits(sums):
    return None if sums is None else {name: array.tobytes() for name, array in sums.arrays().items()}


def all_sums(parts, kind="representations"):
    return [(rows.tolist(), bits(sums)) for rows, sums in parts.sums(kind, last=False)]


def subspaces_of(parts):
    found = []
    for kind in STEPS[:2]:
        sums = None
        for _, part in parts.sums(kind, last=False):
            if part is not None:
                sums = sums or ScatterSums(part.shift)
                sums.merge(part)
        found.append(dominant_subspace(sums, energy=0.9))
    return found


def joined(projections):
    found = list(projections)
    return {name: np.concatenate([getattr(one, name) for one in found]) for name in Projection.__slots__}


@given(st.integers(1, 20_000), st.integers(0, 1000))
def test_parts_cover_the_shards_once_and_in_order(shards, first):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(score_parts, "_SHARDS_A_PART", 16)
        parts = ScoreParts(RunFolder("nowhere"), range(first, first + shards), ScoreConfig(), {})
    spans = [parts._part(part) for part in range(len(parts))]
    assert list(itertools.chain(*spans)) == list(range(first, first + shards))
    assert all(spans)
    assert len(parts) <= 256
    assert len({len(span) for span in spans[:-1]}) <= 1
    # Up to 4096 shards they do not depend on the number of shards.
    assert len(spans[0]) == (min(shards, 16) if shards <= 4096 else -(-shards // 256))


@pytest.mark.parametrize(("shards", "number", "size"), [(16, 1, 16), (17, 2, 16), (4096, 256, 16), (4097, 241, 17)])
def test_more_than_4096_shards_make_larger_parts(monkeypatch, shards, number, size):
    monkeypatch.setattr(score_parts, "_SHARDS_A_PART", 16)
    parts = ScoreParts(RunFolder("nowhere"), range(shards), ScoreConfig(), {})
    assert (len(parts), len(parts._part(0))) == (number, size)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 70), st.sampled_from([np.float32, np.float64]))
def test_sums_as_arrays_are_the_same_sums(seed, hidden, rows, dtype):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(rows, hidden)) * 10.0 ** rng.integers(-6, 6) + rng.normal(size=hidden)).astype(dtype)
    more = rng.normal(size=(5, hidden)).astype(dtype)
    sums = ScatterSums(shift_from(X))
    sums.add(X)
    other = ScatterSums(shift_from(more))  # merging about another shift fills `recentred`
    other.add(more)
    sums.merge(other)
    again = ScatterSums.from_arrays({name: array.copy(order="C") for name, array in sums.arrays().items()})
    assert bits(again) == bits(sums)
    assert (again.rows, again.hidden) == (sums.rows, sums.hidden)
    for both in (sums, again):
        both.add(more)
    assert bits(again) == bits(sums)  # and as good to go on with
    assert again.scatter_about(again.mean).tobytes() == sums.scatter_about(sums.mean).tobytes()
    assert again.rounding_of_squares().tobytes() == sums.rounding_of_squares().tobytes()


@pytest.mark.parametrize("kind", STEPS[:2])
def test_sums_read_from_files_are_the_same_bits(mine, kind):
    computed = all_sums(parts_of(mine), kind)
    for part in range(PARTS):
        parts_of(mine).publish(kind, part)
    read = parts_of(mine)
    read._summed = pytest.fail
    assert all_sums(read, kind) == computed
    assert [sums is None for _, sums in computed] == [False, True, False, False]
    assert [len(rows) for rows, _ in computed][:3] == ([100, 0, 100] if kind == "representations" else [96, 0, 100])


def test_where_the_files_are_read_for_the_last_time_they_go_one_by_one(mine):
    parts = parts_of(mine)
    for part in range(PARTS):
        parts.publish("representations", part)
    sums = parts.sums("representations", last=True)
    left = [[parts.is_published("representations", part) for part in range(PARTS)] for _ in sums]
    assert left == [[False] * part + [True] * (PARTS - part) for part in range(PARTS)]
    assert list(parts.folder.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"normalise_rows": "on"}, {"standardise_columns": "on"}, {"centring": "off"}])
def test_which_parts_are_files_changes_nothing(run, options):
    config = score_config(options)
    with tempfile.TemporaryDirectory() as folder:
        mine = copy_of(run, Path(folder))
        plain = parts_of(mine, config)
        expected = [all_sums(plain, kind) for kind in STEPS[:2]]
        subspaces = subspaces_of(plain)
        projected = joined(plain.projections(subspaces))
        for present in itertools.product([False, True], repeat=PARTS):
            parts = parts_of(mine, config)
            parts.write_subspaces(subspaces)
            for step, part in itertools.product(STEPS, range(PARTS)):
                if present[part]:
                    parts_of(mine, config).publish(step, part)
            assert [all_sums(parts, kind) for kind in STEPS[:2]] == expected
            found = joined(parts.projections(subspaces))
            for name, array in projected.items():
                assert found[name].dtype == array.dtype
                assert found[name].tobytes() == array.tobytes()
            parts.remove()
            assert not mine.scoring.exists()


def test_a_projection_tells_of_each_scored_row_once(mine):
    parts = parts_of(mine)
    subspaces = subspaces_of(parts)
    found = joined(parts.projections(subspaces))
    scored = [row for row in range(ROWS) if row not in EMPTY]
    assert found["rows"].tolist() == scored
    assert found["instruction_rows"].tolist() == [row for row in scored if row not in NO_INSTRUCTION]
    assert found["leverage"].sum() == pytest.approx(subspaces[0].rank)
    assert (found["coordinates"].astype(float) ** 2).sum(axis=1) == pytest.approx(found["leverage"], rel=1e-5)


def test_subspaces_that_were_left_are_those_that_were_found(mine):
    parts = parts_of(mine)
    assert parts.read_subspaces() is None
    subspaces = subspaces_of(parts)
    parts.write_subspaces(subspaces)
    for found, subspace in zip(parts_of(mine).read_subspaces(), subspaces, strict=True):
        assert found.basis.tobytes() == subspace.basis.tobytes()
        assert found.mean.tobytes() == subspace.mean.tobytes()
    parts.remove()
    parts.write_subspaces([subspaces[0], None])
    assert parts_of(mine).read_subspaces()[1] is None


def test_without_subspaces_there_is_no_projection(mine):
    with pytest.raises(FileNotFoundError, match="the subspaces of this scoring are gone"):
        parts_of(mine).publish("projection", 0)


def test_parts_of_other_inputs_count_for_nothing(mine):
    others = parts_of(mine, score_config({"normalise_rows": "on"}))
    for part in range(PARTS):
        others.publish("representations", part)
    parts = parts_of(mine)
    assert not any(parts.is_published("representations", part) for part in range(PARTS))
    assert all_sums(parts) != all_sums(others)
    scalselect.score(mine.path)
    assert not mine.scoring.exists()  # theirs are gone as well


def test_a_part_that_is_there_is_not_done_again(mine, monkeypatch):
    parts_of(mine).publish("representations", 2)
    parts = parts_of(mine)
    monkeypatch.setattr(parts, "_summed", lambda *_: pytest.fail("done again"))
    parts.publish("representations", 2)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 100, None])
def test_a_damaged_part_is_done_again(mine, whole, damage):
    parts = parts_of(mine)
    expected = all_sums(parts)
    subspaces = subspaces_of(parts)
    projected = joined(parts.projections(subspaces))
    parts.write_subspaces(subspaces)
    for step, part in itertools.product(("representations", "projection"), range(PARTS)):
        parts.publish(step, part)
    for step in ("representations", "projection"):
        path = parts._path(step, 2)
        path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert all_sums(parts_of(mine)) == expected
    found = joined(parts_of(mine).projections(subspaces))
    assert all(found[name].tobytes() == array.tobytes() for name, array in projected.items())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no scores at all", "cut", "other"])
def test_what_scores_were_made_from_is_none_where_they_are_damaged(mine, tmp_path, content):
    scalselect.score(mine.path)
    inputs = mine.scores_as_written().inputs
    assert scores_made_from(mine.scores) == inputs
    if content == "cut":
        content = mine.scores.read_bytes()[:-9]
    if content == "other":
        pq.write_table(pq.read_table(mine.scores).replace_schema_metadata({"scalselect": "[]"}), mine.scores)
    else:
        mine.scores.write_bytes(content)
    assert scores_made_from(mine.scores) is None
    assert scores_made_from(tmp_path / "none.parquet") is None


def test_workers_score_as_one_process_does(mine, whole, monkeypatch):
    crews = work_inline(monkeypatch)
    progress = Telling()
    scalselect.score(mine.path, workers=3, progress=progress)
    assert promised_files(mine.path) == whole | logs_of(mine)
    assert "4 parts are scored by 3 workers" in progress.said
    assert [task for _, task in crews[0].given] == list(itertools.product(STEPS, range(PARTS)))
    assert not mine.scoring.exists()
    assert not (mine.path / ".claims").exists()


def logs_of(folder):
    return {f"logs/{path.name}": path.read_bytes() for path in folder.logs.iterdir()} if folder.logs.exists() else {}


def test_a_part_that_fails_at_every_worker_ends_it_and_the_next_call_goes_on(mine, whole, monkeypatch):
    work_inline(monkeypatch)

    def full(self, step, part):
        if (step, part) == ("projection", 2):
            raise OSError(5, "Input/output error")
        publish(self, step, part)

    publish = ScoreParts.publish
    monkeypatch.setattr(ScoreParts, "publish", full)
    with pytest.raises(WorkError, match=r"^part 2 of the scoring failed after 3 attempts: .*Input/output error"):
        scalselect.score(mine.path, workers=2)
    assert not mine.scores.exists()
    monkeypatch.setattr(ScoreParts, "publish", publish)
    scalselect.score(mine.path)
    assert {name: content for name, content in promised_files(mine.path).items() if "logs/" not in name} == whole
    assert not mine.scoring.exists()
