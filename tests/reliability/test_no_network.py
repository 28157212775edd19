"""No command reaches a network that it was not asked to reach, whatever data and checkpoint name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scalselect.errors import ModelError
from scalselect.vlm.settings import load_config
from small_pools import record

SCRIPT = Path(__file__).with_name("offline_run.py")
ELSEWHERE = "evil/repository"


def edit(file, **changes):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes}))


def tempting(folder, checkpoint):
    """Return a copy of a checkpoint whose files name a hub's repositories and web addresses wherever they can."""
    shutil.copytree(checkpoint, folder)
    of_hub = {"_name_or_path": ELSEWHERE, "name_or_path": ELSEWHERE, "transformers_version": "4.40.0"}
    code = {"AutoConfig": f"{ELSEWHERE}--c.C", "AutoModel": f"{ELSEWHERE}--m.M"}
    edit(folder / "config.json", **of_hub, auto_map=code)
    edit(folder / "tokenizer_config.json", **of_hub, auto_map={"AutoTokenizer": [f"{ELSEWHERE}--t.T"] * 2})
    edit(folder / "processor_config.json", **of_hub, auto_map={"AutoProcessor": f"{ELSEWHERE}--p.P"})
    (folder / "generation_config.json").write_text(json.dumps({"custom_generate": ELSEWHERE}))
    (folder / "README.md").write_text(f"---\nbase_model: {ELSEWHERE}\n---\n")
    return folder


def commands_on(folder, model, pictures):
    records = [record(number, pictures[number % 6]) for number in range(8)]
    addresses = ("https://evil.example/a.png", "http://169.254.169.254/latest/meta-data", "//evil.example/a.png")
    records += [record(8 + number, address) for number, address in enumerate(addresses)]
    (folder / "pool.json").write_text(json.dumps(records))
    (folder / "new.json").write_text(json.dumps([record(20, pictures[0])]))
    data, run = str(folder / "pool.json"), str(folder / "run")
    return [
        ["--help"],
        ["run", data, "--model", str(model), "--budget", "3", "--output", run, "--max-skipped", "60%"],
        ["check", data, "--model", str(model)],
        ["check", data, "--decode", "off", "--like", "llamafactory"],
        ["score", run, "--energy", "0.8"],
        ["select", run, "--budget", "4"],
        ["export", run, "--to", "trl", "--embed-images"],
        ["export", run, "--to", "messages"],
        ["compare", run, run],
        ["extend", run, str(folder / "new.json")],
    ]


def answers(commands, notes, *before):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    words = [*before, sys.executable, str(SCRIPT), json.dumps(commands), str(notes)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.parametrize("family", ["llava", pytest.param("qwen2_5_vl", marks=pytest.mark.slow)])
def test_nothing_is_reached_unasked(family, checkpoints, pictures, tmp_path):
    model, notes = tempting(tmp_path / "model", checkpoints(family)), tmp_path / "attempts"
    done = answers(commands_on(tmp_path, model, pictures), notes)
    assert not notes.exists(), notes.read_text()[:3000]
    assert done.stderr.rsplit("codes ", 1)[-1].strip() == "[0, 0, 1, 1, 0, 0, 0, 0, 0, 0]", done.stderr[-3000:]


def test_attempts_are_noticed(checkpoints, pictures, tmp_path):
    """Asked for, a web address and a hub's model are reached for: the test above can fail."""
    data = tmp_path / "pool.json"
    data.write_text(json.dumps([record(0, "http://evil.example/a.png")]))
    notes = tmp_path / "attempts"
    done = answers([["check", str(data), "--allow-remote-images"]], notes)
    assert "evil.example" in notes.read_text(), done.stderr
    notes.unlink()
    answers([["check", str(data), "--model", ELSEWHERE]], notes)
    assert "huggingface" in notes.read_text()


@pytest.mark.slow
def test_a_run_needs_no_network_at_all(checkpoints, pictures, tmp_path):
    trial = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    if trial.returncode:
        pytest.skip("processes without a network cannot be made here (unshare -n)")
    commands = commands_on(tmp_path, checkpoints("llava"), pictures)[:2]
    done = answers(commands, tmp_path / "attempts", "unshare", "-rn")
    assert done.stderr.rsplit("codes ", 1)[-1].strip() == "[0, 0]", done.stderr[-3000:]


@pytest.mark.parametrize("where", ["", "text_config", "vision_config"])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_compiled_code_of_a_repository_is_refused(checkpoints, tmp_path, where, key):
    shutil.copytree(checkpoints("llava"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    content = json.loads(file.read_text())
    (content[where] if where else content)[key] = f"{ELSEWHERE}:flash"
    file.write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match=r"compiled code of a repository, which is not fetched: .*evil/repository:flash"
    ):
        load_config(tmp_path / "model", trusted=True)


def test_adapter_is_refused_for_its_base_model_lies_elsewhere(checkpoints, tmp_path):
    shutil.copytree(checkpoints("llava"), tmp_path / "model")
    (tmp_path / "model" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": ELSEWHERE}))
    with pytest.raises(ModelError, match="holds an adapter"):
        load_config(tmp_path / "model")


@pytest.mark.parametrize("file", ["/etc/passwd", "../other/model.safetensors", "a/../../b.safetensors"])
def test_weights_outside_the_folder_are_refused(checkpoints, tmp_path, file):
    shutil.copytree(checkpoints("llava"), tmp_path / "model")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": file}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="file of weights outside of its folder"):
        load_config(tmp_path / "model")
