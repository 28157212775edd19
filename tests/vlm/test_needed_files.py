import json
import shutil

import pytest
import torch
from transformers import AutoConfig

from families import FAMILIES
from hub import UNREAD, files_read, weight_map
from scalselect.errors import ModelError
from scalselect.vlm import needed_files
from scalselect.vlm.hub_files import HubSnapshot
from scalselect.vlm.needed_files import files_of_tensors, index_of
from scalselect.vlm.truncation import load_truncated, truncated_config

OTHERS = ("llava", "qwen2_5_vl", "qwen3_vl")


@pytest.mark.parametrize("family", UNREAD)
def test_needed_files_are_known_from_the_index(family, sharded):
    folder = sharded(family)
    shorter = truncated_config(AutoConfig.from_pretrained(folder))
    assert files_of_tensors(shorter, weight_map(folder), trusted=False) == files_read(folder, UNREAD[family])


@pytest.mark.parametrize("family", [*OTHERS, *FAMILIES])
def test_the_needed_files_are_enough(family, sharded, checkpoints, tmp_path):
    whole = sharded(family)
    shorter = truncated_config(AutoConfig.from_pretrained(whole))
    needed = files_of_tensors(shorter, weight_map(whole), trusted=False)
    left_out = set(weight_map(whole).values()) - needed
    assert left_out
    folder = shutil.copytree(whole, tmp_path / family, ignore=shutil.ignore_patterns(*left_out))
    snapshot = HubSnapshot(name=f"owner/{family}", commit="0" * 40, folder=folder, with_code=False)
    with snapshot.with_weights(shorter) as reduced:
        found = load_truncated(reduced, shorter, dtype=torch.float32).state_dict()
    assert not reduced.exists()
    wanted = load_truncated(checkpoints(family), shorter, dtype=torch.float32).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_older_key_names_are_mapped(sharded):
    names = {
        name.replace("vision_tower.", "vision_tower.vision_model.")
        if not name.startswith("vision_tower.vision_model.")
        else name: file
        for name, file in weight_map(sharded("llava")).items()
    }
    bare = {name.replace("vision_tower.vision_model.", "vision_tower."): file for name, file in names.items()}
    assert names != bare
    shorter = truncated_config(AutoConfig.from_pretrained(sharded("llava")))
    read = files_read(sharded("llava"), UNREAD["llava"])
    for spelling in (names, bare):
        assert files_of_tensors(shorter, spelling, trusted=False) == read


def test_all_files_are_needed_where_the_names_are_not_understood(sharded, monkeypatch):
    names = weight_map(sharded("llava"))
    shorter = truncated_config(AutoConfig.from_pretrained(sharded("llava")))
    one = next(name for name in names if "layers.0.self_attn.q_proj" in name and "language_model" in name)
    other = {("renamed.beyond.recognition" if name == one else name): file for name, file in names.items()}
    assert files_of_tensors(shorter, other, trusted=False) == set(names.values())

    def fails(*words):
        raise TypeError

    with monkeypatch.context() as patched:  # two names that become one
        patched.setattr(needed_files, "_renamed", lambda name, _rules: name.replace("k_proj", "q_proj"))
        assert files_of_tensors(shorter, names, trusted=False) == set(names.values())
    monkeypatch.setattr(needed_files, "rename_source_key", fails)
    assert files_of_tensors(shorter, names, trusted=False) == set(names.values())


@pytest.mark.parametrize("file", ["../other.safetensors", "/etc/passwd", ""])
def test_an_index_that_points_outside_is_refused(tmp_path, file):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "a.safetensors", "b": file}}))
    with pytest.raises(ModelError, match="outside the checkpoint's folder"):
        index_of(index)


def test_an_index_that_cannot_be_read_is_refused(tmp_path):
    for content in ("{", "[]", "{}", '{"weight_map": 5}'):
        (tmp_path / "index").write_text(content)
        with pytest.raises(ModelError, match="index of weights cannot be read"):
            index_of(tmp_path / "index")
