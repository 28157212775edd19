"""What was written after the shards vouches for itself or is vouched for: any change is noticed, named, and mended."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scalselect.run_folder import RunFolder
from scalselect.scores_file import SCORES_SCHEMA, read_scores, write_scores
from scalselect.seals import is_whole
from small_pools import command, promised_files, write_pool

WITH_SCORES = ("subspace.safetensors", "instruction_subspace.safetensors", "coordinates.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures, checkpoints):
    """Return a finished run with two budgets, and the words of the command that made it, without output."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_pool(folder / "data", pictures, rows=17)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%,3", "--shard-size", "5"]
    words += ["--vectors", "vision+instruction"]
    assert command(*words, "--output", folder / "run") == 0
    return folder / "run", words


@pytest.fixture
def run(finished, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "run")
    return out, [*finished[1], "--output", out]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


def by_pandas(path):
    frame = pd.read_parquet(path)
    frame.loc[0, "selected"] = not frame.loc[0, "selected"]
    frame.to_parquet(path)


def by_pyarrow(path):
    """Change one score and keep schema and metadata, as a careful script would."""
    table = pq.read_table(path)
    scores = pc.add(table["leverage_score"], 1e-12)
    pq.write_table(table.set_column(table.schema.get_field_index("leverage_score"), "leverage_score", scores), path)


def by_writing_the_same(path):
    pq.write_table(pq.read_table(path), path)


def by_another_writer(path):
    """Write the same columns without our metadata, as database engines do."""
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path, compression="snappy")


@pytest.mark.parametrize(
    "edit", [by_pandas, by_pyarrow, by_writing_the_same, by_another_writer, lambda path: flip(path, 700)]
)
def test_an_edit_of_the_scores(finished, run, capsys, edit):
    out, words = run
    expected = promised_files(finished[0])
    edit(out / "scores.parquet")
    refusals = [
        ["select", out, "--budget", "3"],
        ["compare", out, finished[0]],
    ]
    for refused in refusals:
        capsys.readouterr()
        assert command(*refused) == 2
        message = capsys.readouterr().err
        assert f"scores.parquet was changed since it was written: {out / 'scores.parquet'}" in message
        assert f"`scalselect score {out}`" in message
    assert command("export", out, "--to", "messages") == 2
    assert f"file is not what was written with the choice: {out / 'scores.parquet'}" in capsys.readouterr().err
    edited = shutil.copytree(out, out.with_name("edited"))
    assert command(*words) == 0
    assert "scores.parquet was changed since it was written: scoring again" in capsys.readouterr().err
    assert promised_files(out) == expected
    # `score` alone mends it as well.
    assert command("score", edited) == 0
    assert command("select", edited, "--budget", "50%,3") == 0
    assert promised_files(edited) == expected


def test_every_flipped_byte_of_the_scores_is_noticed(finished, tmp_path):
    content = (finished[0] / "scores.parquet").read_bytes()
    path = tmp_path / "scores.parquet"
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        assert not is_whole(bytes(damaged)), place
        if place % 500 == 0:
            path.write_bytes(damaged)
            assert read_scores(path) is None
    for length in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert read_scores(path) is None
    path.write_bytes(content)
    assert read_scores(path) is not None


@pytest.mark.parametrize("name", WITH_SCORES)
@pytest.mark.parametrize("damage", [lambda path: flip(path, -3), Path.unlink])
def test_files_beside_the_scores(finished, run, capsys, name, damage):
    out, words = run
    damage(out / name)
    again = ["select", out, "--budget", "4", "--strategy", "joint-leverage-sampling", "--deduplicate", "near"]
    capsys.readouterr()
    assert command(*again) == 2
    message = capsys.readouterr().err
    assert f"file is not what was written with the scores: {out / name}; `scalselect score {out}`" in message
    assert command("score", out) == 0
    assert f"{name} is not what was written with the scores: scoring again" in capsys.readouterr().err
    assert command(*again) == 0
    damage(out / name)
    assert command(*words) == 0
    assert promised_files(out) == promised_files(finished[0])


@pytest.mark.parametrize(
    "name",
    [
        "selected.json",
        "diagnostics.json",
        "selections/3/selected.json",
        "selections/3/rows.parquet",
        "selections/3/selection.json",
        "selection.json",
    ],
)
@pytest.mark.parametrize("damage", [lambda path: flip(path, 30), Path.unlink])
def test_files_of_the_choice(finished, run, capsys, name, damage):
    out, words = run
    damage(out / name)
    assert command(*words) == 0
    message = capsys.readouterr().err
    if (name, damage) != ("selection.json", Path.unlink):  # without it nothing was selected
        assert f"{name} is not what was written: selecting again" in message
    assert promised_files(out) == promised_files(finished[0])


def test_an_edited_account_is_not_believed(run, capsys):
    out, _ = run
    path = out / "selection.json"
    content = json.loads(path.read_text())
    content["rows"]["selected"] += 1
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert command("export", out, "--to", "messages") == 2
    message = capsys.readouterr().err
    assert f"selection.json is not what was written: {path}; repeat the `scalselect run` or `select` command" in message
    assert command("select", out, "--budget", "50%,3") == 0
    assert command("export", out, "--to", "messages") == 0


def test_an_export_of_another_budget_holds_its_rows_against_the_choice(run, capsys):
    out, _ = run
    path = out / "selections" / "3" / "rows.parquet"
    pq.write_table(pq.read_table(path).slice(0, 2), path)
    assert command("export", out, "--to", "messages", "--budget", "3") == 2
    assert f"file is not what was written with the choice: {path}" in capsys.readouterr().err
    assert command("export", out, "--to", "messages") == 0


def test_the_advice_for_training_is_written_again(run):
    out, _ = run
    guide = out / "how_to_train.md"
    guide.write_text(guide.read_text() + "my own notes\n")
    assert command("export", out, "--to", "trl") == 0
    assert "my own notes" not in guide.read_text()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return the scores of 600,000 rows on disk."""
    rows = 600_000
    rng = np.random.default_rng(0)
    columns = {
        "row": np.arange(rows),
        "source": ["pool"] * rows,
        "id": [f"{number:012d}" for number in range(rows)],
        "id_type": ["string"] * rows,
        "status": ["scored"] * rows,
        "reason": pa.nulls(rows, pa.string()),
        "leverage_score": rng.random(rows),
        "rank": rng.permutation(rows) + 1,
        "selected": rng.random(rows) < 0.16,
        "stratum": pa.nulls(rows, pa.string()),
    }
    path = tmp_path_factory.mktemp("large") / "scores.parquet"
    write_scores(path, pa.table(columns, schema=SCORES_SCHEMA), {}, {})
    return path


def test_holding_the_scores_of_many_rows_against_their_seal_takes_less_than_a_second(large):
    seconds = []
    for _ in range(3):
        began = time.process_time()
        assert (
            RunFolder(large.parent).state_of_scores()[1]
            == "subspace.safetensors is not what was written with the scores"
        )
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1
