"""Options: defaults, choices, types, bounds, near names, precedence, and what a budget may look like."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, asdict, fields
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.config import (
    RepresentConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from scalselect.errors import MisuseError, OptionError
from scalselect.option_values import parse_budget, parse_percent, read_config_file
from scalselect.records import Budget

DEFAULTS = {
    "format": "auto",
    "dataset_info": None,
    "images": None,
    "allow_remote_images": False,
    "revision": None,
    "chat_template": None,
    "trust_remote_code": False,
    "instruction_tokens": "user",
    "attention_mass": 0.9,
    "layer": 0,
    "pooling": "attended",
    "deepstack": "exclude",
    "vectors": "vision",
    "store_dtype": "float32",
    "image_position": "record",
    "like": None,
    "exif": "ignore",
    "alpha": "drop",
    "image_resize": "processor",
    "image_fit": "auto",
    "image_min_pixels": None,
    "image_max_pixels": None,
    "max_length": None,
    "image_reuse": "on",
    "order": "pool",
    "batch_size": "auto",
    "dtype": "auto",
    "device": "auto",
    "threads": "auto",
    "dataloader_workers": "auto",
    "decode_max_pixels": None,
    "confine_images": None,
    "sample_seconds": 60,
    "skip_oom": False,
    "verify_images": False,
    "explanations": 200,
    "shard_size": 1000,
    "limit": None,
}
CHOICES = {
    "format": ("auto", "llava", "sharegpt", "messages", "alpaca", "query-response", "prompt-completion"),
    "instruction_tokens": ("user", "non-assistant"),
    "pooling": ("attended", "all"),
    "deepstack": ("exclude", "include"),
    "image_reuse": ("on", "off"),
    "order": ("pool", "image"),
    "vectors": ("vision", "vision+instruction"),
    "store_dtype": ("float32", "float16"),
    "image_position": ("record", "turn-start"),
    "exif": ("ignore", "apply"),
    "like": ("llava", "llamafactory", "ms-swift", "trl"),
    "alpha": ("drop", "white"),
    "image_resize": ("processor", "before"),
    "image_fit": ("auto", "processor", "pad"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
}
COUNTS = ("image_min_pixels", "image_max_pixels", "max_length", "batch_size", "threads", "shard_size", "limit")
TEXTS = ("images", "revision", "chat_template", "device", *CHOICES)


def from_toml(tmp_path, text, **options):
    path = tmp_path / "options.toml"
    path.write_text(text, encoding="utf-8")
    return RunConfig.from_options(options, path)


def test_defaults():
    config = RunConfig.from_options({})
    assert asdict(config.represent) == DEFAULTS
    assert asdict(config.score) == {
        "energy": 0.9,
        "rank": None,
        "centring": "on",
        "standardise_columns": "off",
        "normalise_rows": "off",
    }
    assert config.select is None
    assert config.max_skipped == 5


def test_every_option_has_help_and_a_kind():
    for item in (*fields(RepresentConfig), *fields(ScoreConfig), *fields(SelectConfig)):
        assert len(item.metadata["help"]) > 10, item.name
        assert item.name == "budget" or item.metadata["kind"] in (str, int, float, bool, list), item.name


def test_configurations_are_frozen():
    config = RunConfig.from_options({"budget": 5})
    for group, name in ((config, "max_skipped"), (config.represent, "dtype"), (config.score, "energy")):
        with pytest.raises(FrozenInstanceError):
            setattr(group, name, 1)


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name):
    for choice in CHOICES[name]:
        options = {name: choice, "image_max_pixels": 10**6}  # a resizing needs a limit
        assert getattr(RunConfig.from_options(options).represent, name) == choice
    with pytest.raises(OptionError, match=re.escape(f"{name} must be one of {', '.join(CHOICES[name])}: 'xyz'") + "$"):
        RunConfig.from_options({name: "xyz"})


@pytest.mark.parametrize("value", ["true", 1, 0, "", None])
def test_trust_is_true_or_false(tmp_path, value):
    for right in (True, False):
        assert RunConfig.from_options({"trust_remote_code": right}).represent.trust_remote_code is right
        text = f"trust-remote-code = {str(right).lower()}"
        assert from_toml(tmp_path, text).represent.trust_remote_code is right
    with pytest.raises(OptionError, match=f"trust_remote_code must be true or false: {value!r}$"):
        RunConfig.from_options({"trust_remote_code": value})
    with pytest.raises(OptionError, match=f"trust_remote_code must be true or false: {value!r}$"):
        RepresentConfig(trust_remote_code=value)


def test_a_near_choice_is_offered():
    with pytest.raises(OptionError, match=r"'bfloat-16' \(did you mean `bfloat16`\?\)"):
        RunConfig.from_options({"dtype": "bfloat-16"})


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_numbers_of_at_least_one(name):
    assert getattr(RunConfig.from_options({name: 1}).represent, name) == 1
    for value in (0, -1):
        with pytest.raises(OptionError, match=f"{name} must be a whole number of at least 1.*: {value}$"):
            RunConfig.from_options({name: value})
    for value in (1.0, "1", True, [1]):
        with pytest.raises(OptionError, match=f"{name} must be a whole number"):
            RunConfig.from_options({name: value})


@pytest.mark.parametrize("name", ["attention_mass", "energy"])
def test_fractions_lie_between_0_and_1(name):
    group = "score" if name == "energy" else "represent"
    assert getattr(getattr(RunConfig.from_options({name: 0.25}), group), name) == 0.25
    for value in (0, 1, 0.0, 1.0, 1.5, -0.1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match=f"{name} must lie between 0 and 1, both excluded: {float(value)}"):
            RunConfig.from_options({name: value})
    for value in ("0.9", True, None, "auto"):
        with pytest.raises(OptionError, match=f"{name} must be a number"):
            RunConfig.from_options({name: value})


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_texts(name):
    for value in (5, True, ["cpu"]):
        with pytest.raises(OptionError, match=f"{name} must be text"):
            RunConfig.from_options({name: value})


@pytest.mark.parametrize("name", DEFAULTS)
def test_none_is_for_options_that_may_be_left_open(name):
    if DEFAULTS[name] is None:
        assert getattr(RunConfig.from_options({name: None}).represent, name) is None
    else:
        with pytest.raises(OptionError, match=f"{name} must be .*: None$"):
            RunConfig.from_options({name: None})


def test_paths_may_be_paths():
    config = RunConfig.from_options({"images": Path("some/folder"), "chat_template": Path("some.jinja")})
    assert config.represent.images == "some/folder"
    assert config.represent.chat_template == "some.jinja"


def test_auto_is_a_word_where_it_is_the_default_only():
    config = RunConfig.from_options({"batch_size": "auto", "threads": "auto", "device": "auto"}).represent
    assert (config.batch_size, config.threads, config.device) == ("auto", "auto", "auto")
    with pytest.raises(OptionError, match="shard_size must be a whole number: 'auto'"):
        RunConfig.from_options({"shard_size": "auto"})


def test_pixel_limits_must_not_cross():
    RunConfig.from_options({"image_min_pixels": 100, "image_max_pixels": 100})
    with pytest.raises(OptionError, match="image_min_pixels must not exceed image_max_pixels: 101 > 100"):
        RunConfig.from_options({"image_min_pixels": 101, "image_max_pixels": 100})


def test_a_limit_that_a_trainer_s_name_set_is_told_as_such():
    with pytest.raises(OptionError) as told:
        RunConfig.from_options({"like": "llamafactory", "image_max_pixels": 1000})
    assert "1024 > 1000 (image_min_pixels 1024 from like `llamafactory`: give it as well)" in str(told.value)


def test_a_resizing_before_the_processor_needs_a_limit():
    with pytest.raises(OptionError, match="image_resize `before` has no effect without a limit"):
        RunConfig.from_options({"image_resize": "before"})
    for limit in ("image_min_pixels", "image_max_pixels"):
        RunConfig.from_options({"image_resize": "before", limit: 100})


@pytest.mark.parametrize(
    ("name", "near"),
    [("atention_mass", "attention_mass"), ("enrgy", "energy"), ("budgets", "budget"), ("max_skiped", "max_skipped")],
)
def test_unknown_names_are_refused_with_the_near_one(name, near):
    with pytest.raises(OptionError, match=rf"unknown option: `{name}` \(did you mean `{near}`\?\)"):
        RunConfig.from_options({name: 1})


def test_unknown_name_without_a_near_one():
    with pytest.raises(OptionError, match=r"unknown option: `zzzzzz`$"):
        RunConfig.from_options({"zzzzzz": 1})


def test_the_call_beats_the_file_beats_the_default(tmp_path):
    text = 'attention-mass = 0.5\nshard-size = 7\nbudget = "16%"\nmax-skipped = "1.5%"\nenergy = 0.8\n'
    config = from_toml(tmp_path, text, shard_size=9, energy=0.7)
    assert config.represent.attention_mass == 0.5
    assert config.represent.shard_size == 9
    assert config.score.energy == 0.7
    assert config.represent.exif == "ignore"
    assert config.select.budget == (Budget(percent=Decimal(16)),)
    assert config.max_skipped == Decimal("1.5")
    assert from_toml(tmp_path, text, budget=3, max_skipped="2%").select.budget == (Budget(count=3),)
    assert from_toml(tmp_path, text, budget=3, max_skipped="2%").max_skipped == 2


def test_a_wrong_value_in_the_file_is_not_hidden_by_a_right_type_elsewhere(tmp_path):
    for text, message in [
        ('shard-size = "many"', "shard_size must be a whole number: 'many'"),
        ("dtype = 16", "dtype must be text: 16"),
        ("energy = true", "energy must be a number: True"),
        ("budget = 0.16", "budget is a fraction"),
        ("max-skipped = 5", "max_skipped must be a percentage such as 5%: 5"),
        ("[represent]\nenergy = 0.5", "`represent`"),
        (
            "atention-mass = 0.5",
            r"unknown option in .*options\.toml: `atention_mass` \(did you mean `attention_mass`\?\)",
        ),
    ]:
        with pytest.raises(OptionError, match=message):
            from_toml(tmp_path, text)


def test_dashes_and_underscores_are_alike_in_toml(tmp_path):
    assert (
        from_toml(tmp_path, "image_max_pixels = 5").represent == from_toml(tmp_path, "image-max-pixels = 5").represent
    )
    path = tmp_path / "options.toml"
    path.write_text('max-length = 3\nchat-template = "a-b"\n', encoding="utf-8")
    assert read_config_file(path) == {"max_length": 3, "chat_template": "a-b"}
    assert read_config_file(str(path)) == read_config_file(path)


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.toml"
    with pytest.raises(OptionError, match=rf"config file cannot be read: {missing} \(No such file or directory\)"):
        read_config_file(missing)
    with pytest.raises(OptionError, match=rf"config file cannot be read: {tmp_path} \(Is a directory\)"):
        read_config_file(tmp_path)
    for content in (b"= 5", b"a = 1\na = 2\n", b"name = '\xff'", b'{"energy": 0.5}'):
        path = tmp_path / "options.toml"
        path.write_bytes(content)
        with pytest.raises(OptionError, match=rf"config file is not valid TOML: {path} \("):
            read_config_file(path)


@pytest.mark.parametrize(
    ("given_budget", "expected"),
    [
        ("16%", Budget(percent=Decimal(16))),
        (" 16 % ", Budget(percent=Decimal(16))),
        ("16.5%", Budget(percent=Decimal("16.5"))),
        ("0.001%", Budget(percent=Decimal("0.001"))),
        ("100%", Budget(percent=Decimal(100))),
        (5000, Budget(count=5000)),
        ("5000", Budget(count=5000)),
        (1, Budget(count=1)),
        (Budget(count=7), Budget(count=7)),
    ],
)
def test_budgets(given_budget, expected):
    assert parse_budget(given_budget) == expected


@pytest.mark.parametrize(
    ("given_budget", "message"),
    [
        (0, "budget must be at least one row: 0"),
        ("0", "budget must be at least one row: 0"),
        (-3, "budget must be at least one row: -3"),
        ("-3", "budget must be at least one row: -3"),
        ("0%", "budget must be above 0%: 0%"),
        ("0.0%", "budget must be above 0%: 0.0%"),
        ("-1%", "budget must lie between 0% and 100%: -1%"),
        ("200%", "budget must lie between 0% and 100%: 200%"),
        ("nan%", "budget must lie between 0% and 100%: nan%"),
        ("sNaN%", "budget must lie between 0% and 100%: sNaN%"),
        ("inf%", "budget must lie between 0% and 100%: inf%"),
        ("abc%", "budget cannot be read: 'abc%'"),
        ("%", "budget cannot be read: '%'"),
        (0.16, "budget is a fraction, which could mean a share or a count: 0.16"),
        (16.0, "budget is a fraction, which could mean a share or a count: 16.0"),
        ("0.16", "budget is a fraction, which could mean a share or a count: 0.16"),
        ("abc", "budget cannot be read: 'abc'"),
        ("", "budget cannot be read: ''"),
        ("1e3", "budget cannot be read: '1e3'"),
        ("16%%", "budget cannot be read: '16%%'"),
        (True, "budget cannot be read: True"),
        (None, "budget cannot be read: None"),
        ([5], r"budget cannot be read: \[5\]"),
    ],
)
def test_budgets_that_are_refused(given_budget, message):
    with pytest.raises(OptionError, match=message):
        parse_budget(given_budget)


@given(st.integers(1, 10**12) | st.decimals("0.001", 100, places=3))
def test_budgets_are_read_back_from_what_is_printed(number):
    budget = Budget(count=number) if isinstance(number, int) else Budget(percent=number)
    assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize(("value", "percent"), [("5%", "5"), ("0%", "0"), ("100%", "100"), (Decimal("2.5"), "2.5")])
def test_percentages(value, percent):
    assert parse_percent("max_skipped", value) == Decimal(percent)


@pytest.mark.parametrize("value", ["5", 5, 0.05, None, "100.1%", "-1%", Decimal("NaN"), "five%"])
def test_percentages_that_are_refused(value):
    with pytest.raises(OptionError, match="max_skipped"):
        parse_percent("max_skipped", value)


def test_option_errors_are_misuse():
    assert issubclass(OptionError, MisuseError)
