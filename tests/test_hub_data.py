"""Data and images in a repository of a hub, which stands on this machine: a run from there, pinned to one commit."""

from __future__ import annotations

import json

import pytest

from small_pools import command, promised_files, record

COMMITS = ("a" * 40, "b" * 40)
OPTIONS = ("--budget", "2", "--threads", "1", "--dataloader-workers", "2", "--max-skipped", "50%")


@pytest.fixture(scope="module")
def local(tmp_path_factory, checkpoints, pictures):
    """Return two commits of a repository, and what a run of the first one makes of it on a disk."""
    folder = tmp_path_factory.mktemp("hub-data")
    records = [record(row, f"pictures/{row % 3}.png") for row in range(5)]
    records[3]["image"] = "pictures/gone.png"
    for commit in COMMITS:
        (folder / commit / "pictures").mkdir(parents=True)
        for number in range(3):
            content = pictures[number].read_bytes()
            (folder / commit / "pictures" / f"{number}.png").write_bytes(content)
        (folder / commit / "pool.json").write_text(json.dumps(records))
        records[0]["conversations"][1]["value"] = "Another answer."
    run = folder / "run"
    words = ("run", folder / COMMITS[0] / "pool.json", "--model", checkpoints("llava"), "--output", run, *OPTIONS)
    assert command(*words) == 0
    return folder, run


def test_a_run_of_a_hub_data_set_equals_a_local_one_and_names_its_commit(local, hub, online, checkpoints, tmp_path):
    folder, run = local
    repository = hub.add("datasets/owner/pool", folder / COMMITS[0])
    repository.commits.update({commit: folder / commit for commit in COMMITS})
    repository.names["main"] = COMMITS[0]
    model = checkpoints("llava")
    there = ("--model", model, "--output", tmp_path / "run", *OPTIONS)
    code, said = online.run("run", "hf://datasets/owner/pool/pool.json", *there)
    assert code == 0, said
    assert promised_files(tmp_path / "run") == promised_files(run)
    written = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert written["data"]["path"] == f"hf://datasets/owner/pool@{COMMITS[0]}/pool.json"
    assert written["represent"]["images"] == f"hf://datasets/owner/pool@{COMMITS[0]}"
    repository.names["main"] = COMMITS[1]  # the branch goes on
    code, said = online.run("select", tmp_path / "run", "--budget", "3")
    assert code == 0, said
    code, said = online.run("run", "hf://datasets/owner/pool/pool.json", *there)
    assert code == 2
    assert "belongs to another run" in said
    code, said = online.run("run", written["data"]["path"], *there)
    assert code == 0, said
    for wrong, told in (
        ("datasets/owner/none/pool.json", "no such data set"),
        ("datasets/owner/pool/none.json", "no such file"),
    ):
        code, said = online.run("run", f"hf://{wrong}", *there)
        assert code == 2
        assert told in said
    pool = folder / COMMITS[0] / "pool.json"
    code, said = online.run(
        "run", pool, "--images", "hf://datasets/owner/pool/none", *there[:3], tmp_path / "other", *OPTIONS
    )
    assert code == 2
    assert "image folder does not exist" in said
