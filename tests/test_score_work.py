"""Scores of a run folder are those of a float64 SVD, on ordinary vectors and on every hard case."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import scalselect
from scalselect.coordinates_file import read_coordinates
from scalselect.errors import OptionError, ScalselectWarning, WorkError
from scalselect.own_vectors_work import import_vectors
from scalselect.progress import Silent
from scalselect.run_folder import RunFolder
from small_pools import command, promised_files


def plain_scores(X, energy=0.9):
    X = np.asarray(X, dtype=np.float64)
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    k = int(np.argmax(np.cumsum(s**2) / np.sum(s**2) >= energy)) + 1
    return (U[:, :k] ** 2).sum(axis=1), k


def low_rank(rng, rows=300, hidden=40, rank=5):
    X = (rng.normal(size=(rows, rank)) * np.linspace(3, 1, rank)) @ rng.normal(size=(rank, hidden))
    return (X + 0.1 * rng.normal(size=(rows, hidden))).astype(np.float32)


def spread_of(X):
    return np.float32(np.sqrt(X.var(axis=0).sum()))


def hard_pools():
    rng = np.random.default_rng(17)
    plain = low_rank(rng)
    constant = plain.copy()
    constant[:, [0, 5]] = np.float32([0.1, 1e4])
    outlier = plain.copy()
    outlier[:, 7] *= 40
    return {
        "plain": plain,
        "mean 300 times the spread": plain + 300 * spread_of(plain),
        "exact duplicates": plain[rng.integers(0, 60, size=500)],
        "constant columns": constant,
        "fewer rows than dimensions": low_rank(rng, rows=30, hidden=700),
        "rank deficient": (rng.integers(-4, 5, size=(150, 4)) @ rng.integers(-4, 5, size=(4, 450))).astype(np.float32),
        "one dimension owns the energy": outlier,
        "two rows": plain[:2],
        "slow decay": (rng.normal(size=(900, 300)) * np.arange(1, 301) ** -0.4).astype(np.float32),
    }


def scored(tmp_path, X, name="X.npy", **options):
    np.save(tmp_path / name, X)
    run = tmp_path / "run"
    subspace = scalselect.score(representations=tmp_path / name, output=run, **options)
    return subspace, pq.read_table(run / "scores.parquet")["leverage_score"].to_numpy()


@pytest.mark.parametrize("pool", hard_pools())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_cases(tmp_path, pool, dtype):
    X = hard_pools()[pool].astype(dtype)
    expected, k = plain_scores(X)
    subspace, scores = scored(tmp_path, X)
    assert subspace.rank == k
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-10 * expected.max())
    assert scores.sum() == pytest.approx(k, rel=1e-10)


@pytest.mark.parametrize("side", [-1e-6, 1e-6])
def test_energy_within_a_millionth_of_the_threshold(tmp_path, side):
    rng = np.random.default_rng(1)
    U = np.linalg.qr(np.concatenate([np.ones((90, 1)), rng.normal(size=(90, 5))], axis=1))[0][:, 1:]
    X = (U * np.sqrt([6.0, 2.0, 1.0, 0.6, 0.4])) @ np.linalg.qr(rng.normal(size=(12, 5)))[0].T
    expected, k = plain_scores(X, 0.9 + side)
    subspace, scores = scored(tmp_path, X, energy=0.9 + side)
    assert subspace.rank == k == (3 if side < 0 else 4)
    np.testing.assert_allclose(scores, expected, rtol=1e-10, atol=1e-12)


def test_rows_that_are_not_finite_are_skipped_and_counted(tmp_path, capsys):
    X = low_rank(np.random.default_rng(2))
    X[3, 0], X[17, 5], X[18] = np.nan, np.inf, -np.inf
    good = np.isfinite(X).all(axis=1)
    _, scores = scored(tmp_path, X)
    assert np.isnan(scores[~good]).all()
    np.testing.assert_allclose(scores[good], plain_scores(X[good])[0], rtol=1e-10)
    assert command("select", tmp_path / "run", "--budget", "10%") == 0
    printed = capsys.readouterr().out
    assert "skipped    3 (not_finite 3)" in printed
    assert json.loads((tmp_path / "run" / "selection.json").read_text())["budget"]["rows"] == 29


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((1, 6)), "at least two representations: 1 "),
        (np.full((50, 6), 0.1, np.float32), "all 50 representations are equal"),
        (np.full((50, 6), np.nan), "no row of the pool has a representation: 50 skipped"),
    ],
)
def test_vectors_that_no_score_can_come_of(tmp_path, X, message):
    with pytest.raises(WorkError, match=message):
        scored(tmp_path, X)
    assert not (tmp_path / "run" / "scores.parquet").exists()


def test_singular_values_that_nearly_coincide_are_told_everywhere(tmp_path, capsys):
    rng = np.random.default_rng(3)
    U = np.linalg.qr(np.concatenate([np.ones((90, 1)), rng.normal(size=(90, 4))], axis=1))[0][:, 1:]
    X = (U * [9.0, 1.0002, 1.0, 0.9]) @ np.linalg.qr(rng.normal(size=(12, 4)))[0].T
    np.save(tmp_path / "X.npy", X)
    words = ("score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "run", "--energy", 0.975)
    assert command(*words) == 0
    assert "not unique" in capsys.readouterr().out
    assert command("select", tmp_path / "run", "--budget", 9) == 0
    assert "not unique" in " ".join(capsys.readouterr().out.split())
    assert any("not unique" in text for text in json.loads((tmp_path / "run/selection.json").read_text())["warnings"])
    subspace = RunFolder(tmp_path / "run").read_subspace()
    assert subspace.gap == pytest.approx(1.0002, rel=1e-9)
    assert subspace.spectrum == pytest.approx([9.0, 1.0002, 1.0, 0.9, *[0.0] * 8], abs=1e-6)


def test_coordinates_are_the_rows_of_u(tmp_path):
    X = low_rank(np.random.default_rng(4))
    X[5] = np.nan
    subspace, scores = scored(tmp_path, X)
    stored = read_coordinates(tmp_path / "run" / "coordinates.safetensors")
    assert stored.rows.tolist() == [row for row in range(300) if row != 5]
    np.testing.assert_allclose((stored.vision.astype(float) ** 2).sum(axis=1), scores[stored.rows], rtol=1e-5)
    np.testing.assert_allclose(stored.norms, np.linalg.norm(X[stored.rows] - subspace.mean, axis=1), rtol=1e-6)
    assert stored.instruction is None


def test_instruction_vectors_get_a_subspace_of_their_own(tmp_path):
    rng = np.random.default_rng(5)
    X, T = low_rank(rng), low_rank(rng, rank=3)
    T[[2, 9]] = np.nan  # rows without an instruction
    save_file({"representations": X, "instruction_representations": T}, tmp_path / "X.safetensors")
    scalselect.score(representations=tmp_path / "X.safetensors", output=tmp_path / "run")
    has = ~np.isnan(T).any(axis=1)
    expected, k = plain_scores(T[has])
    found = load_file(tmp_path / "run" / "instruction_subspace.safetensors")
    stored = read_coordinates(tmp_path / "run" / "coordinates.safetensors")
    assert found["basis"].shape == (40, k)
    assert not stored.instruction[[2, 9]].any()
    np.testing.assert_allclose((stored.instruction[has].astype(float) ** 2).sum(axis=1), expected, rtol=1e-4)


def test_instructions_that_are_all_the_same_only_rule_out_what_needs_them(tmp_path):
    rng = np.random.default_rng(6)
    save_file(
        {"representations": low_rank(rng), "instruction_representations": np.ones((300, 40), np.float32)},
        tmp_path / "X.safetensors",
    )
    scalselect.score(representations=tmp_path / "X.safetensors", output=tmp_path / "run")
    assert not (tmp_path / "run" / "instruction_subspace.safetensors").exists()
    scalselect.select(tmp_path / "run", budget=9)
    with pytest.raises(OptionError, match="needs vectors of the instructions"):
        scalselect.select(tmp_path / "run", budget=9, strategy="joint-leverage-sampling")


def test_options_stay_until_others_are_given(tmp_path):
    X = low_rank(np.random.default_rng(7))
    run = tmp_path / "run"

    def recorded():
        return {name: value for name, value in json.loads((run / "run.json").read_text())["score"].items() if value}

    assert scored(tmp_path, X, rank=7, normalise_rows="on")[0].rank == 7
    assert scalselect.score(run).rank == 7
    assert scalselect.score(run, centring="off").rank == 7
    assert recorded()["normalise_rows"] == "on"
    assert recorded()["centring"] == "off"
    assert scalselect.score(run, energy=0.5).rank < 7
    assert "rank" not in recorded()
    assert scalselect.score(run, rank=2).rank == 2
    plain = scalselect.score(run, energy=0.9, centring="on", normalise_rows="off")
    assert plain.rank == plain_scores(X)[1]


@pytest.mark.parametrize(
    "given", [{}, {"run_dir": "a", "representations": "b"}, {"representations": "b"}, {"run_dir": "a", "output": "c"}]
)
def test_a_folder_or_vectors_and_a_place_for_them(given):
    with pytest.raises(OptionError, match="needs a run folder, or `representations` with the `output` folder"):
        scalselect.score(**given)


def test_scoring_again_after_a_lost_file_gives_the_same(tmp_path):
    X = low_rank(np.random.default_rng(8))
    scored(tmp_path, X)
    before = promised_files(tmp_path / "run")
    for name in ("coordinates.safetensors", "subspace.safetensors"):
        (tmp_path / "run" / name).unlink()
        with pytest.warns(ScalselectWarning, match=f"{name} is not what was written with the scores: scoring again"):
            scalselect.score(tmp_path / "run")
        assert promised_files(tmp_path / "run") == before
    (tmp_path / "run" / "scores.parquet").unlink()
    scalselect.score(tmp_path / "run")
    assert promised_files(tmp_path / "run") == before


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_permuted_rows_have_the_same_scores_and_the_same_rows_are_chosen(seed, shard_size):
    rng = np.random.default_rng(seed)
    X = low_rank(rng, rows=97)
    order = rng.permutation(len(X))
    chosen, scores = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, pool in (("as it is", X), ("permuted", X[order])):
            np.save(Path(folder, f"{name}.npy"), pool)
            run = RunFolder(Path(folder, name))
            import_vectors(run, Path(folder, f"{name}.npy"), shard_size=shard_size, progress=Silent())
            scalselect.score(run.path)
            result = scalselect.select(run.path, budget=20)
            scores.append(result.scores)
            chosen.append(result.rows)
    np.testing.assert_allclose(scores[1], scores[0][order], rtol=1e-10)
    assert sorted(order[chosen[1]]) == chosen[0].tolist()
