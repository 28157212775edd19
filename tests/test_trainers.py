"""What `--like` stands for: the options it sets, who wins over it, and that all of it is told and kept."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import get_args

import pytest

from scalselect import config
from scalselect.config import RepresentConfig, RunConfig
from scalselect.trainers import TRAINERS, TrainerName, overridden, preset, preset_lines

MEASURED = {  # trainer: what was found by running it with its own loader
    "llava": {"exif": "ignore", "alpha": "drop", "image_fit": "pad", "max_length": 2048, "image_resize": "processor"},
    "llamafactory": {
        "exif": "ignore",
        "alpha": "drop",
        "image_resize": "before",
        "image_max_pixels": 589824,
        "image_min_pixels": 1024,
        "max_length": 2048,
        "image_position": "record",
        "image_fit": "processor",
        "chat_template": None,
    },
    "ms-swift": {"exif": "ignore", "alpha": "drop", "image_max_pixels": None, "max_length": None},
    "trl": {"exif": "apply", "alpha": "white", "image_max_pixels": None, "max_length": 1024},
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_trainer_shows_records_as_measured(name):
    represent = asdict(RunConfig.from_options({"like": name}).represent)
    assert {option: represent[option] for option in MEASURED[name]} == MEASURED[name]
    assert represent["like"] == name


def test_llava_moves_images_and_trains_with_vicunas_prompt():
    represent = RunConfig.from_options({"like": "llava"}).represent
    assert (represent.image_position, represent.chat_template) == ("turn-start", "vicuna")


def test_every_trainer_can_be_named_and_sets_options_only():
    assert tuple(TRAINERS) == get_args(TrainerName) == tuple(MEASURED)
    options = {item.name for item in fields(RepresentConfig)}
    for name, trainer in TRAINERS.items():
        assert set(trainer.options) < options - {"like"}
        assert preset(name) == trainer.options
        assert preset(name) is not trainer.options


def test_nothing_else_changes():
    plain, like = (asdict(RunConfig.from_options(given).represent) for given in ({}, {"like": "trl"}))
    changed = {option for option in plain if plain[option] != like[option]}
    assert changed == {"like", "exif", "alpha", "image_fit", "max_length"}


def test_the_call_beats_the_file_beats_the_trainer_beats_the_default(tmp_path):
    path = tmp_path / "options.toml"
    path.write_text('like = "llamafactory"\nmax-length = 77\nexif = "apply"\n', encoding="utf-8")
    found = RunConfig.from_options({"exif": "ignore", "image_max_pixels": 5000}, path).represent
    assert (found.like, found.max_length, found.exif) == ("llamafactory", 77, "ignore")
    assert (found.image_max_pixels, found.image_min_pixels, found.image_resize) == (5000, 1024, "before")
    assert RunConfig.from_options({"like": "trl"}, path).represent.alpha == "white"
    assert RunConfig.from_options({"like": "trl"}, path).represent.max_length == 77
    assert RunConfig.from_options({"like": None}, path).represent.image_resize == "processor"


def test_none_in_a_call_takes_a_limit_back():
    assert RunConfig.from_options({"like": "llava", "max_length": None}).represent.max_length is None


def test_what_a_run_recorded_comes_back_as_it_was():
    """The options of a run that overrode its trainer, given again as `extend` gives them, stay as they are."""
    made = RunConfig.from_options({"like": "llava", "chat_template": None, "max_length": None, "alpha": "white"})
    assert RunConfig.from_options(asdict(made.represent)) == made


def test_an_unknown_trainer_is_refused_with_the_near_one():
    with pytest.raises(
        config.OptionError, match=r"like must be one of .*'llamafactry' \(did you mean `llamafactory`\?"
    ):
        RunConfig.from_options({"like": "llamafactry"})


def test_every_option_is_told_with_what_the_trainer_does_where_it_was_overridden():
    made = RunConfig.from_options({"like": "llamafactory", "max_length": 4096, "image_min_pixels": None})
    values = asdict(made.represent)
    lines = preset_lines("llamafactory", values)
    assert lines[0] == "pictures and texts as LLaMA-Factory 0.9.5 shows them (--like llamafactory):"
    assert "  --max-length 4096 (given; LLaMA-Factory: 2048)" in lines
    assert "  --image-min-pixels none (given; LLaMA-Factory: 1024)" in lines
    assert "  --image-max-pixels 589824" in lines
    assert [line for line in lines if line.startswith("  --")] == lines[1 : 1 + len(TRAINERS["llamafactory"].options)]
    assert "`--chat-template vicuna`" in " ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= 80
    assert overridden("llamafactory", values) == {"max_length": 2048, "image_min_pixels": 1024}
    assert overridden("trl", asdict(RunConfig.from_options({"like": "trl"}).represent)) == {}
