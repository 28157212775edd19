"""Options that say where work runs: which values there are, and which exclude one another."""

from __future__ import annotations

import json
import re

import pytest

from scalselect.config import RunConfig
from scalselect.engine_options import EngineConfig
from scalselect.errors import OptionError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "slurm"}, "engine"),
        ({"workers": 0}, "workers"),
        ({"workers": -2}, "workers"),
        (
            {"workers": 2, "devices": "0,1"},
            "workers and devices exclude each other: 2 and '0,1' (devices gives every device named a worker)",
        ),
        ({"devices": ""}, "devices names none: '' (wanted: for example 0,1)"),
        ({"devices": " , "}, "devices names none: ' , ' (wanted: for example 0,1)"),
        (
            {"engine": "ray", "devices": "0"},
            "devices has no effect with engine `ray`, which places workers itself: '0'; give workers",
        ),
        ({"ray_address": "auto"}, "ray_address has no effect without engine `ray`: 'auto'"),
    ],
)
def test_what_is_refused(options, told):
    with pytest.raises(OptionError, match=f"^{re.escape(told)}"):
        EngineConfig(**options)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("0", ["cuda:0"]),
        ("0,1", ["cuda:0", "cuda:1"]),
        (" 3 ,cuda:1,", ["cuda:3", "cuda:1"]),
        ("cpu,cpu", ["cpu", "cpu"]),
        ("0,0", ["cuda:0", "cuda:0"]),
        (None, []),
    ],
)
def test_names_of_devices(words, names):
    assert EngineConfig(devices=words).device_names == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, None),
        ({"workers": 1}, "workers 1"),
        ({"devices": "0,1"}, "devices 0,1"),
        ({"engine": "ray"}, "engine ray"),
        ({"engine": "ray", "workers": 3}, "workers 3"),
    ],
)
def test_what_asks_for_other_processes(options, words):
    assert EngineConfig(**options).names_workers == words


def test_from_a_file_and_from_words(tmp_path):
    file = tmp_path / "options.toml"
    file.write_text('workers = 3\nengine = "ray"\nray_address = "head:6379"\n')
    config = RunConfig.from_options({"workers": 4}, file)
    assert config.engine == EngineConfig(engine="ray", workers=4, ray_address="head:6379")
    assert RunConfig.from_options({}).engine == EngineConfig()


def test_they_are_no_part_of_what_a_run_records():
    """Where work runs changes no number, so a run may go on elsewhere."""
    from dataclasses import asdict

    from scalselect.represent_keys import option_keys
    from scalselect.vlm.settings import Settings

    names = set(asdict(EngineConfig()))
    config = RunConfig.from_options({})
    settings = Settings(dtype="float32", device="cpu", threads=1, max_rows=None, batch_tokens=1, image_fit="pad")
    recorded = json.dumps([option_keys(config.represent, settings), asdict(config.score)], default=str)
    assert names == {"engine", "workers", "devices", "ray_address"}
    assert not [name for name in names if f'"{name}"' in recorded]
