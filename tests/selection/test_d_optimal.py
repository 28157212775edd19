import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import row_images

from scalselect.selection import d_optimal
from scalselect.selection.admission import Admission
from scalselect.selection.candidates import Candidates
from scalselect.selection.d_optimal import choose_d_optimal


def candidates_of(vision):
    vision = np.asarray(vision, dtype=np.float32)
    return Candidates(np.arange(len(vision)), np.zeros(len(vision)), np.zeros(len(vision)), vision)


def chosen(vision, n, taken=()):
    admission = Admission(len(vision))
    admission.include(np.array(taken, dtype=np.int64))
    return choose_d_optimal(candidates_of(vision), n, admission).tolist()


def plainly_chosen(vision, n, taken=()):
    """Greedy by the determinant itself, with a ridge far below the vectors."""
    rows = np.asarray(vision, dtype=np.float32).astype(np.float64)
    taken, new = list(taken), []
    matrix = 1e-10 * np.eye(rows.shape[1]) + rows[taken].T @ rows[taken]
    for _ in range(n):
        gains = [
            -np.inf if place in taken + new else np.linalg.slogdet(matrix + np.outer(row, row))[1]
            for place, row in enumerate(rows)
        ]
        best = np.flatnonzero(np.array(gains) >= max(gains) - 1e-7)[0]
        new.append(int(best))
        matrix += np.outer(rows[best], rows[best])
    return new


@pytest.fixture(params=[1, 3, 4096])
def _front(request, monkeypatch):
    """Look at all vectors after every choice, after some, or hardly ever: the same must come out."""
    monkeypatch.setattr(d_optimal, "_FRONT", request.param)


@pytest.mark.usefixtures("_front")
@pytest.mark.parametrize("seed", range(6))
def test_choices_are_those_of_the_plain_determinant(seed):
    rng = np.random.default_rng(seed)
    vision = rng.standard_normal((50, 5)) * np.exp(rng.standard_normal((50, 1)))
    assert chosen(vision, 35) == plainly_chosen(vision, 35)
    assert chosen(vision, 10, taken=[7, 3, 20]) == plainly_chosen(vision, 10, taken=[7, 3, 20])
    assert chosen(vision, 20, taken=range(0, 50, 2)) == plainly_chosen(vision, 20, taken=range(0, 50, 2))


def test_more_rows_than_the_front_holds_are_searched_as_exactly():
    rng = np.random.default_rng(5)
    vision = (rng.standard_normal((9_000, 6)) * np.exp(0.3 * rng.standard_normal((9_000, 1)))).astype(np.float32)
    got = chosen(vision, 200)
    rows = vision.astype(np.float64)
    basis = rows[got[:6]]
    for count in range(6):  # pivoted: each has the largest rest beside those before
        before = rows[got[:count]]
        rest = rows - rows @ np.linalg.pinv(before) @ before if count else rows
        assert got[count] == np.argmax(np.linalg.norm(rest, axis=1))
    scatter = basis.T @ basis
    for place in got[6:]:
        values = np.einsum("ij,jk,ik->i", rows, np.linalg.inv(scatter), rows, optimize=True)
        values[got[: got.index(place)]] = -np.inf
        assert place == np.argmax(values)
        scatter += np.outer(rows[place], rows[place])


@pytest.mark.usefixtures("_front")
@pytest.mark.parametrize("seed", range(4))
def test_candidates_that_do_not_fill_the_space_are_handled(seed):
    rng = np.random.default_rng(seed)
    vision = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 8))
    vision[4] = 0.0
    got = chosen(vision, 29)
    assert got[:3] == plainly_chosen(vision, 3)
    assert got == plainly_chosen(vision @ np.linalg.svd(vision)[2][:3].T, 29)
    assert 4 not in got  # a row of zeros adds nothing
    assert sorted(chosen(vision, 30)) == list(range(30))


@given(
    st.lists(st.tuples(*[st.integers(-1, 1)] * 3), min_size=2, max_size=14),
    st.data(),
)
@settings(max_examples=80)
def test_equal_gains_are_taken_in_pool_order(rows, data):
    n = data.draw(st.integers(1, len(rows) - 1))
    taken = data.draw(st.sets(st.integers(0, len(rows) - 1), max_size=len(rows) - n - 1))
    matrix = np.array(rows, dtype=np.float64)
    got = chosen(rows, n, sorted(taken))
    # Each choice in turn is the first of those that a plain look finds best.
    before = sorted(taken)
    for place in got:
        base = matrix[before]
        rest = [other for other in range(len(rows)) if other not in before]
        residual = [row @ (np.eye(3) - np.linalg.pinv(base) @ base) @ row for row in matrix[rest]]
        if max(residual) < 1e-9:
            residual = [row @ np.linalg.pinv(base.T @ base) @ row for row in matrix[rest]]
        assert place == rest[int(np.flatnonzero(np.array(residual) > max(residual) - 1e-9)[0])]
        before.append(place)


def test_mirrored_and_turned_rows_tie_whatever_rounding_says():
    angle = np.linspace(0, np.pi, 7, endpoint=False)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    vision = np.concatenate((circle, -circle)).astype(np.float32)
    assert chosen(np.repeat(vision[:1], 9, axis=0), 5) == [0, 1, 2, 3, 4]
    mirrored = chosen(vision[[0, 7, 3, 10]], 3)
    assert mirrored == chosen(-vision[[0, 7, 3, 10]], 3)
    assert mirrored[0] == 0


def test_images_that_have_their_share_pass_the_choice_on():
    rng = np.random.default_rng(1)
    vision = rng.standard_normal((12, 3))
    best = plainly_chosen(vision, 1)[0]
    lists = [[0] if place in (best, 5 if best != 5 else 6) else [place + 1] for place in range(12)]
    admission = Admission(12, row_images(lists), 1)
    got = choose_d_optimal(candidates_of(vision), 12 - 1, admission)
    other = (set(range(12)) - set(got.tolist())).pop()
    assert got[0] == best
    assert lists[other] == [0]
    assert admission.refused.sum() <= 1


def test_huge_clusters_of_equal_rows_and_small_pools_stay_exact():
    rng = np.random.default_rng(2)
    vision = np.repeat(rng.standard_normal((9, 4)) * np.array([1, 1e-3, 1, 1]), 40, axis=0)
    vision = vision[rng.permutation(360)].astype(np.float32)
    assert chosen(vision, 60) == plainly_chosen(vision, 60)
