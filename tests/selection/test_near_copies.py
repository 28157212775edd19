from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalselect.selection import near_copies, sketches
from scalselect.selection.near_copies import find_near_copies


def shortened(vectors, directions):
    """Centred vectors as selection gets them: coordinates on the dominant directions, norms, and a counting reader."""
    axes = np.linalg.svd(vectors, full_matrices=False)[2][:directions]
    coordinates = (vectors.astype(np.float64) @ axes.T).astype(np.float32)
    seen = SimpleNamespace(read=0, most=0)

    def vectors_at(places):
        assert (np.diff(places) > 0).all()
        seen.read += len(places)
        seen.most = max(seen.most, len(places))
        return vectors[places]

    return coordinates, np.linalg.norm(vectors.astype(np.float64), axis=1), vectors_at, seen


def plain_near_copies(vectors, order, bound, images=None):
    """The leader rule by the matrix of all cosines."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    unit = vectors / np.maximum(norms, 1e-300)[:, None]
    near = unit @ unit.T >= bound - 1e-6
    near[norms == 0] = near[:, norms == 0] = False
    copy_of, kept, same_images = np.full(len(vectors), -1), [], 0
    for row in order:
        earlier = [other for other in kept if near[row, other]]
        barring = [other for other in earlier if images is None or images[other] != images[row]]
        if barring:
            copy_of[row] = barring[0]
        else:
            kept.append(row)
            same_images += bool(earlier)
    return copy_of.tolist(), same_images


def noisy_clusters(rng, rows, hidden, clusters, noise):
    """Vectors around a few directions, some of them zero and some exactly equal."""
    centres = rng.standard_normal((clusters, hidden)) * np.arange(1, hidden + 1) ** -0.5
    vectors = centres[rng.integers(0, clusters, rows)] * rng.uniform(0.5, 2, (rows, 1))
    vectors += noise * rng.standard_normal((rows, hidden)) * rng.choice([0, 1], (rows, 1))
    vectors[rng.random(rows) < 0.05] = 0
    repeated = rng.integers(0, rows, rows // 4)
    vectors[rng.integers(0, rows, rows // 4)] = vectors[repeated]
    return vectors.astype(np.float32)


@given(
    st.integers(0, 10**6),
    st.integers(1, 70),
    st.sampled_from([1, 3, 8]),
    st.sampled_from([0.6, 0.9, 0.99, 1.0]),
    st.sampled_from([0.02, 0.1, 0.4]),
    st.sampled_from([None, 2, 9]),
    st.sampled_from([(2, 8, 3), (16, 2**21, 2), (512, 2**21, 512)]),
)
@settings(max_examples=250, deadline=None)
def test_copies_are_those_of_all_cosines(seed, rows, directions, bound, noise, codes, limits):
    rng = np.random.default_rng(seed)
    vectors = noisy_clusters(rng, rows, 8, 6, noise)
    images = None if codes is None else rng.integers(0, codes, rows)
    order = rng.permutation(rows)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    if (np.abs(unit.astype(np.float64) @ unit.T - bound + 1e-6) < 3e-7).any():
        return  # too near to the bound for two roads to agree
    coordinates, norms, vectors_at, _ = shortened(vectors, directions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_copies, "_CHUNK", limits[0])
        patch.setattr(near_copies, "_PAIRS", limits[1])
        patch.setattr(sketches, "_BLOCK", limits[2])
        got = find_near_copies(coordinates, norms, order, bound, vectors_at, images=images)
    assert (got.copy_of.tolist(), got.same_images) == plain_near_copies(vectors, order, bound, images)


@pytest.mark.parametrize("images", [None, 40])
def test_larger_pools_agree_too(images):
    rng = np.random.default_rng(1)
    vectors = noisy_clusters(rng, 3_000, 24, 300, 0.2)
    codes = None if images is None else rng.integers(0, images, 3_000)
    order = rng.permutation(3_000)
    coordinates, norms, vectors_at, seen = shortened(vectors, 6)
    got = find_near_copies(coordinates, norms, order, 0.95, vectors_at, images=codes)
    expected = plain_near_copies(vectors, order, 0.95, codes)
    assert (got.copy_of.tolist(), got.same_images) == expected
    assert 300 < sum(copy >= 0 for copy in expected[0]) < 2_900
    assert seen.most <= 2048


def test_sketches_that_say_everything_need_few_vectors():
    rng = np.random.default_rng(2)
    vectors = noisy_clusters(rng, 500, 6, 30, 0.0)
    coordinates, norms, vectors_at, seen = shortened(vectors, 6)
    norms *= 1 + 1e-12 * rng.random(500)  # so that no two rows look equal
    got = find_near_copies(coordinates, norms, np.arange(500), 0.9, vectors_at)
    assert got.copy_of.tolist() == plain_near_copies(vectors, np.arange(500), 0.9)[0]
    assert seen.read == 0


@pytest.mark.parametrize("images", [None, np.zeros(30_000, np.int64)])
def test_a_crowd_of_equal_rows_costs_no_pair_of_all(images):
    """20,000 equal rows would have 200 million pairs, which would not be done in this test's time."""
    vectors = np.random.default_rng(3).standard_normal((30_000, 5)).astype(np.float32)
    vectors[5_000:25_000] = vectors[0]
    coordinates, norms, vectors_at, seen = shortened(vectors, 2)
    got = find_near_copies(coordinates, norms, np.arange(30_000), 0.9999, vectors_at, images=images)
    if images is None:
        assert (got.copy_of[5_000:25_000] == 0).all()
        assert got.same_images == 0
    else:
        assert (got.copy_of == -1).all()
        assert got.same_images >= 20_000
    assert seen.most <= 2048


def test_a_crowd_of_slightly_different_rows_is_settled_by_its_first():
    rng = np.random.default_rng(4)
    vectors = (np.ones(6) + 1e-4 * rng.standard_normal((12_000, 6))).astype(np.float32)
    coordinates, norms, vectors_at, _ = shortened(vectors, 2)
    got = find_near_copies(coordinates, norms, np.arange(12_000), 0.999, vectors_at)
    assert got.copy_of[0] == -1
    assert (got.copy_of[1:] == 0).all()


def test_only_the_order_of_rows_counts_not_their_places():
    rng = np.random.default_rng(6)
    vectors = noisy_clusters(rng, 400, 12, 40, 0.2)
    order, images, shuffle = rng.permutation(400), rng.integers(0, 60, 400), rng.permutation(400)
    coordinates, norms, vectors_at, _ = shortened(vectors, 4)
    one = find_near_copies(coordinates, norms, order, 0.9, vectors_at, images=images)
    coordinates, norms, vectors_at, _ = shortened(vectors[shuffle], 4)
    place = np.argsort(shuffle)  # where each row went
    two = find_near_copies(coordinates, norms, place[order], 0.9, vectors_at, images=images[shuffle])
    back = np.where(two.copy_of >= 0, shuffle[two.copy_of], -1)[place]
    assert (back.tolist(), two.same_images) == (one.copy_of.tolist(), one.same_images)


def test_rows_of_equal_sketches_are_looked_at_in_full():
    vectors = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0], [2, 2, 0]], dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    got = find_near_copies(vectors[:, :1], norms, np.arange(4), 0.9, lambda places: vectors[places])
    assert got.copy_of.tolist() == [-1, -1, 0, 0]


def test_a_row_barred_after_all_is_not_counted_as_spared(monkeypatch):
    """Row 30 is near to many kept rows of its own images, and at last to one of other images."""
    monkeypatch.setattr(near_copies, "_CHUNK", 2)
    monkeypatch.setattr(near_copies, "_PAIRS", 8)
    degrees = np.concatenate((np.linspace(0, 0.5, 14), [29.0], np.full(15, 0.1), [15.0]))
    images = np.array([0] * 14 + [1] + [2] * 15 + [0])
    radians = np.deg2rad(degrees)
    vectors = np.stack((np.cos(radians), np.sin(radians)), axis=1).astype(np.float32)
    bound = float(np.cos(np.deg2rad(20)))
    coordinates, norms, vectors_at, _ = shortened(vectors, 2)
    got = find_near_copies(coordinates, norms, np.arange(31), bound, vectors_at, images=images)
    assert (got.copy_of.tolist(), got.same_images) == plain_near_copies(vectors, np.arange(31), bound, images)
    assert (got.copy_of[30], got.same_images) == (14, 13)


def read_nothing(places):
    raise AssertionError(f"these vectors need not be read: {places}")


def test_nothing_to_compare():
    empty = find_near_copies(np.empty((0, 3), np.float32), np.empty(0), np.empty(0, np.int64), 0.9, read_nothing)
    assert empty.copy_of.shape == (0,)
    zeros = find_near_copies(np.zeros((4, 3), np.float32), np.zeros(4), np.arange(4), 0.9, read_nothing)
    assert zeros.copy_of.tolist() == [-1] * 4


@pytest.mark.parametrize("bound", [0.0, -0.5, 1.01, float("nan")])
def test_bounds_that_are_no_cosines_of_likeness_are_refused(bound):
    with pytest.raises(ValueError, match="must lie above 0"):
        find_near_copies(np.ones((2, 1), np.float32), np.ones(2), np.arange(2), bound, read_nothing)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="each of the 2 rows"):
        find_near_copies(np.ones((2, 1), np.float32), np.ones(3), np.arange(2), 0.9, read_nothing)
