"""A run.json that cannot be right is refused in words by every command; a lost one names the way on."""

import copy
import json
import random
import shutil

import numpy as np
import pytest

from scalselect.run_json import parse_run_json
from scalselect.seals import SEAL_KEY
from small_pools import command, write_pool

VALUES = (None, "x", "", 3, -1, 0, 1.5, [], {}, [1], {"a": 1}, True, "\x1b[31m", 2**80)
SEED = 7


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures, checkpoints):
    """Return a folder with a run that was extended and one of vectors, and the words of the first run's command."""
    folder = tmp_path_factory.mktemp("finished")
    data, later = write_pool(folder / "data", pictures, rows=12), write_pool(folder / "later", pictures, rows=3)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", "--shard-size", "5"]
    assert command(*words, "--output", folder / "run") == 0
    assert command("extend", folder / "run", later) == 0
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    assert command("score", "--representations", folder / "vectors.npy", "--output", folder / "vectors") == 0
    assert command("select", folder / "vectors", "--budget", "5") == 0
    return folder, words


def keys_of(content, above=()):
    """Yield the way to every key, and to every entry of a list."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield (*above, name)
        yield from keys_of(value, (*above, name))


def mutations(content):
    """Yield what becomes of run.json when one key is taken away, or has a value of another kind."""
    content = {name: value for name, value in content.items() if name != SEAL_KEY}
    for way in keys_of(content):
        for value in ("removed", *VALUES):
            changed = copy.deepcopy(content)
            inner = changed
            for name in way[:-1]:
                inner = inner[name]
            if value == "removed":
                del inner[way[-1]]
            else:
                inner[way[-1]] = value
            yield changed


def commands_on(folder, words, run, *, model):
    """Return what people may do with a run."""
    cheap = [
        ["score", run],
        ["select", run, "--budget", "4"],
        ["compare", run, run],
        ["export", run, "--to", "messages"],
    ]
    if run.name == "vectors":
        return [*cheap, ["score", "--representations", folder / "vectors.npy", "--output", run]]
    with_model = [
        [*words, "--output", run],
        ["extend", run, folder / "later" / "pool.json"],
    ]
    return [*cheap, *(with_model if model else [])]


def refused_or_done(folder, words, name, changed, place, *, model):
    """Run every command on a run with another run.json; return how many refused."""
    refused = 0
    for number, _ in enumerate(commands_on(folder, words, folder / name, model=model)):
        run = shutil.copytree(folder / name, place / f"{number}" / name)
        (run / "run.json").write_text(json.dumps(changed))
        code = command(*commands_on(folder, words, run, model=model)[number])
        assert code in (0, 1, 2), (changed, number)
        refused += code == 2
        shutil.rmtree(place / f"{number}")
    return refused


@pytest.mark.parametrize("name", ["run", "vectors"])
def test_every_key_removed_or_of_another_kind_is_refused_in_words_or_of_no_account(finished, name):
    folder, _ = finished
    content = json.loads((folder / name / "run.json").read_text())
    told, accepted = [], []
    for changed in mutations(content):
        try:
            parse_run_json(json.dumps(changed).encode())
        except ValueError as error:
            told.append(str(error))
        else:
            accepted.append(changed)
    assert len(told) > len(accepted)
    assert all(told)


def without_seal(content, change):
    """Return a run.json that somebody edited on purpose."""
    run = json.loads(content)
    del run[SEAL_KEY]
    change(run)
    return json.dumps(run).encode()


@pytest.mark.parametrize("name", ["run", "vectors"])
@pytest.mark.parametrize("number", [6, pytest.param(24, marks=pytest.mark.slow)])
def test_what_is_accepted_ends_in_no_traceback(finished, tmp_path, name, number):
    folder, words = finished
    accepted = []
    for changed in mutations(json.loads((folder / name / "run.json").read_text())):
        try:
            parse_run_json(json.dumps(changed).encode())
        except ValueError:
            continue
        accepted.append(changed)
    for place, changed in enumerate(random.Random(SEED).sample(accepted, min(number, len(accepted)))):
        refused_or_done(folder, words, name, changed, tmp_path / str(place), model=place % 3 == 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda content: content.replace(b'"rows": 12', b'"rows": 11'),
        lambda content: content.replace(b'"shard_size": 5', b'"shard_size": "x"'),
        lambda content: without_seal(content, lambda run: run["segments"][1].update(rows=2**80, data_records=2**80)),
        lambda content: without_seal(content, lambda run: run["segments"][1].update(rows=4)),
        lambda content: without_seal(content, lambda run: run["segments"][1].update(source="../../elsewhere")),
        lambda content: without_seal(content, lambda run: run["segments"][1].update(source="")),
        lambda content: without_seal(content, lambda run: run["segments"][1].update(source="POOL")),
        lambda content: without_seal(content, lambda run: run["represent"].update(threads=2**80)),
        lambda content: without_seal(content, lambda run: run["segments"][1].update(data_records="3")),
        lambda content: content[:300] + bytes([content[300] ^ 4]) + content[301:],
        lambda _: b"[" * 100_000,
        lambda _: b'{"represent": null, "data": {}}',
        lambda _: b'{"represent": {"rows": "x", "shard_size": 5, "threads": 1}, "data": {"path": null}}',
    ],
)
def test_every_command_refuses_a_damaged_one(finished, tmp_path, capsys, damage):
    folder, words = finished
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "run.json").write_bytes(damage((run / "run.json").read_bytes()))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for line in commands_on(folder, words, run, model=True):
        capsys.readouterr()
        assert command(*line) == 2, line
        message = capsys.readouterr().err
        assert f"run.json is damaged: {run / 'run.json'} (" in message
        assert "restore it, or begin again in another folder" in message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("rows", [10**12, 2**80])
def test_more_shards_than_anybody_could_look_for(finished, tmp_path, capsys, rows):
    """What would take for ever is refused, or said at once."""
    folder, _ = finished
    run = shutil.copytree(folder / "vectors", tmp_path / "run")
    content = (run / "run.json").read_bytes()
    (run / "run.json").write_bytes(without_seal(content, lambda run: run["represent"].update(rows=rows, shard_size=1)))
    assert command("score", run) == (1 if rows == 10**12 else 2)
    told = capsys.readouterr().err
    assert "999999999999 of 1000000000000 shards are not represented yet (first: 1)" in told or "is damaged" in told


def test_a_lost_one(finished, tmp_path, capsys):
    folder, words = finished
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "run.json").unlink()
    for line in commands_on(folder, words, run, model=True):
        capsys.readouterr()
        assert command(*line) == 2, line
        assert "restore run.json, or begin again in another folder" in capsys.readouterr().err
    shutil.copy(folder / "run" / "run.json", run)
    assert command(*words, "--output", run) == 0


def test_one_without_a_seal_counts(finished, tmp_path):
    """As a run.json of a version before, or one edited on purpose."""
    folder, _ = finished
    run = shutil.copytree(folder / "run", tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    del content[SEAL_KEY]
    (run / "run.json").write_text(json.dumps(content))
    assert command("select", run, "--budget", "4") == 0
    assert SEAL_KEY in json.loads((run / "run.json").read_text())
