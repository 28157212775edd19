"""`how_to_train.md`: true for the subset and for the place where it lies, and what is warned of beside it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

import scalselect
from scored_runs import clustered_vectors, scored_run
from small_pools import command, promised_files

ROWS = 60


@pytest.fixture
def run(tmp_path):
    images = [f"{row}.png" for row in range(ROWS)]
    return scored_run(
        tmp_path,
        clustered_vectors(ROWS),
        images=[[name] for name in images],
        records=[{"id": f"row-{row}"} for row in range(ROWS)],
        texts=[f"<image>\nquestion {row}" for row in range(ROWS)],
    )


def guide(run, budget=None):
    return (run / "selections" / budget / "how_to_train.md" if budget else run / "how_to_train.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)


def of(trainer, text):
    return text.split(f"## {trainer}\n")[1].split("\n## ")[0]


def rows_that_llamafactory_keeps(entry, media_dir):
    """Return the conversations and images that an entry yields, by the rules of LLaMA-Factory's converter."""
    records = json.loads(Path(entry["file_name"]).read_text())
    tags, columns = entry["tags"], entry["columns"]
    kept = []
    for record in records:
        said = [(turn[tags["role_tag"]], turn[tags["content_tag"]]) for turn in record[columns["messages"]]]
        odd, even = (tags["user_tag"], tags["observation_tag"]), (tags["assistant_tag"], tags["function_tag"])
        if said[0][0] == tags["system_tag"]:
            said = said[1:]
        if len(said) % 2 == 0 and all(role in (even if i % 2 else odd) for i, (role, _) in enumerate(said)):
            shown = record.get(columns["images"]) or []
            kept.append(
                (said, [str(Path(media_dir, name)) for name in (shown if isinstance(shown, list) else [shown])])
            )
    return kept


def test_every_trainer_is_given_the_subset_where_it_lies(run, tmp_path, capsys):
    assert command("select", run, "--budget", "10%,20") == 0
    printed, text = capsys.readouterr().out, guide(run)
    assert "how_to_train.md" in printed
    assert re.search(rf"train +LLaMA-Factory: .*media_dir:\s+{tmp_path}", printed, re.DOTALL)
    entry = json.loads(blocks(of("LLaMA-Factory", text), "json")[0])["chosen"]
    assert entry["file_name"] == str(run / "selected.json")
    assert entry["tags"]["system_tag"] == "system"
    assert f'media_dir: "{tmp_path}"' in text
    kept = rows_that_llamafactory_keeps(entry, tmp_path)
    assert len(kept) == 6
    assert all(Path(image).parent == tmp_path for _, images in kept for image in images)
    swift = shlex.split(blocks(of("ms-swift", text), "bash")[0])
    assert swift[0] == f"ROOT_IMAGE_DIR={tmp_path}"
    assert swift[swift.index("--dataset") + 1] == str(run / "selected.json")
    assert swift[-2:] == ["--strict", "true"]
    assert "`#N`" in of("ms-swift", text)
    llava = shlex.split(blocks(of("LLaVA", text), "bash")[0])
    assert llava == ["--data_path", str(run / "selected.json"), "--image_folder", str(tmp_path)]
    assert blocks(of("TRL", text), "bash") == [f"scalselect export {run} --to trl"]
    assert "exported/trl.parquet" in blocks(of("TRL", text), "python")[0]
    other = guide(run, "20")
    assert str(run / "selections" / "20" / "selected.json") in other
    assert f"scalselect export {run} --to trl --budget 20" in other


def test_the_check_it_names_can_be_run(run, capsys):
    scalselect.select(run, budget=10)
    words = shlex.split(re.search(r"`(scalselect check .*?)`", guide(run))[1])
    assert command(*words[1:]) == 1  # the pictures of this pool are names alone
    assert "image_missing" in capsys.readouterr().out


def test_it_follows_the_folder_and_is_written_again_where_it_is_gone(run, tmp_path):
    scalselect.select(run, budget=10)
    (run / "how_to_train.md").unlink()
    before = promised_files(run)
    scalselect.select(run, budget=10)
    assert str(run) in guide(run)
    moved = tmp_path / "moved here"
    shutil.copytree(run, moved)
    scalselect.select(moved, budget=10)
    assert str(run / "selected.json") not in guide(moved)
    assert f"--data_path '{moved}/selected.json'" in guide(moved)
    assert promised_files(moved) == before
    assert "how_to_train.md" not in json.loads((run / "selection.json").read_text())["files"]


def test_it_goes_with_the_choice_it_belongs_to(run):
    scalselect.select(run, budget="10%,20%")
    scalselect.select(run, budget="20%")
    assert "12 records" in guide(run)
    assert not (run / "selections").exists()


def test_vectors_alone_have_nothing_to_train_on(tmp_path):
    np.save(tmp_path / "X.npy", clustered_vectors(ROWS))
    run = tmp_path / "own"
    scalselect.score(representations=tmp_path / "X.npy", output=run)
    content = scalselect.select(run, budget=5).summary
    assert content["subset"] is None
    assert not (run / "how_to_train.md").exists()


def test_a_saved_folder_is_named_as_a_folder(tmp_path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    datasets.Dataset.from_list([{"id": f"{row}", "messages": turns} for row in range(ROWS)]).save_to_disk(
        tmp_path / "a"
    )
    np.save(tmp_path / "X.npy", clustered_vectors(ROWS))
    run = tmp_path / "run"
    scalselect.score(representations=tmp_path / "X.npy", output=run)
    (part,) = scalselect.select(run, budget=5, dataset=tmp_path / "a").summary["subset"]
    assert (part["container"], part["names"]) == ("saved", ["selected"])
    assert len(datasets.load_from_disk(run / "selected")) == 5
    assert "it reads no folders that `save_to_disk` wrote" in guide(run)


def test_how_the_pool_was_seen_is_told(run):
    scalselect.select(run, budget=10)
    assert "the checkpoint's own processor" in guide(run)
    content = json.loads((run / "run.json").read_text())
    del content["seal"]  # edited on purpose
    content["represent"] |= {"like": "llamafactory", "exif": "apply", "alpha": "drop", "max_length": 2048}
    content["chat_template"] = "vicuna"
    (run / "run.json").write_text(json.dumps(content))
    scalselect.select(run, budget=10)
    told = guide(run)
    assert "as LLaMA-Factory 0.9.5 shows it (`--like llamafactory`), but for options that say otherwise: " in told
    assert "`--exif apply` (LLaMA-Factory: ignore)" in told
    assert "--alpha" not in told
    assert "seen with the chat template `vicuna`" in told
    assert "system prompt" in told


def test_mixed_records_are_warned_of(tmp_path):
    records = [{"id": row if row % 2 else f"row-{row}", "k": 1 if row % 3 else "x"} for row in range(ROWS)]
    images = [[f"{row}.png"] for row in range(ROWS)]
    run = scored_run(tmp_path, clustered_vectors(ROWS), records=records, images=images)
    data = json.loads((tmp_path / "pool.json").read_text())
    assert all(isinstance(record["image"], list) for record in data)
    warnings = scalselect.select(run, budget="100%").summary["warnings"]
    told = [warning for warning in warnings if "export RUN_DIR" in warning]
    assert len(told) == 2
    assert "the id of `pool` is a number in 30 rows and a string in 30 rows" in told[0]
    assert "may load no row of `selected.json`, or change" in told[0]
    assert "--to messages" in told[0]  # strings for ids alone would leave `k` as it is
    assert "values of `k` of `pool` are of several types" in told[1]
    assert "the id of `pool` is" in of("LLaMA-Factory", guide(run))
