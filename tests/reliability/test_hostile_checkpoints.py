"""Checkpoints that would like to run something: Python files, pickles, chat templates. Every trap leaves a mark."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scalselect.config import RepresentConfig
from scalselect.dataset.vector_files import open_vectors
from scalselect.errors import DatasetError, ModelError, ScalselectError
from scalselect.vlm import rehearsal
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.settings import resolve_settings
from small_pools import write_pool

MARK = "import os, pathlib\npathlib.Path(os.environ['MARK']).touch()\n"


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


@pytest.fixture
def model(checkpoints, tmp_path):
    return shutil.copytree(checkpoints("llava"), tmp_path / "model")


def load(folder, **options):
    config = RepresentConfig(**options)
    return load_checkpoint(folder, config, resolve_settings(config, folder, None)), config


def test_no_python_file_of_a_checkpoint_is_imported(model, pictures, tmp_path):
    names = (
        "modeling_llava",
        "processing_llava",
        "tokenization_llava",
        "generate",
        "__init__",
        "torch",
        "sitecustomize",
    )
    for name in names:
        (model / f"{name}.py").write_text(MARK)
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text(MARK)
    data, mark = write_pool(tmp_path / "data", pictures, rows=4), tmp_path / "mark"
    script = shutil.which("scalselect", path=os.path.dirname(sys.executable))  # noqa: PTH120
    start = (
        [script] if script else [sys.executable, "-c", "from scalselect.cli import main; import sys; sys.exit(main())"]
    )
    words = ["run", str(data), "--model", ".", "--budget", "2", "--output", str(tmp_path / "run")]
    environment = {**os.environ, "MARK": str(mark)}
    if not script:  # Python's own way puts the working directory first
        environment["PYTHONSAFEPATH"] = "1"
    done = subprocess.run([*start, *words], cwd=model, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not mark.exists()


@pytest.mark.parametrize("old", [False, True])
def test_weights_that_hold_more_than_tensors_are_not_unpickled(model, tmp_path, old):
    mark = tmp_path / "mark"
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    file = model / "pytorch_model.bin"
    torch.save({**weights, "more": Trap(mark)}, file, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError, match=r"nothing else is unpickled|cannot be loaded"):
        load(model)
    assert not mark.exists()
    torch.load(file, weights_only=False)  # the trap is one
    assert mark.exists()


@pytest.mark.parametrize(
    "name", ["tokenizer.pkl", "processor.pkl", "preprocessor.bin", "training_args.bin", "optimizer.pt"]
)
def test_other_pickles_of_a_checkpoint_are_left_alone(model, tmp_path, name):
    mark = tmp_path / "mark"
    (model / name).write_bytes(pickle.dumps(Trap(mark)))
    load(model)
    assert not mark.exists()


def test_vectors_in_a_pickle_are_refused(tmp_path):
    mark = tmp_path / "mark"
    np.save(tmp_path / "X.npy", np.array([[Trap(mark)], [Trap(mark)]], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError):
        open_vectors(tmp_path / "X.npy")
    (tmp_path / "Y.npy").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(DatasetError):
        open_vectors(tmp_path / "Y.npy")
    assert not mark.exists()


ATTACKS = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('touch MARK') }}",
    "{{ lipsum.__globals__['os'].popen('touch MARK').read() }}",
    "{% include '/etc/passwd' %}",
    "{{ messages.append(1) }}",
    "{{ ('%s' | attr('format'))(1).__class__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['datetime'] }}",
    "{% for i in range(10**9) %}x{% endfor %}",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_chat_template_reaches_nothing_beyond_its_messages(model, tmp_path, attack):
    mark = tmp_path / "mark"
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text(attack.replace("MARK", str(mark)) + template)
    checkpoint, config = load(model)
    try:
        rehearsal.rehearse(checkpoint, config)
    except ScalselectError as error:  # where it is not silently empty, as an unknown name is in Jinja
        assert isinstance(error, ModelError)  # noqa: PT017
    assert not mark.exists()


def test_chat_template_that_never_ends_is_refused(model, monkeypatch):
    monkeypatch.setattr(rehearsal, "_SECONDS", 1)
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (model / "chat_template.jinja").write_text(loops)
    checkpoint, config = load(model)
    began = time.monotonic()
    with pytest.raises(ModelError, match="chat template or processor takes more than 1 seconds"):
        rehearsal.rehearse(checkpoint, config)
    assert time.monotonic() - began < 60


def test_configuration_of_any_shape_is_refused_in_words(model):
    for content in (
        "[]",
        "null",
        "{",
        '{"model_type": ["llava"]}',
        '{"model_type": "' + "x" * 10000 + '"}',
        "[" * 100000,
    ):
        (model / "config.json").write_text(content)
        with pytest.raises(ModelError) as caught:
            load(model)
        assert len(str(caught.value)) < 1500
