"""Misuse ends with exit code 2 and one message that names what was received, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pytest

import scalselect
from scalselect.cli import main
from scalselect.config import RepresentConfig, ScoreConfig
from scalselect.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 6


@dataclass(frozen=True)
class Place:
    """A folder with a good data file, beside good pictures and a good checkpoint."""

    folder: Path
    pictures: list[Path]
    checkpoint: Path

    def run(self, *more: Any, command="run", data=None, model=None, images=None, output="run", budget="2") -> list[str]:
        """Return the words of a good command, but for what is given."""
        words = [command, data or self.folder / "pool.json", "--model", model or self.checkpoint]
        words += ["--images", images or self.pictures[0].parent, "--output", self.folder / output]
        words += [] if budget is None else ["--budget", budget]
        return [str(word) for word in (*words, *more)]

    def file(self, name: str, content: str | bytes = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def model(self, name: str, **config: Any) -> Path:
        """Return the folder of a checkpoint that is only a config.json."""
        return self.file(f"{name}/config.json", json.dumps(config)).parent

    def copied_model(self, *, without: str) -> Path:
        copied = self.folder / "copied"
        shutil.copytree(self.checkpoint, copied, ignore=shutil.ignore_patterns(without))
        return copied

    def snapshot(self) -> dict[str, bytes | None]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in self.folder.rglob("*")
        }


@pytest.fixture
def place(tmp_path, checkpoints, pictures):
    records = [
        {
            "id": row,
            "image": path.name,
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "A shape."},
            ],
        }
        for row, path in enumerate(pictures[:ROWS])
    ]
    (tmp_path / "pool.json").write_text(json.dumps(records), encoding="utf-8")
    return Place(tmp_path, pictures, checkpoints("llava"))


def exit_code(words):
    try:
        return main([str(word) for word in words])
    except SystemExit as exit_:
        return exit_.code


def assert_refused(place, words, capsys, *fragments):
    """Run a command; check exit code, streams, the one message and that the disk is as it was."""
    before = place.snapshot()
    capsys.readouterr()
    code = exit_code(words)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    lines = err.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("error: "))
    assert all(line.startswith("pool: ") for line in lines[:first]), err
    assert 1 <= len(lines) - first <= 4, err
    assert len(err) < 1000, err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment.replace("{}", str(place.folder)) in err
    assert place.snapshot() == before


def case(name, words, *fragments, marks=()):
    return pytest.param(words, fragments, id=name, marks=marks)


DATA_CASES = [
    case(
        "missing",
        lambda place: place.run(data=place.folder / "pol.json"),
        "data file does not exist: {}/pol.json (did you mean `pool.json`?)",
    ),
    case(
        "missing folder",
        lambda place: place.run(data=place.folder / "no" / "pool.json"),
        "data file does not exist: {}/no/pool.json (nor does its folder: {}/no)",
    ),
    case("folder", lambda place: place.run(data=place.folder), "data file is a folder: {} ", "it holds pool.json"),
    case(
        "broken array",
        lambda place: place.run(data=place.file("broken.json", '[{"conversations": []},\n{"conv')),
        "data file is broken: {}/broken.json (line 2, at byte ",
    ),
    case(
        "unknown format",
        lambda place: place.run(data=place.file("other.json", '[{"conversatoin": []}, {"picture": 1}]')),
        "format cannot be recognised: {}/other.json has records with the keys conversatoin, picture",
        "(did you mean `conversations`?)",
    ),
    case("no JSON", lambda place: place.run(data=place.file("a.txt", "some text")), "begins with 'some text'"),
    case("empty", lambda place: place.run(data=place.file("empty.json")), "data file is empty: {}/empty.json"),
    case("no record", lambda place: place.run(data=place.file("none.json", "[]")), "data file holds no record"),
    case(
        "missing images",
        lambda place: place.run(images=place.file("images/x").parent.with_name("imges")),
        "image folder does not exist: {}/imges (did you mean `images`?)",
    ),
    case(
        "missing images by another name of the option",
        lambda place: place.run("--media-dir", place.folder / "nowhere"),
        "image folder does not exist: {}/nowhere",
    ),
    case(
        "images a file",
        lambda place: place.run(images=place.folder / "pool.json"),
        "image folder is no folder: {}/pool.json",
    ),
]

MODEL_CASES = [
    case("missing folder", lambda place: place.run(model=place.folder / "no model"), "model", "{}/no model"),
    case("unknown hub name", lambda place: place.run(model="no-such-owner/no-model"), "no-such-owner/no-model"),
    case(
        "no config.json",
        lambda place: place.run(model=place.file("model/weights.bin").parent),
        "model folder has no config.json: {}/model",
    ),
    case("broken config.json", lambda place: place.run(model=place.file("m/config.json", "{").parent), "{}/m"),
    case(
        "text-only model",
        lambda place: place.run(model=place.model("m", model_type="llama")),
        "model type `llama` is not supported: it is no image-text-to-text model",
        "tested families: ",
        " llava, llava_next, ",
    ),
    case(
        "cross-attention model",
        lambda place: place.run(model=place.model("m", model_type="mllama")),
        "model type `mllama` is not supported: vision enters only through cross-attention layers",
    ),
    case("unheard-of model", lambda place: place.run(model=place.model("m", model_type="llavaa")), "`llavaa`", "{}/m"),
    case(
        "no chat template",
        lambda place: place.run(model=place.copied_model(without="chat_template.jinja")),
        "the checkpoint has no chat template",
        "--chat-template vicuna",
    ),
    case(
        "no weights",
        lambda place: place.run(model=place.copied_model(without="*.safetensors")),
        "model weights cannot be loaded: {}/copied",
    ),
    case(
        "no tokenizer",
        lambda place: place.run(model=place.copied_model(without="tokenizer*")),
        "{}/copied",
    ),
    case("a file", lambda place: place.run(model=place.folder / "pool.json"), "model", "{}/pool.json"),
    case(
        "chat template missing",
        lambda place: place.run("--chat-template", place.folder / "no.jinja"),
        "chat_template is neither `vicuna` nor a readable file: {}/no.jinja",
    ),
    case(
        "chat template broken",
        lambda place: place.run("--chat-template", place.file("broken.jinja", "{% for turn %}")),
        "the checkpoint cannot take a plain question about one picture",
    ),
    case(
        "chat template without texts",
        lambda place: place.run("--chat-template", place.file("mute.jinja", "nothing")),
        "the checkpoint cannot take a plain question about one picture",
    ),
    case(
        "pixel limit without effect",
        lambda place: place.run("--image-max-pixels", "10000"),
        "image_max_pixels has no effect on this checkpoint: CLIPImageProcessor",
    ),
    case("device not there", lambda place: place.run("--device", "cuda:99"), "device cannot be used here: cuda:99"),
    case("device unheard of", lambda place: place.run("--device", "quantum"), "device cannot be used here: quantum"),
    case("device without numbers", lambda place: place.run("--device", "meta"), "device `meta` holds no numbers"),
]

OPTION_CASES = [
    case("budget 0", lambda place: place.run(budget="0"), "budget must be at least one row: 0"),
    case("budget negative", lambda place: place.run(budget="-3"), "budget must be at least one row: -3"),
    case("budget float", lambda place: place.run(budget="0.16"), "budget is a fraction, which could mean", "0.16"),
    case("budget 0%", lambda place: place.run(budget="0%"), "budget must be above 0%: 0%"),
    case("budget 200%", lambda place: place.run(budget="200%"), "budget must lie between 0% and 100%: 200%"),
    case("budget nan%", lambda place: place.run(budget="nan%"), "budget must lie between 0% and 100%: nan%"),
    case("budget garbage", lambda place: place.run(budget="many"), "budget cannot be read: 'many'", "16%"),
    case("budget missing", lambda place: place.run(budget=None), "a budget is needed: give --budget 16%"),
    case(
        "budget above the pool",
        lambda place: place.run(budget=str(ROWS + 1)),
        f"budget is more than the pool holds: {ROWS + 1} of {ROWS} rows",
    ),
    case(
        "budget above the limit",
        lambda place: place.run("--limit", "3", budget="4"),
        "budget is more than the pool holds: 4 of 3 rows",
    ),
    case(
        "unknown option",
        lambda place: place.run("--atention-mass", "0.5"),
        "unrecognized arguments: --atention-mass (did you mean `--attention-mass`?)",
        "see `scalselect run --help`",
    ),
    case("half an option", lambda place: place.run("--attention", "0.5"), "unrecognized arguments: --attention"),
    case("unknown command", lambda _: ["slect", "run"], "invalid choice: 'slect'", "'select'"),
    case("no command", lambda _: [], "required: COMMAND"),
    case("no model", lambda place: ["run", place.folder / "pool.json", "--output", "x"], "required: --model"),
    case("two data files", lambda place: place.run("more.json"), "unrecognized arguments: more.json"),
    case("wrong choice", lambda place: place.run("--exif", "aply"), "--exif: invalid choice: 'aply'", "'apply'"),
    case("wrong dtype", lambda place: place.run("--dtype", "float8"), "--dtype: invalid choice: 'float8'"),
    case(
        "attention mass 1.5",
        lambda place: place.run("--attention-mass", "1.5"),
        "attention_mass must lie between 0 and 1, both excluded: 1.5",
    ),
    case("attention mass a word", lambda place: place.run("--attention-mass", "much"), "must be a number: 'much'"),
    case("energy 0", lambda place: place.run("--energy", "0"), "energy must lie between 0 and 1, both excluded: 0"),
    case("energy nan", lambda place: place.run("--energy", "nan"), "energy must lie between 0 and 1", "nan"),
    case("shard size 0", lambda place: place.run("--shard-size", "0"), "shard_size must be a whole number", ": 0"),
    case(
        "shard size auto", lambda place: place.run("--shard-size", "auto"), "shard_size must be a whole number: 'auto'"
    ),
    case("limit 0", lambda place: place.run("--limit", "0"), "limit must be a whole number of at least 1: 0"),
    case("limit, as JSON", lambda place: place.run("--limit", "0", "--json"), "limit must be a whole number"),
    case("batch size 0.5", lambda place: place.run("--batch-size", "0.5"), "batch-size must be a whole number: '0.5'"),
    case("threads 0", lambda place: place.run("--threads", "0"), "threads must be", "`auto`: 0"),
    case(
        "length 0", lambda place: place.run("--cutoff-len", "0"), "max_length must be a whole number of at least 1: 0"
    ),
    case("max skipped 5", lambda place: place.run("--max-skipped", "5"), "max_skipped must be a percentage", "'5'"),
    case(
        "pixel limits crossed",
        lambda place: place.run("--image-min-pixels", "9", "--image-max-pixels", "8"),
        "image_min_pixels must not exceed image_max_pixels: 9 > 8",
    ),
    case(
        "config missing",
        lambda place: place.run("--config", place.folder / "no.toml"),
        "config file cannot be read: {}/no.toml",
    ),
    case(
        "config broken",
        lambda place: place.run("--config", place.file("a.toml", "energy 0.5")),
        "config file is not valid TOML: {}/a.toml",
    ),
    case(
        "config with an unknown key",
        lambda place: place.run("--config", place.file("a.toml", "atention-mass = 0.5")),
        "unknown option in {}/a.toml: `atention_mass` (did you mean `attention_mass`?)",
    ),
    case(
        "config with a wrong type",
        lambda place: place.run("--config", place.file("a.toml", 'limit = "all"')),
        "limit must be a whole number: 'all'",
    ),
]

FOLDER_CASES = [
    case("a file", lambda place: place.run(output="pool.json"), "output is a file, a folder is wanted: {}/pool.json"),
    case(
        "below a file",
        lambda place: place.run(output="pool.json/run"),
        "output folder cannot be created: {}/pool.json/run",
    ),
    case("foreign files", lambda place: place.run(output="."), "output folder holds files but no run.json: {}"),
    case(
        "damaged run.json",
        lambda place: place.run(output=place.file("run/run.json", "{").parent),
        "run.json is damaged: {}/run/run.json",
    ),
    case("score no run", lambda place: ["score", place.folder], "not a run folder, it holds no run.json: {}"),
    case("select no run", lambda place: ["select", place.folder, "--budget", "2"], "not a run folder", ": {}"),
    case("score nothing", lambda place: ["score", place.folder / "no"], "not a run folder", "{}/no"),
    case(
        "score a file",
        lambda place: ["score", place.folder / "pool.json"],
        "{}/pool.json",
    ),
    case(
        "select below a file",
        lambda place: ["select", place.folder / "pool.json" / "run", "--budget", "2"],
        "{}/pool.json/run",
    ),
    case("select without a budget", lambda place: ["select", place.folder], "required: --budget"),
    case("select a fraction", lambda place: ["select", place.folder, "--budget", "0.5"], "budget is a fraction", "0.5"),
]


@pytest.mark.parametrize("command", ["run", "represent"])
@pytest.mark.parametrize(("words", "fragments"), DATA_CASES)
def test_data(place, capsys, command, words, fragments):
    given = words(place)
    given[0] = command
    if command == "represent":
        given = without_budget(given)
    assert_refused(place, given, capsys, *fragments)


def without_budget(words):
    at = words.index("--budget")
    return words[:at] + words[at + 2 :]


@pytest.mark.parametrize(("words", "fragments"), MODEL_CASES)
def test_model_and_device(place, capsys, words, fragments):
    assert_refused(place, words(place), capsys, *fragments)


@pytest.mark.parametrize(("words", "fragments"), OPTION_CASES)
def test_options(place, capsys, words, fragments):
    assert_refused(place, words(place), capsys, *fragments)


@pytest.mark.parametrize(("words", "fragments"), FOLDER_CASES)
def test_folders(place, capsys, words, fragments):
    assert_refused(place, words(place), capsys, *fragments)


@pytest.fixture
def begun(place):
    """Return the folder of a run that was begun and represented nothing yet."""
    run = RunFolder(place.folder / "run")
    run.create({"represent": {"rows": ROWS, "shard_size": 4, "threads": 1}, "data": {"path": None}, "score": None})
    return run.path


def test_select_before_score(place, begun, capsys):
    assert_refused(place, ["select", begun, "--budget", "2"], capsys, f"no scores yet: {begun}; `scalselect score")


def test_select_more_than_the_pool_holds(place, begun, capsys):
    words = ["select", begun, "--budget", str(ROWS + 1)]
    assert_refused(place, words, capsys, f"budget is more than the pool holds: {ROWS + 1} of {ROWS} rows")


def test_score_with_an_impossible_energy(place, begun, capsys):
    assert_refused(place, ["score", begun, "--energy", "1"], capsys, "energy must lie between 0 and 1")


def test_score_before_all_is_represented_is_failed_work(place, begun, capsys):
    before = place.snapshot()
    assert exit_code(["score", begun]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: 2 of 2 shards are not represented yet (first: 0)")
    assert place.snapshot() == before


@pytest.mark.parametrize("command", [[], ["run"], ["represent"], ["score"], ["select"]])
def test_help_and_version(command, capsys):
    assert exit_code([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: {' '.join(['scalselect', *command])} ")
    assert err == ""
    assert exit_code([*command, "--version"]) == 0
    out, err = capsys.readouterr()
    assert out == f"scalselect {scalselect.__version__}\n"
    assert err == ""


@pytest.mark.parametrize(
    ("command", "groups"),
    [("run", (RepresentConfig, ScoreConfig)), ("represent", (RepresentConfig,)), ("score", (ScoreConfig,))],
)
def test_help_tells_every_option_with_its_default(command, groups, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # so that no word is broken at a hyphen
    assert exit_code([command, "--help"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    for item in (item for group in groups for item in fields(group)):
        if (command, item.name) == ("represent", "explanations"):  # of what comes after choosing
            continue
        names = [f"--{name}" for name in (item.name.replace("_", "-"), *item.metadata["aliases"])]
        assert all(f" {name}" in shown for name in names), names
        default = "" if item.default is None else f" (default: {'off' if item.default is False else item.default})"
        if command == "score":
            default = f" (default: the run's own, else {'none' if item.default is None else item.default})"
        assert f"{item.metadata['help']}{default}" in shown
