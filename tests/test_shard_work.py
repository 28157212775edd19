import json

import numpy as np
import pytest

from scalselect import shard_work
from scalselect.config import RepresentConfig
from scalselect.dataset.pool import open_pool
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm.settings import resolve_settings
from small_pools import command, record, write_pool


@pytest.fixture
def work_on(loaded, checkpoints, tmp_path):
    """Return a function (data, folder) -> ShardWork over it, and the statuses it reports."""

    def make(data, folder="store", **options):
        config = RepresentConfig(**options)
        settings = resolve_settings(config, checkpoints("llava"), None)
        seen = []
        pool = open_pool(data, limit=config.limit)
        store = RepresentationStore(tmp_path / folder)
        return ShardWork(pool, loaded("llava"), store, config, settings, {"torch": "x"}, seen.append), seen

    return make


def test_every_row_of_a_shard_has_a_record_in_order(work_on, tmp_path, pictures):
    data = write_pool(tmp_path, pictures, rows=11)
    records = json.loads(data.read_text())
    records[4] = {"conversations": [{"from": "human", "value": "no image"}]}
    records[6]["image"] = "gone.png"
    data.write_text(json.dumps(records))
    work, seen = work_on(data, shard_size=8)
    report = work(0)
    assert (report.start, report.stop) == (0, 8)
    assert report.counts == {"scored": 6, "skipped": 1, "text_only": 1}
    assert report.reasons == {"image_missing": 1}
    assert set(report.seconds) == {"read", "decode", "preprocess", "model"}
    assert sorted(seen) == ["scored"] * 6 + ["skipped"] + ["text_only"]
    rows = work.store.rows(0).to_pylist()
    assert [row["row"] for row in rows] == list(range(8))
    assert [row["status"] for row in rows][4:7] == ["text_only", "scored", "skipped"]
    positions, vectors = work.store.representations(0)
    assert positions.tolist() == [0, 1, 2, 3, 5, 7]
    assert vectors.shape == (6, 64)
    last = work(1)
    assert (last.start, last.stop) == (8, 11)
    for row in rows:
        if row["status"] == "scored":
            assert row["vision_tokens"] == 36
            assert 1 <= row["kept_tokens"] <= 36
            assert row["tokens"] > 36
            assert 0 <= row["cut_margin"] <= 0.9
            assert len(row["image_sha256"][0]) == 64
            assert row["image_bytes"][0] == pictures[row["row"] % 6].stat().st_size


def test_a_published_shard_is_adopted_not_done_again(work_on, tmp_path, pictures, monkeypatch):
    work, _ = work_on(write_pool(tmp_path, pictures, rows=3))
    report = work(0)
    monkeypatch.setattr(shard_work, "represent_samples", None)
    assert work(0) == report


def test_a_shard_without_any_image_is_published_empty(work_on, tmp_path):
    data = tmp_path / "pool.json"
    data.write_text(json.dumps([{"conversations": [{"from": "human", "value": "Hi"}]}] * 3))
    work, _ = work_on(data)
    assert work(0).counts == {"text_only": 3}
    positions, vectors = work.store.representations(0)
    assert positions.shape == (0,)
    assert vectors.shape == (0, 64)


@pytest.mark.parametrize(("rows", "size"), [(3, 10**9), (64, 1000)])
def test_windows_bound_the_memory_and_change_no_row(work_on, tmp_path, pictures, monkeypatch, rows, size):
    data = write_pool(tmp_path, pictures, rows=20)
    whole, _ = work_on(data, "whole")
    whole(0)
    monkeypatch.setattr(shard_work, "_WINDOW_ROWS", rows)
    monkeypatch.setattr(shard_work, "_WINDOW_BYTES", size)
    held = []
    original = shard_work.plan_batches

    def plan(lengths, **options):
        held.append(len(lengths))
        return original(lengths, **options)

    monkeypatch.setattr(shard_work, "plan_batches", plan)
    small, _ = work_on(data, "small")
    small(0)
    assert max(held) == (3 if rows == 3 else 1)
    expected, found = whole.store.representations(0)[1], small.store.representations(0)[1]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_captions_without_user_text_are_scored_uniformly_and_counted(tmp_path, pictures, checkpoints, capsys):
    data = tmp_path / "pool.json"
    captions = [
        {"image": str(pictures[i % 6]), "conversations": [{"from": "gpt", "value": f"A shape, number {i}."}]}
        for i in range(4)
    ]
    data.write_text(json.dumps([record(i, pictures[i]) for i in range(4)] + captions))
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "2", "--output", tmp_path / "run"]
    assert command(*words) == 0
    noted = json.loads((tmp_path / "run" / "selection.json").read_text())["noted"]
    assert noted["uniform"] == 4
    assert noted["images_in_front"] == 4
    assert "4 whose instruction attends to no vision token" in capsys.readouterr().out
    rows = RepresentationStore(tmp_path / "run" / "representations").rows(0).to_pylist()
    assert [row["kept_tokens"] for row in rows[4:]] == [33] * 4  # 33 of 36 equal shares exceed 0.9


def test_a_run_that_skips_too_much_stops_early(tmp_path, pictures, checkpoints, capsys):
    data = tmp_path / "pool.json"
    rows = [record(i, pictures[i % 6] if i % 4 else "nowhere.png") for i in range(3000)]
    data.write_text(json.dumps(rows))
    out = tmp_path / "run"
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "2", "--output", out, "--shard-size", "600"]
    assert command(*words) == 1
    message = capsys.readouterr().err
    assert "300 of 1,200 rows (text-only ones left out) were skipped, 25.0%" in message
    assert "image_missing 300; for example row 0: `nowhere.png`: No such file or directory" in message
    assert len(list((out / "representations").glob("*.json"))) == 2
