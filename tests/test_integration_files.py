"""What `make integrations` gives the trainers: files with faults, pages of run folders, pinned environments."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from integrations.environments import HERE
from integrations.expected import as_swift
from integrations.guide import Guide
from integrations.roster import Chosen, consumers
from integrations.subsets import Subset, one_fault
from integrations.trl_files import exported_file, write_faulty_trl, write_trl
from small_subsets import small_subsets

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


def test_a_file_for_trl_has_blocks_of_two_keys_and_its_faults(subsets, tmp_path):
    path = write_trl(subsets["messages"], tmp_path / "trl.parquet")
    rows = pq.read_table(path).to_pylist()
    assert rows[0]["messages"][0]["content"] == [
        {"type": "image", "text": None},
        {"type": "text", "text": "question 0"},
    ]
    assert [len(row["images"]) for row in rows] == [1, 1, 1, 0, 1, 1]
    wrong = pq.read_table(write_faulty_trl(path, "marker in the text", tmp_path / "a.parquet")).to_pylist()
    assert wrong[1]["messages"][0]["content"][1]["text"] == "<image>\nquestion 1"
    wrong = pq.read_table(write_faulty_trl(path, "another picture", tmp_path / "b.parquet")).to_pylist()
    assert wrong[1]["images"] == rows[0]["images"]
    assert wrong[:1] + wrong[2:] == rows[:1] + rows[2:]


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
    write_trl(subsets["messages"], tmp_path / "trl.parquet")
    chosen = {name: Chosen(subset, guide) for name, subset in subsets.items()}
    roster = consumers(chosen, tmp_path / "model", tmp_path / "work")
    for consumer in roster:
        assert (ROOT / "integrations/consumers" / consumer.script).is_file()
        assert (HERE / f"requirements-{consumer.environment}.txt").is_file()
        assert {case.fault is None for case in consumer.cases} == {True, False}
        assert all((case.fault is None) == (case.sign is None) for case in consumer.cases)
        entries = [json.dumps(case.entry) for case in consumer.cases]
        assert len(set(entries)) == len(entries)
    assert len({consumer.title for consumer in roster}) == len(roster)


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
