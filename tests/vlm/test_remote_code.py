"""Checkpoints that bring Python code of their own; every run of it leaves a mark."""

import json
import shutil

import numpy as np
import pytest
from safetensors.torch import save_file
from transformers import AutoModel

from hub import represent, vectors
from scalselect.errors import ModelError
from scalselect.vlm.remote_code import refuse_untrusted_code

MARK = """\
import os
from pathlib import Path

Path(os.environ["MARK"]).touch()
"""
CONFIGURATION = """
from transformers import LlavaConfig


class OwnConfig(LlavaConfig):
    model_type = "own_llava"
"""
MODELING = """
from transformers import LlavaModel

from .configuration_own import OwnConfig


class OwnModel(LlavaModel):
    config_class = OwnConfig
"""
PROCESSING = """
from transformers import LlavaProcessor


class OwnProcessor(LlavaProcessor):
    pass
"""
TOKENIZATION = """
from transformers import PreTrainedTokenizerFast


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
ADVICE = "which is not run unasked"


def edit(file, **changes):
    facts = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**facts, **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def llava(sharded):
    return sharded("llava")


@pytest.fixture(scope="module")
def expected(offline, pool, llava, tmp_path_factory):
    output = tmp_path_factory.mktemp("expected") / "run"
    assert represent(offline, pool, llava, output)[0] == 0
    return vectors(output)


@pytest.fixture
def own_model(llava, tmp_path):
    """Return a checkpoint of an unknown model type: a LLaVA by another name, its tensors named as the model does."""
    folder = shutil.copytree(llava, tmp_path / "own model", ignore=shutil.ignore_patterns("*.safetensors*"))
    # Within a process transformers remembers which model class belongs to a configuration class: one for each test.
    (folder / "configuration_own.py").write_text(f"# {tmp_path}\n{MARK}{CONFIGURATION}")
    (folder / "modeling_own.py").write_text(MARK + MODELING)
    auto_map = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    edit(folder / "config.json", model_type="own_llava", auto_map=auto_map, architectures=["OwnModel"])
    weights, index = AutoModel.from_pretrained(llava).state_dict(), {}
    for number, (name, tensor) in enumerate(weights.items()):
        file = index[name] = f"model-{number:05}-of-{len(weights):05}.safetensors"
        save_file({name: tensor.contiguous()}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


@pytest.fixture
def own_processor(llava, tmp_path):
    folder = shutil.copytree(llava, tmp_path / "own processor")
    (folder / "processing_own.py").write_text(MARK + PROCESSING)
    auto_map = {"AutoProcessor": "processing_own.OwnProcessor"}
    edit(folder / "processor_config.json", processor_class="OwnProcessor", auto_map=auto_map)
    edit(folder / "tokenizer_config.json", processor_class="OwnProcessor")
    return folder


@pytest.fixture
def own_tokenizer(llava, tmp_path):
    folder = shutil.copytree(llava, tmp_path / "own tokenizer")
    (folder / "tokenization_own.py").write_text(MARK + TOKENIZATION)
    auto_map = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
    edit(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=auto_map)
    return folder


@pytest.mark.parametrize(
    ("kind", "file", "classes"),
    [
        ("own_model", "config.json", "OwnConfig, OwnModel"),
        ("own_processor", "processor_config.json", "OwnProcessor"),
        ("own_tokenizer", "tokenizer_config.json", "OwnTokenizer"),
    ],
)
def test_code_is_run_only_where_it_is_trusted(kind, file, classes, request, offline, pool, expected, tmp_path):
    folder, mark, output = request.getfixturevalue(kind), tmp_path / "mark", tmp_path / "run"
    code, said = represent(offline, pool, folder, output, MARK=str(mark))
    assert (code, mark.exists(), output.exists()) == (2, False, False), said
    assert f"{ADVICE}: {folder} ({file} names" in said
    assert "--trust-remote-code of `run` and `represent` runs it, with all rights of the process" in said

    code, said = represent(offline, pool, folder, output, "--trust-remote-code", MARK=str(mark))
    assert code == 0, said
    assert mark.exists()
    words = f"code that came with the checkpoint was run: {classes}"
    assert words in said
    assert np.array_equal(vectors(output), expected)
    recorded = json.loads((output / "run.json").read_bytes())
    assert recorded["remote_code"] == words
    assert recorded["represent"]["trust_remote_code"] is True
    assert len(recorded["represent"]["model_code"]) == 64

    python = min(folder.glob("*_own.py"))
    python.write_text(python.read_text() + "\n\nchanged = True\n")
    code, said = represent(offline, pool, folder, output, "--trust-remote-code", MARK=str(mark))
    assert (code, "model_code: " in said) == (2, True), said


def test_nothing_is_recorded_where_no_code_was_run(offline, pool, llava, expected, tmp_path):
    assert represent(offline, pool, llava, tmp_path / "run", "--trust-remote-code")[0] == 0
    recorded = json.loads((tmp_path / "run" / "run.json").read_bytes())
    assert recorded["remote_code"] is None
    assert recorded["represent"]["trust_remote_code"] is True
    assert "model_code" not in recorded["represent"]
    assert np.array_equal(vectors(tmp_path / "run"), expected)


def test_a_family_that_transformers_knows_needs_no_code(own_model, offline, pool, llava, expected, tmp_path):
    shutil.copytree(llava, own_model, dirs_exist_ok=True)
    auto_map = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    edit(own_model / "config.json", auto_map=auto_map)
    mark = tmp_path / "mark"
    code, said = represent(offline, pool, own_model, tmp_path / "run", MARK=str(mark))
    assert (code, mark.exists()) == (0, False), said
    assert np.array_equal(vectors(tmp_path / "run"), expected)


def test_code_from_a_hub(own_model, hub, online, pool, llava, expected, tmp_path):
    repository = hub.add("owner/own", own_model)
    mark = tmp_path / "mark"
    code, said = represent(online, pool, "owner/own", tmp_path / "run", MARK=str(mark))
    assert (code, mark.exists()) == (2, False), said
    assert f"{ADVICE}: owner/own" in said
    assert not [file for file in repository.downloaded() if file.endswith((".py", ".safetensors"))]

    code, said = represent(online, pool, "owner/own", tmp_path / "run", "--trust-remote-code", MARK=str(mark))
    assert code == 0, said
    assert mark.exists()
    index = json.loads((own_model / "model.safetensors.index.json").read_text())["weight_map"]
    unread = ("language_model.layers.1.", "language_model.layers.2.")
    downloaded = repository.downloaded()
    assert not [name for name, file in index.items() if name.startswith(unread) and file in downloaded]
    assert {file for name, file in index.items() if "language_model.layers.0." in name} <= downloaded
    assert np.array_equal(vectors(tmp_path / "run"), expected)


def test_code_without_a_model_class_is_refused(own_model, offline, pool, tmp_path):
    edit(own_model / "config.json", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    mark = str(tmp_path / "mark")
    code, said = represent(offline, pool, own_model, tmp_path / "run", "--trust-remote-code", MARK=mark)
    assert code == 2
    assert "its auto_map has neither AutoModel nor AutoModelForImageTextToText" in said


@pytest.mark.parametrize(
    ("file", "content", "refused"),
    [
        ("config.json", {"model_type": "llava", "auto_map": {"AutoConfig": "a.B"}}, False),
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "a.B"}}, True),
        ("config.json", {"auto_map": {"AutoConfig": "a.B"}}, True),
        ("config.json", {"model_type": "llava", "auto_map": {"AutoModel": "a.B"}}, False),
        ("processor_config.json", {"processor_class": "LlavaProcessor", "auto_map": {"AutoProcessor": "a.B"}}, False),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "a.B"}}, True),
        ("processor_config.json", {"image_processor": {"auto_map": {"AutoImageProcessor": "a.B"}}}, True),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "a.B"}}, True),
        ("preprocessor_config.json", {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "a.B"}}, True),
        ("video_preprocessor_config.json", {"auto_map": {"AutoVideoProcessor": "a.B"}}, True),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "auto_map": ["a.B", None]}, False),
        ("tokenizer_config.json", {"tokenizer_class": "OwnTokenizer", "auto_map": ["a.B", None]}, True),
        ("tokenizer_config.json", {"tokenizer_class": "OwnTokenizer"}, False),
        ("tokenizer_config.json", [], False),
    ],
)
def test_which_declarations_need_trust(tmp_path, file, content, refused):
    (tmp_path / file).write_text(json.dumps(content))
    refuse_untrusted_code(tmp_path, "name", trusted=True)
    if refused:
        with pytest.raises(ModelError, match=f"{ADVICE}: name \\({file} names"):
            refuse_untrusted_code(tmp_path, "name", trusted=False)
    else:
        refuse_untrusted_code(tmp_path, "name", trusted=False)
