"""Whole runs on WebDataset tars and compressed JSON: pictures from the tar, the subset read back by its own readers."""

import gzip
import json

import pyarrow.parquet as pq
import pytest
import webdataset

from direct_reference import load_reference, reference_row
from scalselect.dataset.opening import open_pool
from scalselect.representation_store import RepresentationStore
from small_pools import command, record, scores_of, write_pool
from tars import read_back, samples, write_members, write_tar

pytestmark = pytest.mark.usefixtures("shared_models_kept")


@pytest.fixture
def shards(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "pool-%06d.tar"), maxcount=5, verbose=0, encoder=False) as writer:
        for sample in samples(12):
            writer.write(sample)
    return [tmp_path / f"pool-{number:06d}.tar" for number in range(3)]


def run(data, checkpoints, out, *words):
    return command("run", data, "--model", checkpoints("llava"), "--budget", "25%", "--output", out, *words)


def test_shards_by_a_brace_pattern(tmp_path, checkpoints, shards):
    out = tmp_path / "run"
    assert run(tmp_path / "pool-{000000..000002}.tar", checkpoints, out) == 0
    scores = scores_of(out)
    assert scores["status"] == ["scored"] * 12
    assert scores["id"] == [f"{row:06d}" for row in range(12)]
    chosen = [row for row in range(12) if scores["selected"][row]]
    assert len(chosen) == 3
    subset = [out / "selected" / path.name for path in shards]
    assert read_back(subset) == [read_back(shards)[row] for row in chosen]
    listing = pq.read_table(out / "selected_rows.parquet").to_pylist()
    assert [(place["row"], place["id"]) for place in listing] == [(row, f"{row:06d}") for row in chosen]
    for place in listing:
        assert read_back(out / "selected" / place["file"])[place["place"]]["__key__"] == place["id"]


def test_images_of_a_tar_are_seen_as_files_are(tmp_path, checkpoints):
    out, path = tmp_path / "run", write_tar(tmp_path / "pool.tar", samples(6))
    assert run(path, checkpoints, out) == 0
    _, X = RepresentationStore(out / "representations").representations(0)
    pool = open_pool(path)
    (tmp_path / "files").mkdir()
    records = [json.loads(pool.raw(row)) for row in range(6)]
    for sample in pool.read(0, 6):
        for number, image in enumerate(sample.images):
            (tmp_path / "files" / image.text).write_bytes(pool.embedded_image(image))
            records[sample.identity.row]["images"][number] = image.text
    (tmp_path / "files" / "pool.json").write_text(json.dumps(records))
    assert run(tmp_path / "files" / "pool.json", checkpoints, tmp_path / "of-files") == 0
    _, of_files = RepresentationStore(tmp_path / "of-files" / "representations").representations(0)
    assert (of_files == X).all()
    model, processor = load_reference(checkpoints("llava"))
    sample = next(open_pool(tmp_path / "files" / "pool.json").read(2, 3))
    reference = reference_row(model, processor, "llava", sample)
    known = RepresentationStore(out / "representations").rows(0).to_pylist()[2]
    assert known["vision_tokens"] == len(reference.vision_positions)


def test_odd_samples_are_counted(tmp_path, checkpoints):
    good = [(f"{n}.{field}", content) for n, sample in enumerate(samples(6)) for field, content in fields_of(sample)]
    odd = [("a.json", good[0][1]), ("b.txt", b"a caption"), ("a.png", good[1][1]), ("c.json", b"{"), ("0.txt", b"")]
    path = write_members(tmp_path / "pool.tar", good + odd)
    out = tmp_path / "run"
    assert run(path, checkpoints, out, "--max-skipped", "100%") == 0
    scores = scores_of(out)
    assert scores["status"] == ["skipped", *["scored"] * 5, *["skipped"] * 5]
    details = RepresentationStore(out / "representations").rows(0).to_pydict()["detail"]
    assert [row for row, detail in enumerate(details) if detail and "lie apart" in detail] == [0, 6, 8, 10]
    assert "no `.json` member, only `.txt`" in details[7]


def fields_of(sample):
    return [(field, content) for field, content in sample.items() if field != "__key__"]


def test_compressed_json(tmp_path, checkpoints, pictures):
    plain = write_pool(tmp_path / "plain", pictures)
    lines = [json.dumps(record(n, pictures[n % 6])) for n in range(12)]
    (tmp_path / "pool.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "pool.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert run(tmp_path / "pool.json.gz", checkpoints, tmp_path / "a") == 0
    assert run(plain, checkpoints, tmp_path / "b") == 0
    assert scores_of(tmp_path / "a") == scores_of(tmp_path / "b")
    chosen = gzip.decompress((tmp_path / "a" / "selected.json.gz").read_bytes())
    assert chosen == (tmp_path / "b" / "selected.json").read_bytes()
    assert run(tmp_path / "pool.jsonl.gz", checkpoints, tmp_path / "c") == 0
    selected = scores_of(tmp_path / "c")["selected"]
    chosen = gzip.decompress((tmp_path / "c" / "selected.jsonl.gz").read_bytes()).decode()
    assert chosen.splitlines() == [line for line, is_chosen in zip(lines, selected, strict=True) if is_chosen]
