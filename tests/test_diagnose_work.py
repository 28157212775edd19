"""Diagnostics over a run folder with known vectors: against plain numpy, beside random, and where little is there."""

import json

import numpy as np
import pytest

from scalselect.diagnose_work import diagnose
from scalselect.records import DominantSubspace
from small_diagnoses import material, two_clusters, write_run


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    X = two_clusters()
    return write_run(tmp_path_factory.mktemp("clusters") / "run", X), X


def test_one_cluster_covers_less_than_random(clusters):
    run, X = clusters
    one = diagnose(material(run, X, range(0, 120, 2), answer=lambda row: "No!" if row % 2 else "Yes, it is so."))
    assert one["coverage"]["chosen"]["mean_distance"] > 3 * one["coverage"]["random"]["mean_distance"]
    assert one["effective_rank"]["chosen"] != pytest.approx(one["effective_rank"]["pool"], rel=0.1)
    assert one["effective_rank"]["random"] == pytest.approx(one["effective_rank"]["pool"], rel=0.1)
    answers = one["balance"]["answer"]
    assert answers["total_variation"]["chosen"] == 0.5
    assert answers["total_variation"]["random"] < 0.2
    assert [(item["value"], item["chosen"]) for item in answers["over"]] == [("yes", 1.0)]
    assert [(item["value"], item["pool_rows"]) for item in answers["under"]] == [("no", 150)]
    assert [item["value"] for item in one["balance"]["turns"]["over"]] == [2]
    kinds = one["balance"]["answer_type"]
    assert kinds["sampled"] == answers["sampled"]
    assert [(item["value"], item["chosen"], item["pool_rows"]) for item in kinds["over"]] == [("sentence", 1.0, 150)]
    assert [(item["value"], item["chosen_rows"]) for item in kinds["under"]] == [("yes or no", 0)]
    lengths = one["balance"]["length"]
    assert [(item["value"], item["pool_rows"], item["chosen_rows"]) for item in lengths["over"]] == [
        ("16 to 23", 150, 60)
    ]
    assert [(item["value"], item["pool_rows"], item["chosen_rows"]) for item in lengths["under"]] == [
        ("48 to 63", 150, 0)
    ]
    assert [item["value"] for item in one["balance"]["source"]["over"]] == ["a"]
    assert one["balance"]["stratum"] is None
    both = diagnose(material(run, X, range(60)))
    assert both["coverage"]["chosen"]["mean_distance"] < one["coverage"]["chosen"]["mean_distance"] / 3


def test_numbers_are_those_of_plain_numpy(clusters):
    run, X = clusters
    chosen = np.arange(100, 190)
    subspace = material(run, X, chosen).subspace
    Xc = X - X.astype(np.float64).mean(axis=0)
    points = Xc @ subspace.basis / subspace.singular_values * np.sqrt(300 / 2)
    between = np.linalg.norm(points[:, None] - points[None, chosen], axis=2)  # [pool, chosen]
    near = chosen[(between[chosen] + np.diag(np.full(90, np.inf))).argmin(axis=1)]
    norms = np.linalg.norm(Xc, axis=1)
    cosine = np.sum(Xc[chosen] * Xc[near], axis=1) / norms[chosen] / norms[near]
    found = diagnose(material(run, X, chosen, near_bound=float(np.sort(cosine)[29:31].mean())))
    assert found["redundancy"]["chosen"]["near_copies"] == pytest.approx(60 / 90)
    assert found["coverage"]["chosen"]["mean_distance"] == pytest.approx(between.min(axis=1).mean(), rel=1e-5)
    W = np.linalg.svd(Xc[chosen])[2][:2].T
    left = np.sum((Xc - Xc @ W @ W.T) ** 2) / np.sum(Xc**2)
    assert found["reconstruction_error"]["chosen"]["leading"] == pytest.approx(left, rel=1e-6)
    assert found["reconstruction_error"]["dominant_subspace"] == pytest.approx(1 - subspace.energy, rel=1e-6)
    assert left > found["reconstruction_error"]["smallest_possible"]
    assert found["reconstruction_error"]["sampled"] == {"pool": 300, "chosen": 90, "random": 90}
    assert found["spectrum"]["threshold"] == 0.9
    assert found["leverage"]["sum"] == pytest.approx(2)


def test_it_is_deterministic_and_json(clusters):
    run, X = clusters
    given = material(run, X, range(40))
    text = json.dumps(diagnose(given), allow_nan=False)
    assert text == json.dumps(diagnose(given), allow_nan=False)
    other = diagnose(material(run, X, range(40), seed=1))
    assert other["coverage"]["random"] != json.loads(text)["coverage"]["random"]
    assert other["coverage"]["chosen"] == json.loads(text)["coverage"]["chosen"]


def test_copies_and_images_of_the_chosen(tmp_path):
    X = two_clusters(60)
    X[1::2] = X[::2]
    run = write_run(tmp_path / "run", X, images=lambda row: f"i{row // 4}", text=lambda row: f"t{row // 2}")
    found = diagnose(material(run, X, range(20), near_bound=0.9999))["redundancy"]
    assert found["chosen"] == {
        "near_copies": 1.0,
        "exact_copies": 10,
        "images": 5,
        "rows_an_image": 4.0,
        "most_rows_an_image": 4,
    }
    assert found["random"]["exact_copies"] < 10


def test_rows_without_a_hash_or_image_are_like_no_other(tmp_path):
    X = two_clusters(20)
    run = write_run(tmp_path / "run", X, images=lambda _: None, text=lambda row: "a" if row > 7 else None)
    found = diagnose(material(run, X, range(10)))["redundancy"]["chosen"]
    assert (found["exact_copies"], found["images"], found["rows_an_image"]) == (1, 0, None)


def test_vectors_without_records_have_nothing_to_say_of_them(tmp_path):
    X = two_clusters(20)
    run = write_run(tmp_path / "run", X, images=lambda _: None, text=lambda _: None)
    found = diagnose(material(run, X, range(10), pool=None))
    known = {name for name, value in found["redundancy"]["chosen"].items() if value is not None}
    assert known == {"near_copies"}
    assert {name for name, value in found["balance"].items() if value is not None} == {"source"}


def test_skipped_rows_shift_nothing(tmp_path):
    X, skipped = two_clusters(120), {0, 7, 50, 51, 119}
    run = write_run(tmp_path / "run", X, skipped=skipped)
    found = diagnose(material(run, X, [3, 7, 60, 118], skipped=skipped))
    assert found["rows"] == {"scored": 115, "eligible": 115, "chosen": 4, "chosen_without_vector": 1, "random": 3}
    kept = [row for row in range(120) if row not in skipped]
    alone = write_run(tmp_path / "alone", X[kept])
    same = diagnose(material(alone, X[kept], [kept.index(row) for row in (3, 60, 118)]))
    for name in ("coverage", "reconstruction_error", "effective_rank", "leverage", "cut"):
        assert str(found[name]) == str(same[name]), name


@pytest.mark.parametrize("answer", [lambda _: None, lambda _: "", lambda _: "\ud800"])
def test_records_without_a_usable_answer(clusters, answer):
    run, X = clusters
    found = diagnose(material(run, X, range(9), answer=answer))["balance"]["answer"]
    assert found["values"] == 1
    assert found["total_variation"] == {"chosen": 0.0, "random": 0.0}


def test_no_records(clusters):
    run, X = clusters
    found = diagnose(material(run, X, range(9), pool=None))
    assert found["balance"]["answer"] is None
    assert found["balance"]["answer_type"] is None
    assert found["balance"]["source"]["values"] == 2


def test_one_chosen_row(clusters):
    run, X = clusters
    found = diagnose(material(run, X, [17], k=1))
    assert found["redundancy"]["chosen"]["near_copies"] == 0
    assert found["effective_rank"] == {"pool": 1.0, "chosen": None, "random": None}
    assert found["coverage"]["chosen"]["mean_distance"] > 0
    json.dumps(found, allow_nan=False)


def test_everything_chosen(clusters):
    run, X = clusters
    found = diagnose(material(run, X, range(300)))
    for measure in ("coverage", "effective_rank", "reconstruction_error", "redundancy"):
        assert found[measure]["chosen"] == found[measure]["random"], measure
    assert found["coverage"]["chosen"] == {"mean_distance": 0.0, "distance_95": 0.0}
    assert found["leverage"]["held"] == pytest.approx(1)
    assert found["cut"]["higher_not_chosen"] == 0


def test_nothing_chosen(clusters):
    run, X = clusters
    found = diagnose(material(run, X, []))
    assert found["coverage"]["chosen"] == {"mean_distance": None, "distance_95": None}
    assert found["redundancy"]["chosen"]["near_copies"] is None
    assert found["balance"]["source"]["total_variation"]["chosen"] is None


def test_coordinates_of_other_rows_are_refused(clusters):
    run, X = clusters
    with pytest.raises(ValueError, match=r"coordinates must be \[300, 2\].*\[299, 2\]"):
        diagnose(material(run, X, [1], coordinates=np.zeros((299, 2), dtype=np.float32)))


def test_normalised_rows_and_scaled_columns_are_centred_as_they_were_scored(clusters):
    run, X = clusters
    plain = diagnose(material(run, X, range(30)))
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    scale = Z.std(axis=0) * np.sqrt(300)
    given = material(run, (Z / scale).astype(np.float32), range(30))
    changed = {name: getattr(given.subspace, name) for name in DominantSubspace.__dataclass_fields__}
    changed |= {"mean": Z.astype(np.float64).mean(axis=0), "scale": scale, "normalised_rows": True}
    found = diagnose(material(run, X, range(30), subspace=DominantSubspace(**changed), coordinates=given.coordinates))
    error = found["reconstruction_error"]
    assert error["dominant_subspace"] == pytest.approx(error["smallest_possible"], rel=1e-4)
    assert error["smallest_possible"] != pytest.approx(plain["reconstruction_error"]["smallest_possible"], rel=0.1)
