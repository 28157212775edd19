"""Whole runs on tables: Parquet, Arrow, saved data sets; the subset is read back by their own readers."""

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scalselect
from scalselect.representation_store import RepresentationStore
from small_pools import command, scores_of
from tables import conversation

pytestmark = pytest.mark.usefixtures("shared_models_kept")


@pytest.fixture
def rows(pictures):
    return [
        {"id": f"{n:03}", "image": str(pictures[n % len(pictures)]), "conversations": conversation(n)}
        for n in range(12)
    ]


def run(data, checkpoints, out, *options):
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "25%", "--output", out, *options]
    assert command(*words) == 0
    scores = scores_of(out)
    assert scores["status"] == ["scored"] * 12
    assert scores["id"] == [f"{n:03}" for n in range(12)]
    chosen = [row for row in range(12) if scores["selected"][row]]
    assert len(chosen) == 3
    return chosen


def test_parquet_with_paths_of_images(tmp_path, checkpoints, rows):
    dataset = datasets.Dataset.from_list(rows)
    dataset.to_parquet(tmp_path / "pool.parquet")
    chosen = run(tmp_path / "pool.parquet", checkpoints, tmp_path / "run")
    subset = tmp_path / "run" / "selected.parquet"
    read = datasets.load_dataset("parquet", data_files=str(subset), split="train", cache_dir=str(tmp_path / "cache"))
    assert read.features == dataset.features
    assert read.to_list() == [rows[row] for row in chosen]


def test_parquet_of_several_files(tmp_path, checkpoints, rows):
    for part in range(3):
        pq.write_table(pa.Table.from_pylist(rows[part * 4 : part * 4 + 4]), tmp_path / f"train-{part}-of-3.parquet")
    chosen = run(tmp_path / "train-*.parquet", checkpoints, tmp_path / "run")
    folder = tmp_path / "run" / "selected"
    assert sorted(path.name for path in folder.glob("train*")) == [f"train-{part}-of-3.parquet" for part in range(3)]
    places = pq.read_table(tmp_path / "run" / "selected_rows.parquet").to_pylist()
    assert [place["row"] for place in places] == chosen
    assert {place["source"] for place in places} == {"train"}
    for place in places:
        assert pq.read_table(folder / place["file"])["id"][place["place"]].as_py() == place["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_arrow(tmp_path, checkpoints, rows, stream):
    table = pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(tmp_path / "pool.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    chosen = run(tmp_path / "pool.arrow", checkpoints, tmp_path / "run")
    subset = (pa.ipc.open_stream if stream else pa.ipc.open_file)(tmp_path / "run" / "selected.arrow").read_all()
    assert subset.to_pylist() == [rows[row] for row in chosen]


def test_saved_data_set(tmp_path, checkpoints, rows):
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "pool", num_shards=2)
    chosen = run(tmp_path / "pool", checkpoints, tmp_path / "run")
    assert datasets.load_from_disk(tmp_path / "run" / "selected").to_list() == [rows[row] for row in chosen]
    listing = pq.read_table(tmp_path / "run" / "selected_rows.parquet").to_pylist()
    assert [place["row"] for place in listing] == chosen


LAYOUTS = {
    "one": (datasets.Image(), lambda content: {"bytes": content, "path": None}, 1),
    "list": (datasets.List(datasets.Image()), lambda content: [{"bytes": content, "path": "a.png"}] * 2, 2),
    "plain": (datasets.Value("binary"), lambda content: content, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_in_the_data_are_seen_as_their_files_are(tmp_path, checkpoints, rows, layout):
    feature, value, shown = LAYOUTS[layout]
    key = "image" if shown == 1 else "images"
    by_path = [{**row, key: [row["image"]] * shown if shown > 1 else row["image"]} for row in rows]
    inside = []
    for number, row in enumerate(by_path):
        row["conversations"] = conversation(number, shown)
        content = Path(row["image"]).read_bytes()
        inside.append({"id": row["id"], "conversations": row["conversations"], key: value(content)})
        if shown > 1:
            del row["image"]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
            key: feature,
        }
    )
    (tmp_path / "paths.json").write_text(json.dumps(by_path))
    datasets.Dataset.from_list(inside, features=features).to_parquet(tmp_path / "inside.parquet", batch_size=5)
    options = ("--dataloader-workers", "2")
    chosen = run(tmp_path / "paths.json", checkpoints, tmp_path / "paths", *options)
    assert run(tmp_path / "inside.parquet", checkpoints, tmp_path / "inside", *options) == chosen
    vectors = [
        RepresentationStore(tmp_path / name / "representations").representations(0)[1] for name in ("paths", "inside")
    ]
    np.testing.assert_array_equal(*vectors)
    read = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "inside" / "selected.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert read.features == features
    assert pq.read_table(tmp_path / "inside" / "selected.parquet").to_pylist() == [inside[row] for row in chosen]


def test_a_data_set_in_python_and_its_rows(tmp_path, checkpoints, rows):
    inside = [{**row, "image": {"bytes": Path(row["image"]).read_bytes(), "path": None}} for row in rows]
    dataset = datasets.Dataset.from_list(inside).cast_column("image", datasets.Image()).select(range(10, -1, -1))
    result = scalselect.run(dataset, model=checkpoints("llava"), budget=3, output=tmp_path / "run")
    subset = dataset.select(result.rows)
    assert subset["id"][:] == [f"{10 - row:03}" for row in result.rows]
    again = scalselect.select(tmp_path / "run", budget=4, dataset=dataset)
    assert len(again.rows) == 4
    file = str(tmp_path / "run" / "selected.parquet")
    read = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert read["id"][:] == dataset.select(again.rows)["id"][:]
    assert [image.tobytes() for image in read["image"]] == [
        image.tobytes() for image in dataset.select(again.rows)["image"]
    ]
