import json
import os

import numpy as np
import pytest

from scalselect import sample_work, shard_work
from scalselect.config import RepresentConfig
from scalselect.dataset.opening import open_pool
from scalselect.errors import ShardError
from scalselect.representation_store import RepresentationStore
from scalselect.shard_work import ShardWork
from scalselect.vlm import settings
from scalselect.vlm.settings import resolve_settings
from small_pools import command, record, scores_of, write_pool


@pytest.fixture
def work_on(loaded, checkpoints, tmp_path):
    """Return a function (data, folder) -> ShardWork over it, and the statuses it reports."""
    made = []

    def make(data, folder="store", **options):
        config = RepresentConfig(**options)
        resolved = resolve_settings(config, checkpoints("llava"), None)
        seen = []
        pool = open_pool(data, limit=config.limit)
        store = RepresentationStore(tmp_path / folder)
        made.append(ShardWork(pool, loaded("llava"), store, config, resolved, {"torch": "x"}, on_row=seen.append))
        return made[-1], seen

    yield make
    for work in made:
        work.close()


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
    assert set(report.seconds) == {"read", "decode", "preprocess", "wait", "model", "write"}
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
    monkeypatch.setattr(shard_work, "WindowPass", None)
    assert work(0) == report


def test_a_shard_without_any_image_is_published_empty(work_on, tmp_path):
    data = tmp_path / "pool.json"
    data.write_text(json.dumps([{"conversations": [{"from": "human", "value": "Hi"}]}] * 3))
    work, _ = work_on(data)
    assert work(0).counts == {"text_only": 3}
    positions, vectors = work.store.representations(0)
    assert positions.shape == (0,)
    assert vectors.shape == (0, 64)


@pytest.mark.parametrize(
    ("rows", "size", "windows"),
    # Of 20 rows over six pictures, those of one picture stay together.
    [(3, 10**9, [4, 4, 3, 3, 3, 3]), (64, 1000, [4, 4, 3, 3, 3, 3]), (7, 10**9, [8, 9, 3])],
)
def test_windows_bound_the_memory_and_change_no_row(work_on, tmp_path, pictures, monkeypatch, rows, size, windows):
    data = write_pool(tmp_path, pictures, rows=20)
    whole, _ = work_on(data, "whole")
    whole(0)
    monkeypatch.setattr(shard_work, "_WINDOW_ROWS", rows)
    monkeypatch.setattr(shard_work, "_WINDOW_BYTES", size)
    held = []
    original = shard_work.WindowPass.represent

    def represent(self, samples):
        held.append(len(samples))
        return original(self, samples)

    monkeypatch.setattr(shard_work.WindowPass, "represent", represent)
    small, _ = work_on(data, "small")
    small(0)
    assert [number for number in held if number] == windows
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


def test_processes_beside_the_model_change_nothing(work_on, tmp_path, pictures):
    data = write_pool(tmp_path, pictures, rows=90)
    records = json.loads(data.read_text())
    records[5]["image"] = "gone.png"
    records[70]["image"] = [str(pictures[0]), str(pictures[1])]  # two images, one marker
    data.write_text(json.dumps(records))
    alone, _ = work_on(data, "alone", dataloader_workers=0, image_reuse="off")
    beside, seen = work_on(data, "beside", dataloader_workers=2, image_reuse="off")
    assert (alone.settings.dataloader_workers, beside.settings.dataloader_workers) == (0, 2)
    assert beside(0).files == alone(0).files  # the same bytes
    assert sorted(seen).count("scored") == 88
    assert beside.store.report(0).reasons == {"image_missing": 1, "marker_mismatch": 1}


def test_the_processes_really_do_the_work(work_on, tmp_path, pictures, monkeypatch):
    places = tmp_path / "processes"
    original = sample_work.open_image

    def noted(*arguments, **options):
        with places.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return original(*arguments, **options)

    monkeypatch.setattr(sample_work, "open_image", noted)
    work, _ = work_on(write_pool(tmp_path, pictures, rows=64), dataloader_workers=2)
    report = work(0)
    processes = places.read_text().split()
    assert len(processes) == 6  # each picture once
    assert 1 <= len(set(processes)) <= 2
    assert str(os.getpid()) not in processes
    assert report.seconds["decode"] > 0
    places.unlink()
    few = write_pool(tmp_path / "few", pictures, rows=12)
    default, _ = work_on(few, "by default", shard_size=6)
    default(0)
    default(1)
    assert len(set(places.read_text().split())) == 1  # one process for all shards
    assert str(os.getpid()) not in places.read_text().split()
    places.unlink()
    work_on(few, "without", dataloader_workers=0)[0](0)
    assert set(places.read_text().split()) == {str(os.getpid())}


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError(), ShardError, "memory ran out while row 0"),
        (OSError(24, "Too many open files"), OSError, "Too many open files"),
    ],
)
def test_what_concerns_all_rows_comes_out_of_a_process_as_it_is(
    work_on, tmp_path, pictures, monkeypatch, error, kind, message
):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(sample_work, "open_image", failing)
    work, _ = work_on(write_pool(tmp_path, pictures, rows=64), dataloader_workers=1)
    with pytest.raises(kind, match=message):
        work(0)
    assert not work.store.is_published(0)


def test_each_picture_is_opened_and_preprocessed_once(work_on, tmp_path, pictures, monkeypatch):
    opened = []
    original = sample_work.open_image
    monkeypatch.setattr(sample_work, "open_image", lambda path, **o: opened.append(path) or original(path, **o))
    work, _ = work_on(write_pool(tmp_path, pictures, rows=24), dataloader_workers=0)
    before = work.checkpoint.preparer.images_preprocessed
    work(0)
    assert sorted(opened) == sorted(map(str, pictures))
    assert work.checkpoint.preparer.images_preprocessed - before == 6


def test_image_order_chooses_the_same_rows_and_saves_work(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path, pictures, rows=48)  # neighbours show different pictures
    chosen, computed = {}, {}
    for order in ("pool", "image"):
        out = tmp_path / order
        words = ["run", data, "--model", checkpoints("llava"), "--budget", "25%", "--output", out]
        assert command(*words, "--order", order, "--shard-size", "8") == 0
        chosen[order] = (out / "selected.json").read_bytes()
        reports = [json.loads(path.read_bytes()) for path in sorted((out / "representations").glob("*.json"))]
        assert [(report["start"], report["stop"]) for report in reports] == [(8 * k, 8 * k + 8) for k in range(6)]
        computed[order] = sum(report["reuse"]["images_computed"] for report in reports)
        scores = scores_of(out)
        assert scores["row"] == list(range(48))
        assert scores["id"] == [f"row-{row}" for row in range(48)]
        chosen[order, "scores"] = scores["leverage_score"]
    assert chosen["pool"] == chosen["image"]
    np.testing.assert_allclose(chosen["pool", "scores"], chosen["image", "scores"], rtol=1e-3)
    assert computed == {"pool": 36, "image": 6}
    store = RepresentationStore(tmp_path / "image" / "representations")
    assert store.rows(0)["row"].to_pylist() == [0, 6, 12, 18, 24, 30, 36, 42]
    assert store.representations(0)[0].tolist() == [0, 6, 12, 18, 24, 30, 36, 42]


def test_another_order_is_another_run(tmp_path, pictures, checkpoints, capsys):
    data = write_pool(tmp_path, pictures, rows=12)
    words = ["represent", data, "--model", checkpoints("llava"), "--output", tmp_path / "run"]
    assert command(*words) == 0
    assert command(*words, "--dataloader-workers", "1") == 0  # no key of the run
    assert command(*words, "--order", "image") == 2
    assert "order" in capsys.readouterr().err


def test_a_process_is_started_unasked_and_many_beside_a_gpu(monkeypatch):
    assert settings._resolved_workers(RepresentConfig(), "cpu", 9) == 1
    assert settings._resolved_workers(RepresentConfig(), "cuda:0", 9) == 8
    assert settings._resolved_workers(RepresentConfig(), "cuda:0", 1) == 1
    monkeypatch.setattr(settings, "can_fork", False)
    assert settings._resolved_workers(RepresentConfig(), "cuda:0", 9) == 0
    monkeypatch.setattr(settings, "can_fork", True)
    assert settings._resolved_workers(RepresentConfig(dataloader_workers=3), "cpu", 9) == 3
