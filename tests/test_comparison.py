"""Comparing two run folders: what differs is found, what cannot be compared says why, and nothing is written."""

import json

import numpy as np
import pyarrow as pa
import pytest

import scalselect
from scalselect.errors import RunFolderError
from scalselect.records import DominantSubspace
from scalselect.run_folder import RunFolder
from scalselect.scores_file import SCORES_SCHEMA
from small_diagnoses import two_clusters, write_shards
from small_pools import command

ROWS = 40


def vectors(seed=0, hidden=6):
    return np.random.default_rng(seed).normal(size=(ROWS, hidden)) * np.arange(hidden, 0, -1)


def write_run(path, X=None, *, chosen=None, skipped=(), reasons=None, k=2, select=None, score=None, **represent):
    """Write a run folder that was scored on vectors X [rows, hidden], and perhaps selected."""
    X = vectors() if X is None else X
    run = RunFolder(path)
    keys = {"rows": len(X), "shard_size": 100, "threads": 1, "data_sha256": "d0", "layer": 0, "model_weights": "w0"}
    run.create(
        {
            "represent": {**keys, **represent},
            "score": {"energy": 0.9, **(score or {})},
            "select": None if chosen is None else {"budget": str(len(chosen)), **(select or {})},
            "data": {"path": None},
        }
    )
    has = np.array([row not in skipped for row in range(len(X))])
    U, s, Vt = np.linalg.svd(X[has] - X[has].mean(axis=0), full_matrices=False)
    subspace = DominantSubspace(
        mean=X[has].mean(axis=0),
        basis=np.ascontiguousarray(Vt[:k].T),
        singular_values=s[:k],
        energy=float(np.sum(s[:k] ** 2) / np.sum(s**2)),
        gap=float(s[k - 1] / s[k]),
        largest_dimension_energy=0.5,
        rows=int(has.sum()),
        spectrum=s,
        total_energy=float(np.sum(s**2)),
        scale=np.ones(X.shape[1]) if (score or {}).get("standardise_columns") == "on" else None,
    )
    run.write_subspace(subspace, {})
    scores = np.zeros(len(X))
    scores[has] = np.sum(U[:, :k] ** 2, axis=1)
    columns = {
        "row": np.arange(len(X)),
        "source": ["pool"] * len(X),
        "id": [None] * len(X),
        "id_type": ["absent"] * len(X),
        "status": ["scored" if here else "skipped" for here in has],
        "reason": [(reasons or {}).get(row) for row in range(len(X))],
        "leverage_score": pa.array(scores, mask=~has),
        "rank": pa.nulls(len(X), pa.int64()),
        "selected": [None if chosen is None else row in chosen for row in range(len(X))],
        "stratum": pa.nulls(len(X), pa.string()),
    }
    run.write_scores(pa.table(columns, schema=SCORES_SCHEMA), {})
    return run.path


def test_a_run_agrees_with_itself(tmp_path):
    run = write_run(tmp_path / "a", chosen=range(8))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = scalselect.compare(run, str(run))
    assert found.rank_correlation == pytest.approx(1)
    assert [item.share for item in found.top] == [1, 1, 1, 1]
    assert (found.overlap.jaccard, found.overlap.at_random) == (1, pytest.approx(8 * 8 / ROWS))
    np.testing.assert_allclose(found.angles, 0, atol=1e-6)
    assert (found.options, found.notes) == ({}, ())
    assert found.rows == found.scored_in_both.size == ROWS
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_another_layer_another_energy_another_choice(tmp_path):
    a = write_run(tmp_path / "a", chosen=range(8), skipped=[39])
    b = write_run(tmp_path / "b", vectors(1), chosen=range(4, 16), skipped=[0, 1], k=3, score={"energy": 0.95}, layer=5)
    found = scalselect.compare(a, b)
    assert found.options == {
        "represent": {"layer": (0, 5)},
        "score": {"energy": (0.9, 0.95)},
        "select": {"budget": ("8", "12")},
    }
    assert found.scored_only_in_a.tolist() == [0, 1]
    assert found.scored_only_in_b.tolist() == [39]
    assert found.scored_in_both.tolist() == list(range(2, 39))
    assert (found.overlap.shared, found.overlap.share_of_a) == (4, 0.5)
    assert found.overlap.at_random == pytest.approx(37 * 8 / 39 * 12 / 38)
    assert found.angles.shape == (2,)
    assert found.angles.max() > 1
    assert -0.9 < found.rank_correlation < 0.9
    assert (found.subspace_a["k"], found.subspace_b["k"]) == (2, 3)
    swapped = scalselect.compare(b, a)
    assert swapped.rank_correlation == pytest.approx(found.rank_correlation)
    np.testing.assert_allclose(swapped.angles, found.angles, atol=1e-9)


def test_rows_that_were_barred_could_not_be_drawn(tmp_path):
    reasons = {**dict.fromkeys(range(10), "excluded"), 10: "duplicate_of:17", 11: "max_per_image"}
    a = write_run(tmp_path / "a", chosen=range(20, 29), reasons=reasons)
    found = scalselect.compare(a, write_run(tmp_path / "b", chosen=range(20)))
    assert found.overlap.at_random == pytest.approx(29 * 9 / 29 * 20 / 40)


@pytest.mark.parametrize(
    ("first", "second", "where"), [(None, range(3), "A"), (range(3), None, "B"), (None, None, "A and B")]
)
def test_nothing_selected(tmp_path, first, second, where):
    found = scalselect.compare(write_run(tmp_path / "a", chosen=first), write_run(tmp_path / "b", chosen=second))
    assert found.overlap is None
    assert found.overlap_reason == f"nothing was selected in {where}"
    assert found.rank_correlation == pytest.approx(1)
    assert "select" not in found.options


def test_other_sizes_and_units_have_no_angles(tmp_path):
    a = write_run(tmp_path / "a")
    wide = scalselect.compare(a, write_run(tmp_path / "wide", vectors(hidden=9)))
    assert (wide.angles, wide.angles_reason) == (None, "vectors of 6 and 9 dimensions have no angle")
    scaled = scalselect.compare(a, write_run(tmp_path / "scaled", score={"standardise_columns": "on"}))
    assert scaled.angles is None
    assert "standardised in one run alone" in scaled.angles_reason


def test_another_model_of_the_same_size_is_noted(tmp_path):
    found = scalselect.compare(write_run(tmp_path / "a"), write_run(tmp_path / "b", model_weights="w1"))
    assert found.angles is not None
    assert "the models differ" in found.notes[0]


def test_vectors_made_elsewhere_need_as_many_rows_alone(tmp_path):
    a = write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", data_sha256="vectors", representations="X.npy")
    assert "taken to be the same samples" in scalselect.compare(a, b).notes[0]
    short = write_run(tmp_path / "c", vectors()[:30], data_sha256="vectors", representations="X.npy")
    with pytest.raises(RunFolderError, match=r"rows: 40 in .*a, 30 in .*c"):
        scalselect.compare(a, short)


def test_runs_of_different_data_are_refused(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", vectors()[:30], data_sha256="d1")
    with pytest.raises(RunFolderError, match="not of the same data") as caught:
        scalselect.compare(a, b)
    assert f"rows: 40 in {a}, 30 in {b}\n  data_sha256: d0 in {a}, d1 in {b}" in str(caught.value)


@pytest.mark.parametrize("same", [True, False])
def test_other_files_with_the_same_rows_are_the_same_data(tmp_path, same):
    """A pool that grew consists of other files than one that was whole from the beginning."""
    X = two_clusters(60)
    a, b = write_run(tmp_path / "a", X), write_run(tmp_path / "b", X, data_sha256="d1", skipped=[5])
    for path, word in ((a, "text"), (b, "text" if same else "other")):
        write_shards(RunFolder(path), X, shard_size=100, text=lambda row, word=word: f"{word}-{row}")
    if same:
        assert "every row scored in both has the same images" in scalselect.compare(a, b).notes[0]
    else:
        with pytest.raises(RunFolderError, match="data_sha256: d0"):
            scalselect.compare(a, b)


def test_folders_that_cannot_be_compared(tmp_path):
    a = write_run(tmp_path / "a")
    with pytest.raises(RunFolderError, match=r"not a run folder.*nothing"):
        scalselect.compare(a, tmp_path / "nothing")
    unscored = RunFolder(tmp_path / "unscored")
    unscored.create(json.loads((a / "run.json").read_bytes()))
    with pytest.raises(RunFolderError, match="no scores yet"):
        scalselect.compare(unscored.path, a)


def test_too_little_to_compare(tmp_path):
    a = write_run(tmp_path / "a", skipped=range(3, ROWS), k=1)
    found = scalselect.compare(a, write_run(tmp_path / "b", skipped=range(3)))
    assert found.rank_correlation is None
    assert (found.top, found.scored_in_both.size) == ((), 0)


def test_the_command(tmp_path, capsys):
    a = write_run(tmp_path / "run a", chosen=range(8), model_weights="0123456789abcdef" * 4)
    b = write_run(tmp_path / "b", vectors(1), chosen=range(4, 16), score={"energy": 0.95})
    assert command("compare", a, b) == 0
    text = capsys.readouterr().out
    for line in text.splitlines():
        assert len(line) <= 80 or " " not in line[11:] or str(tmp_path) in line, line
        assert line == line.rstrip()
    assert f"A          {a}\nB          {b}\n" in text
    assert "score energy: 0.9 in A, 0.95 in B" in text
    assert "8 in A, 12 in B, 4 in both: 50.0% of A, 33.3% of B" in text
    assert "note       the models differ" in text
    assert command("compare", a, b, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["options"]["score"] == {"energy": {"a": 0.9, "b": 0.95}}
    assert content["overlap"]["shared"] == 4
    assert len(content["angles"]) == 2
    assert content["scored"] == {"both": ROWS, "only_a": 0, "only_b": 0}


def test_the_command_where_little_can_be_compared(tmp_path, capsys):
    a = write_run(tmp_path / "a", skipped=range(3, ROWS), k=1)
    b = write_run(tmp_path / "b", vectors(hidden=20), skipped=range(3), k=12)
    assert command("compare", a, b) == 0
    text = capsys.readouterr().out
    assert "chosen     not compared: nothing was selected in A and B" in text
    assert "scores     no order to compare" in text
    assert "angles     not compared: vectors of 6 and 20 dimensions have no angle" in text
    assert command("compare", b, b) == 0
    assert "angles     12 between 0.00 and 0.00 degrees, median 0.00; 12" in capsys.readouterr().out
    assert command("compare", a, b, "--json") == 0
    assert json.loads(capsys.readouterr().out)["overlap"] is None


def test_misuse_of_the_command(tmp_path, capsys):
    a = write_run(tmp_path / "a")
    assert command("compare", a, tmp_path / "b") == 2
    assert command("compare", a) == 2
    assert command("compare", a, write_run(tmp_path / "other", vectors()[:30], data_sha256="d1")) == 2
    assert "d0" in capsys.readouterr().err
