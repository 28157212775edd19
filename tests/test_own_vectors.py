"""Vectors made elsewhere become a run folder: the same scores as of the plain method, and every row accounted for."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from scalselect.config import ScoreConfig
from scalselect.dataset.vector_arrays import ArrayVectors
from scalselect.errors import DataChangedError, DatasetError, RunFolderError
from scalselect.own_vectors_work import import_vectors
from scalselect.progress import Silent
from scalselect.run_folder import RunFolder
from scalselect.score_work import score_run
from scalselect.storage import sha256_of_file

ROWS, HIDDEN = 50, 6


class Told(Silent):
    """Remembers what was said."""

    def __init__(self):
        self.lines, self.statuses, self.started = [], [], None

    def say(self, line):
        self.lines.append(line)

    def start(self, total, done, skipped):
        self.started = (total, done, skipped)

    def row(self, status):
        self.statuses.append(status)


@pytest.fixture(name="X")
def vectors():
    rng = np.random.default_rng(8)
    return rng.normal(size=(ROWS, HIDDEN)) * np.arange(1, HIDDEN + 1) + 40


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def saved(path, X):
    np.save(path, X)
    return path


def bring_in(folder, path, **options):
    told = Told()
    import_vectors(folder, path, progress=told, **{"shard_size": 8, "threads": 1, **options})
    return told


def scores_of(folder):
    with folder.claimed():
        score_run(folder, ScoreConfig(), Silent())
    return folder.read_scores()


def plain_scores(X, energy=0.9):
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    k = int(np.argmax(np.cumsum(s**2) >= energy * np.sum(s**2))) + 1
    return (U[:, :k] ** 2).sum(axis=1)


def contents_of(folder):
    """Return the files of all shards but the reports, which hold seconds."""
    files = sorted((folder.path / "representations").iterdir())
    return {path.name: path.read_bytes() for path in files if path.suffix != ".json"}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_are_those_of_the_method(tmp_path, folder, X, dtype):
    X = X.astype(dtype)
    told = bring_in(folder, saved(tmp_path / "mine.npy", X))
    table = scores_of(folder)
    np.testing.assert_allclose(table["leverage_score"].to_numpy(), plain_scores(X.astype(np.float64)), rtol=1e-10)
    assert table["row"].to_pylist() == list(range(ROWS))
    assert set(table["source"].to_pylist()) == {"mine"}
    assert set(table["id_type"].to_pylist()) == {"absent"}
    assert told.started == (ROWS, 0, 0)
    assert told.statuses == ["scored"] * ROWS
    assert told.lines[0].startswith(f"vectors: 50 rows of 6 {'float64' if dtype == np.float64 else 'float32'} from ")


def test_float64_keeps_the_digits_that_float32_would_lose(tmp_path, folder, X):
    X = X + 1e8  # in float32 the spread would be gone
    bring_in(folder, saved(tmp_path / "X.npy", X))
    assert folder.store.representations(0)[1].dtype == np.float64
    np.testing.assert_allclose(scores_of(folder)["leverage_score"].to_numpy(), plain_scores(X), rtol=1e-6)


def test_run_json_says_what_the_vectors_are(tmp_path, folder, X):
    path = saved(tmp_path / "mine.npy", X)
    bring_in(folder, path, shard_size=None, threads=None)
    run = folder.require()
    assert run["represent"] == {
        "representations": "mine.npy",
        "data_format": "npy",
        "data_sha256": sha256_of_file(path),
        "data_bytes": path.stat().st_size,
        "rows": ROWS,
        "hidden": HIDDEN,
        "dtype": "float64",
        "vectors": "vision",
        "limit": None,
        "shard_size": 10_000,
        "threads": run["represent"]["threads"],
        "numerics_version": 1,
    }
    assert run["represent"]["threads"] >= 1
    assert run["data"] == {"path": None, "source": "mine"}
    assert (run["score"], run["select"], run["model"]) == (None, None, None)
    report = folder.store.report(0)
    assert (report.start, report.stop, report.device, report.counts) == (0, ROWS, "none", {"scored": ROWS})


def test_shards_hold_about_64_mib(tmp_path, folder):
    np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float64, (3, 2**21)).flush()  # 16 MiB a row, never written
    bring_in(folder, tmp_path / "X.npy", shard_size=None)
    assert folder.require()["represent"]["shard_size"] == 4


def test_ids_come_from_the_table(tmp_path, folder, X):
    columns = {"id": [f"{row:03d}" for row in range(ROWS)], **{f"x{j}": X[:, j] for j in range(HIDDEN)}}
    pq.write_table(pa.table(columns), tmp_path / "X.parquet", row_group_size=13)
    bring_in(folder, tmp_path / "X.parquet")
    table = scores_of(folder)
    assert table["id"].to_pylist() == columns["id"]
    assert set(table["id_type"].to_pylist()) == {"string"}
    np.testing.assert_allclose(table["leverage_score"].to_numpy(), plain_scores(X), rtol=1e-10)


def test_rows_that_are_not_finite_are_skipped_and_counted(tmp_path, folder, X):
    X[7, 2], X[8, 0], X[8, 5], X[49, 1] = np.nan, np.inf, -np.inf, -np.inf
    told = bring_in(folder, saved(tmp_path / "X.npy", X))
    table = scores_of(folder)
    bad = [7, 8, 49]
    reasons = table["reason"].to_pylist()
    assert [row for row in range(ROWS) if table["status"][row].as_py() == "skipped"] == bad
    assert {reasons[row] for row in bad} == {"not_finite"}
    assert set(reasons) == {"not_finite", None}
    good = np.setdiff1d(np.arange(ROWS), bad)
    scores = table["leverage_score"].to_numpy()
    np.testing.assert_allclose(scores[good], plain_scores(X[good]), rtol=1e-10)
    assert np.isnan(scores[bad]).all()
    assert told.statuses.count("skipped") == 3


def test_second_vectors_are_stored_and_may_be_absent(tmp_path, folder, X):
    second = X[::-1].copy()
    second[3] = np.nan  # no second vector
    second[5, 0] = np.nan  # half a one
    second[6] = np.inf
    arrays = {"representations": X, "instruction_representations": second}
    safetensors.numpy.save_file(arrays, tmp_path / "X.safetensors")
    bring_in(folder, tmp_path / "X.safetensors")
    assert folder.require()["represent"]["vectors"] == "vision+instruction"
    rows, vectors = folder.store.representations(0)
    assert rows.tolist() == [0, 1, 2, 3, 4, 7]
    np.testing.assert_array_equal(vectors, X[rows])
    np.testing.assert_array_equal(folder.store.instruction_representations(0), second[rows])


def test_exact_copies_tie_whatever_shard_they_lie_in(tmp_path, folder, X):
    X = X[np.arange(ROWS) % 7]
    bring_in(folder, saved(tmp_path / "X.npy", X))
    scores = scores_of(folder)["leverage_score"].to_numpy()
    for copy in range(7):
        assert len(set(scores[copy::7])) == 1


def test_the_same_file_again_changes_nothing(tmp_path, folder, X):
    path = saved(tmp_path / "X.npy", X)
    bring_in(folder, path)
    scores_of(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()}
    told = bring_in(folder, path, shard_size=None, threads=None)  # as recorded
    assert told.statuses == []
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()} == before


def test_an_interrupted_import_continues(tmp_path, folder, X, monkeypatch):
    X[3] = np.nan
    path = saved(tmp_path / "X.npy", X)
    read = ArrayVectors.read

    def read_until(self, start, stop):
        if start == 24:
            raise KeyboardInterrupt
        return read(self, start, stop)

    with monkeypatch.context() as patched:
        patched.setattr(ArrayVectors, "read", read_until)
        with pytest.raises(KeyboardInterrupt):
            bring_in(folder, path)
    assert folder.store.is_published(2)
    assert not folder.store.is_published(3)
    told = bring_in(folder, path)
    assert told.started == (ROWS, 24, 1)
    assert len(told.statuses) == ROWS - 24
    whole = RunFolder(tmp_path / "whole")
    bring_in(whole, path)
    assert contents_of(folder) == contents_of(whole)
    np.testing.assert_array_equal(
        scores_of(folder)["leverage_score"].to_numpy(), scores_of(whole)["leverage_score"].to_numpy()
    )


def test_another_file_is_refused_naming_both_hashes(tmp_path, folder, X):
    path = saved(tmp_path / "X.npy", X)
    bring_in(folder, path)
    before, first = contents_of(folder), sha256_of_file(path)
    X[9, 1] += 1
    saved(path, X)
    with pytest.raises(RunFolderError) as raised:
        bring_in(folder, path)
    assert f"data_sha256: '{first}' in the run folder, '{sha256_of_file(path)}' in this call" in str(raised.value)
    assert contents_of(folder) == before


@pytest.mark.parametrize(("option", "value"), [("shard_size", 9), ("threads", 2)])
def test_other_options_are_refused(tmp_path, folder, X, option, value):
    path = saved(tmp_path / "X.npy", X)
    bring_in(folder, path)
    with pytest.raises(RunFolderError, match=f"{option}: . in the run folder, {value} in this call"):
        bring_in(folder, path, **{option: value})


def test_the_folder_of_a_model_is_refused(tmp_path, folder, X):
    represent = {"rows": ROWS, "shard_size": 8, "threads": 1, "model_weights": "abc"}
    folder.create({"represent": represent, "data": {"path": "pool.json", "source": "pool"}})
    with pytest.raises(RunFolderError, match="model_weights: 'abc' in the run folder, not given in this call"):
        bring_in(folder, saved(tmp_path / "X.npy", X))
    assert not (folder.path / "representations").exists()


def test_misuse_writes_nothing(tmp_path, folder, X):
    with pytest.raises(DatasetError):
        bring_in(folder, saved(tmp_path / "X.npy", X[0]))
    assert not folder.path.exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds files but no run\.json"):
        bring_in(folder, saved(tmp_path / "X.npy", X))


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path, folder, X, monkeypatch):
    path = saved(tmp_path / "X.npy", X)
    read = ArrayVectors.read

    def read_and_change(self, start, stop):
        block = read(self, start, stop)
        if start == 16:
            saved(path, X[:40])
        return block

    monkeypatch.setattr(ArrayVectors, "read", read_and_change)
    with pytest.raises(DataChangedError, match=f"vectors changed while they were read: {path}"):
        bring_in(folder, path)
    assert folder.store.is_published(1)
    assert not folder.store.is_published(2)


def test_nothing_heavy_is_loaded(tmp_path, X):
    code = (
        "import sys; from scalselect.own_vectors_work import import_vectors; from scalselect.progress import Silent; "
        "from scalselect.run_folder import RunFolder; "
        "import_vectors(RunFolder(sys.argv[2]), sys.argv[1], progress=Silent()); "
        "print([name for name in ('torch', 'transformers', 'sklearn', 'ray') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, saved(tmp_path / "X.npy", X), tmp_path / "run"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
    assert json.loads((tmp_path / "run" / "run.json").read_bytes())["represent"]["rows"] == ROWS
