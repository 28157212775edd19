"""Data sets on a hub that stands on this machine: their files chosen, downloaded once, pinned to a commit."""

import json

import datasets
import pyarrow.parquet as pq
import pytest

from hub import TOKEN
from tables import conversation, picture

COMMITS = ("a" * 40, "b" * 40)
LOCATION = "hf://datasets/owner/name"


def pushed(folder, rows=9, first=0):
    """Write a repository as `push_to_hub` lays it out, images in the data, and return its rows."""
    records = [
        {"id": f"{n:03}", "conversations": conversation(n), "image": {"bytes": picture(n), "path": None}}
        for n in range(first, first + rows)
    ]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "conversations": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
            "image": datasets.Image(),
        }
    )
    dataset = datasets.Dataset.from_list(records, features=features)
    (folder / "data").mkdir(parents=True)
    for part in range(3):
        dataset.shard(3, part, contiguous=True).to_parquet(folder / "data" / f"train-{part:05}-of-00003.parquet")
    dataset.select([0]).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    (folder / "README.md").write_text("# A data set\n")
    return records


def test_a_run_of_a_pushed_data_set(hub, online, offline, checkpoints, tmp_path):
    records = pushed(tmp_path / COMMITS[0])
    pushed(tmp_path / COMMITS[1], first=1)
    repository = hub.add("datasets/owner/name", tmp_path / COMMITS[0])
    repository.commits.update({commit: tmp_path / commit for commit in COMMITS})
    repository.names["main"] = COMMITS[0]
    options = ("--model", checkpoints("llava"), "--budget", "4", "--output", tmp_path / "run")
    code, said = online.run("run", LOCATION, *options)
    assert code == 0, said
    assert repository.downloaded() == {f"data/train-{part:05}-of-00003.parquet" for part in range(3)}
    written = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert written["data"]["path"] == f"{LOCATION}@{COMMITS[0]}"
    chosen = pq.read_table(tmp_path / "run" / "selected_rows.parquet").to_pylist()
    assert len(chosen) == 4
    assert {place["source"] for place in chosen} == {"name"}
    for place in chosen:
        subset = pq.read_table(tmp_path / "run" / "selected" / place["file"]).to_pylist()
        assert subset[place["place"]] == records[place["row"]]

    repository.names["main"] = COMMITS[1]  # the branch goes on
    repository.requests.clear()
    code, said = online.run("run", f"{LOCATION}@{COMMITS[0]}", *options)
    assert code == 0, said
    assert repository.downloaded() == set()
    code, said = online.run("run", LOCATION, *options)
    assert code == 2
    assert "belongs to another run" in said
    code, said = offline.run("run", f"{LOCATION}@{COMMITS[0]}", *options)
    assert code == 0, said
    code, said = offline.run("select", tmp_path / "run", "--budget", "5")
    assert code == 0, said
    assert pq.read_table(tmp_path / "run" / "selected_rows.parquet").num_rows == 5


def refused(worker, location, tmp_path, **environment):
    """Return what the command says of a data set that it refuses before it looks for the model."""
    code, said = worker.run("represent", location, "--model", "none", "--output", tmp_path / "run", **environment)
    assert code == 2, said
    return said


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("owner/none", "the hub has no such data set; if it is private, set HF_TOKEN"),
        ("owner/several@no-such", "it has no revision no-such"),
        ("owner/several", "add one of these: de/train*.parquet, fr/train*.parquet"),
        ("owner/several/fr/trian", "no such file or folder"),
        ("owner/gated", "access must be granted on its page of the hub"),
        ("owner/private", "if it is private, set HF_TOKEN"),
        ("owner/broken", "data file is broken: hf://datasets/owner/broken@"),
    ],
)
def test_what_cannot_be_opened_is_told(hub, online, tmp_path, name, told):
    for folder in ("several/de", "several/fr", "other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "train-0.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pool.json").write_text('[{"a": 1}, {"b"]')
    hub.add("datasets/owner/several", tmp_path / "several")
    hub.add("datasets/owner/gated", tmp_path / "other", gated=True)
    hub.add("datasets/owner/private", tmp_path / "other", private=True)
    hub.add("datasets/owner/broken", tmp_path / "broken")
    said = refused(online, f"hf://datasets/{name}", tmp_path)
    assert told in said
    assert f"hf://datasets/{name.partition('@')[0]}" in said


def test_a_private_data_set_is_read_with_a_token(hub, online, tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "pool.jsonl").write_text(json.dumps({"id": 1, "conversations": conversation(1)}) + "\n")
    hub.add("datasets/owner/secret", tmp_path / "pool", private=True)
    said = refused(online, "hf://datasets/owner/secret", tmp_path, HF_TOKEN=TOKEN)
    assert "model" in said
    assert "data set" not in said


def test_what_is_not_in_the_cache_is_told_without_a_hub(hub, offline, tmp_path):
    hub.add("datasets/owner/unseen", tmp_path)
    said = refused(offline, "hf://datasets/owner/unseen", tmp_path)
    assert "its files are not all in the cache, and HF_HUB_OFFLINE is set" in said
