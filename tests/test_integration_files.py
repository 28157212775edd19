"""What `make integrations` gives the trainers: files with faults, pages of run folders, pinned environments."""

from __future__ import annotations

import ast
import json
import re
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from integrations.container_faults import exported_file, write_faulty_trl, write_members_apart
from integrations.environments import HERE
from integrations.expected import as_swift
from integrations.guide import Guide
from integrations.material import POOLS
from integrations.roster import Chosen, consumers
from integrations.subsets import Subset, one_fault
from small_subsets import small_subsets, write_exported, write_tar

ROOT = Path(__file__).parents[1]
GUIDE = """\
# How to train

## LLaMA-Factory

Into `dataset_info.json`:

```json
{
  "chosen": {"file_name": "/r u n/selected.json", "columns": {"messages": "conversations"}}
}
```

```yaml
dataset: chosen
media_dir: "/the images"
```

## ms-swift

```bash
ROOT_IMAGE_DIR='/the images' swift sft --model MODEL --dataset '/r u n/selected.json' --strict true
```

## LLaVA

```bash
scalselect export '/r u n' --to llava
```

```bash
--data_path '/r u n/exported/llava.json' --image_folder '/the images'
```

## TRL

```bash
scalselect export '/r u n' --to trl
```

```python
from datasets import load_dataset

dataset = load_dataset("parquet", data_files="EXPORTED", split="train")
```
"""


@pytest.fixture
def subsets(tmp_path):
    return small_subsets(tmp_path)


@pytest.fixture
def guide(tmp_path):
    path = tmp_path / "how_to_train.md"
    path.write_text(GUIDE.replace("EXPORTED", str(tmp_path / "trl.parquet")))
    return Guide.read(tmp_path)


def test_known_faults(subsets, tmp_path):
    whole = subsets["llava"].records
    assert one_fault(whole, "no answer")[1]["conversations"] == whole[1]["conversations"][:1]
    assert one_fault(whole, "missing picture")[1]["image"] == "images/no-such-picture.png"
    assert [record["id"] for record in one_fault(whole, "mixed ids")[:3]] == [1, "007", "row-2"]
    with pytest.raises(ValueError, match="no such fault"):
        one_fault(whole, "no such fault")
    (tmp_path / "faults").mkdir()
    for subset in subsets.values():
        faulty = subset.with_fault("missing picture", tmp_path / "faults")
        assert Subset.read(faulty.path, tmp_path) == faulty
        assert [row.images for row in faulty.expected(as_swift)].count((None,)) == 1


def test_known_faults_of_a_file_for_trl(subsets, tmp_path):
    path = write_exported(subsets["messages"], tmp_path / "trl.parquet")
    rows = pq.read_table(path).to_pylist()
    wrong = pq.read_table(write_faulty_trl(path, "marker in the text", tmp_path / "a.parquet")).to_pylist()
    assert wrong[1]["messages"][0]["content"][1]["text"] == "<image>\nquestion 1"
    wrong = pq.read_table(write_faulty_trl(path, "another picture", tmp_path / "b.parquet")).to_pylist()
    assert wrong[1]["images"] == rows[0]["images"]
    assert wrong[:1] + wrong[2:] == rows[:1] + rows[2:]


def test_a_tar_is_read_and_can_have_its_members_apart(subsets, tmp_path):
    path = write_tar(subsets["messages"], tmp_path / "selected.tar")
    whole = subsets["messages"].expected(as_swift)
    assert Subset.read(path, tmp_path).expected(as_swift) == whole
    apart = write_members_apart(path, tmp_path / "apart.tar")
    with tarfile.open(path) as before, tarfile.open(apart) as after:
        names = before.getnames()
        assert after.getnames() == [name for name in names if name != "row-1.0.png"] + ["row-1.0.png"]


def test_tables_are_read(subsets, tmp_path):
    rows = [
        {
            **record,
            "images": [{"bytes": (tmp_path / name).read_bytes(), "path": None} for name in record.get("images", [])],
        }
        for record in subsets["messages"].records
    ]
    whole = subsets["messages"].expected(as_swift)
    Dataset.from_list(rows).to_parquet(tmp_path / "selected.parquet")
    assert Subset.read(tmp_path / "selected.parquet", tmp_path).expected(as_swift) == whole
    Dataset.from_list(rows).save_to_disk(tmp_path / "selected")
    assert Subset.read(tmp_path / "selected", tmp_path).expected(as_swift) == whole


def test_what_the_page_says_is_what_is_given(guide, tmp_path):
    info, options = guide.llamafactory()
    assert info == {"chosen": {"file_name": "/r u n/selected.json", "columns": {"messages": "conversations"}}}
    assert options == {"dataset": "chosen", "media_dir": "/the images"}
    assert guide.swift() == (
        {"dataset": "/r u n/selected.json", "strict": "true"},
        {"ROOT_IMAGE_DIR": "/the images"},
    )
    assert guide.llava() == {"data_path": "/r u n/exported/llava.json", "image_folder": "/the images"}
    assert guide.exports("LLaVA") == [["scalselect", "export", "/r u n", "--to", "llava"]]
    assert guide.exports("ms-swift") == []
    assert exported_file(guide.trl()) == tmp_path / "trl.parquet"


def test_a_page_without_what_is_wanted_is_no_page_of_ours(guide):
    for blocks in (
        [],
        [("bash", "swift sft --model MODEL --dataset a b")],
        [("bash", "swift sft"), ("bash", "swift sft")],
    ):
        with pytest.raises(ValueError, match=r"unpack|no flags"):
            Guide({"ms-swift": blocks}).swift()


def test_every_consumer_has_clean_files_and_a_fault(subsets, guide, tmp_path):
    (tmp_path / "work").mkdir()
    write_exported(subsets["messages"], tmp_path / "trl.parquet")
    tar = Subset.read(write_tar(subsets["messages"], tmp_path / "selected.tar"), tmp_path)
    others = {"parquet": subsets["messages"], "saved": subsets["messages"], "tar": tar}
    chosen = {name: Chosen(subset, guide) for name, subset in (subsets | others).items()}
    roster = consumers(chosen, tmp_path / "model", tmp_path / "work")
    for consumer in roster:
        assert (ROOT / "integrations/consumers" / consumer.script).is_file()
        assert (HERE / f"requirements-{consumer.environment}.txt").is_file()
        assert {case.fault is None for case in consumer.cases} == {True, False}
        assert all((case.fault is None) == (case.sign is None) for case in consumer.cases)
        assert {case.name for case in consumer.cases if case.fault is None} <= set(POOLS)
        json.dumps([case.entry for case in consumer.cases])
    assert len({consumer.title for consumer in roster}) == len(roster)
    assert {case.name for consumer in roster for case in consumer.cases} == set(POOLS)


@pytest.mark.parametrize("path", sorted(HERE.glob("requirements-*.txt")), ids=lambda path: path.stem)
def test_every_requirement_is_pinned_and_torch_is_left_to_one_place(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = [line.split("==")[0].lower() for line in lines]
    assert len(set(names)) == len(names)
    assert "torch" not in names


def test_scripts_of_consumers_import_nothing_of_ours():
    for path in (ROOT / "integrations/consumers").glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        assert not [name for name in imported if name.split(".")[0] in {"scalselect", "integrations"}]
