"""A damaged shard is noticed, named, and represented again; what comes out is what an undisturbed run writes."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scalselect import shard_files
from scalselect.representation_store import RepresentationStore
from small_pools import command, promised_files, write_pool

NAMES = ("shard-0000001.safetensors", "shard-0000001.rows.parquet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures, checkpoints):
    """Return a finished run of 17 rows in four shards, and the words of the command that made it, without output."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_pool(folder / "data", pictures, rows=17)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", "--shard-size", "5"]
    assert command(*words, "--output", folder / "run") == 0
    return folder / "run", words


@pytest.fixture
def run(finished, tmp_path):
    """Return a copy of the finished run, and the words of a command that continues it."""
    out = shutil.copytree(finished[0], tmp_path / "run")
    return out, [*finished[1], "--output", out]


def represent(words):
    """Return the words of the first stage alone."""
    at = words.index("--budget")
    return ["represent", *words[1:at], *words[at + 2 :]]


def flip(path, place=-5):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-120])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"more")


def edit_report(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("damage", "words_of_it"),
    [
        (shorten, "is 120 bytes shorter than published"),
        (lengthen, "is 4 bytes longer than published"),
        (Path.unlink, "is missing"),
    ],
)
def test_sizes_are_checked_at_the_start(finished, run, capsys, name, damage, words_of_it):
    out, words = run
    damage(out / "representations" / name)
    assert command(*represent(words)) == 0
    assert f"warning: shard 1: {name} {words_of_it}; represented again" in capsys.readouterr().err
    assert promised_files(out) == promised_files(finished[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_was_written_to_is_read_at_the_start(finished, run, capsys, name):
    """Its size tells nothing; a date alone is no damage."""
    out, words = run
    path = out / "representations" / name
    flip(path)
    assert command(*represent(words)) == 0
    assert f"warning: shard 1: {name} is not what was published: its sha256 differs; represented again" in (
        capsys.readouterr().err
    )
    assert promised_files(out) == promised_files(finished[0])
    path.touch()  # which is no damage
    before = path.stat().st_mtime_ns
    assert command(*words) == 0
    assert "represented again" not in capsys.readouterr().err
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shard": 2}, "it is the report of shard 2"),
        ({"start": 6}, "its numbers do not fit one another: rows 6 to 10 and counts of 5"),
        ({"start": 0, "stop": 5}, "is of rows 0 to 5, not 5 to 10"),
        ({"counts": {"scored": 4}}, "its numbers do not fit one another"),
        ({"counts": {"scored": "5"}}, "its `counts` cannot be right"),
        ({"files": {}}, "the report does not tell of shard-0000001.safetensors"),
        ({"files": {"shard-0000001.safetensors": []}}, "its `files` cannot be right"),
        ({"versions": None}, "its `versions` cannot be right"),
    ],
)
def test_a_report_that_does_not_fit(finished, run, capsys, changes, told):
    out, words = run
    edit_report(out / "representations" / "shard-0000001.json", **changes)
    assert command(*words) == 0
    message = capsys.readouterr().err
    assert "warning: shard 1: " in message
    assert told in message
    assert promised_files(out) == promised_files(finished[0])


def test_a_report_that_cannot_be_read_or_is_gone(finished, run, capsys):
    out, words = run
    reports = sorted((out / "representations").glob("*.json"))
    reports[0].write_bytes(b"")
    reports[2].write_bytes(b"\xff{")
    reports[3].unlink()
    assert command(*words) == 0
    message = capsys.readouterr().err
    assert message.count("represented again") == 2
    assert "shard 0: shard-0000000.json cannot be read" in message
    assert promised_files(out) == promised_files(finished[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_run_holds_its_shards_against_their_hashes(finished, run, capsys, name):
    out, words = run
    flip(out / "representations" / name)
    assert command(*represent(words)) == 0
    assert f"warning: shard 1: {name} is not what was published: its sha256 differs" in capsys.readouterr().err
    assert promised_files(out) == promised_files(finished[0])


def test_run_finds_flipped_bits_when_it_scores(finished, run, capsys):
    out, words = run
    flip(out / "representations" / NAMES[0])
    flip(out / "representations" / "shard-0000003.rows.parquet", 40)
    (out / "scores.parquet").unlink()
    assert command(*words) == 0
    message = capsys.readouterr().err
    assert "shard 1: shard-0000001.safetensors is not what was published: its sha256 differs; represented" in message
    assert "shard 3: shard-0000003.rows.parquet is not what was published: its sha256 differs; repres" in message
    assert promised_files(out) == promised_files(finished[0])


@pytest.mark.parametrize("name", NAMES)
def test_run_finds_flipped_bits_when_it_selects(finished, run, capsys, name):
    out, words = run
    flip(out / "representations" / name)
    again = [word if word != "50%" else "40%" for word in words]
    assert command(*again) == 0
    assert "represented again" in capsys.readouterr().err
    assert command(*words) == 0
    assert promised_files(out) == promised_files(finished[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stage", ["score", "select"])
def test_score_and_select_refuse_and_the_command_they_name_mends_it(finished, run, capsys, name, stage):
    out, words = run
    flip(out / "representations" / name)
    again = ["score", out, "--energy", "0.5"] if stage == "score" else ["select", out, "--budget", "40%"]
    capsys.readouterr()
    assert command(*again) == 1
    message = capsys.readouterr().err
    assert f"shard 1: {name} is not what was published: its sha256 differs" in message
    assert "repeat the `scalselect run` or `scalselect represent` command that made this folder" in message
    assert command(*represent(words)) == 0
    assert command(*again) == 0
    assert command(*words) == 0
    assert promised_files(out) == promised_files(finished[0])


def test_a_shard_that_is_damaged_again_ends_the_run(run, capsys, monkeypatch):
    out, words = run
    flip(out / "representations" / NAMES[0])
    (out / "scores.parquet").unlink()
    publish = RepresentationStore.publish

    def damaging(store, shard, *arguments, **options):
        report = publish(store, shard, *arguments, **options)
        flip(store.files.path(shard, ".safetensors"))
        return report

    monkeypatch.setattr(RepresentationStore, "publish", damaging)
    assert command(*words) == 1
    message = capsys.readouterr().err
    assert "error: shard 1 is damaged again" in message
    assert "the disk, the memory or the network between may be failing" in message


def test_a_disk_that_cannot_be_read_is_no_damage(finished, run, capsys, monkeypatch):
    out, words = run
    (out / "scores.parquet").unlink()
    before = {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()}

    def failing(self):
        if self.name == NAMES[1]:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return read_bytes(self)

    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", failing)
    assert command(*words) == 1
    message = capsys.readouterr().err
    assert "input/output error" in message.lower()
    assert "damaged" not in message
    monkeypatch.undo()
    monkeypatch.setattr(shard_files, "sha256_of_file", lambda _: failing(Path(NAMES[1])))
    assert command("select", out, "--budget", "3") == 2  # there are no scores
    monkeypatch.undo()
    assert {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()} == before
    assert command(*words) == 0
    assert promised_files(out) == promised_files(finished[0])


def test_extend_mends_the_shards_of_its_own_data(finished, tmp_path, pictures, capsys):
    out = shutil.copytree(finished[0], tmp_path / "run")
    later = write_pool(tmp_path / "later", pictures[::-1], rows=7)
    assert command("extend", out, later) == 0
    expected = promised_files(out)
    shorten(out / "representations" / "shard-0000004.safetensors")
    flip(out / "representations" / "shard-0000005.safetensors")
    (out / "scores.parquet").unlink()
    capsys.readouterr()
    assert command("extend", out, later) == 0
    message = capsys.readouterr().err
    assert "shard 4: shard-0000004.safetensors is 120 bytes shorter than published; represented again" in message
    assert "shard 5: shard-0000005.safetensors is not what was published" in message
    assert promised_files(out) == expected
    # Those of the data that the run began with are the affair of the command that began it.
    flip(out / "representations" / NAMES[0])
    (out / "scores.parquet").unlink()
    assert command("extend", out, later) == 1
    assert "`scalselect run` or `scalselect represent`" in capsys.readouterr().err
    assert command(*represent([*finished[1], "--output", out])) == 0
    assert command("extend", out, later) == 0
    assert promised_files(out) == expected


@pytest.mark.parametrize("name", NAMES)
def test_compare_refuses_and_what_it_says_mends_it(finished, run, tmp_path, capsys, name):
    """It reads the shards where the data files differ, and deletes nothing by itself."""
    out, words = run
    data = words[1].with_name("again.json")
    data.write_text(json.dumps(json.loads(words[1].read_text()), indent=3))
    assert command("run", data, *finished[1][2:], "--output", tmp_path / "other") == 0
    damaged = out / "representations" / "shard-0000001.rows.parquet"
    report = damaged.with_name("shard-0000001.json")
    flip(out / "representations" / name, 40)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    refused = name == damaged.name  # vectors are not compared
    assert command("compare", out, tmp_path / "other") == int(refused)
    message = capsys.readouterr().err
    told = f"delete {report}, then repeat the `scalselect run`, `represent` or `extend` command that made it"
    assert (str(damaged) in message, told in message) == (refused, refused)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    if refused:
        report.unlink()
        assert command(*words) == 0
        assert promised_files(out) == promised_files(finished[0])
    assert command("compare", out, tmp_path / "other") == 0


@pytest.mark.parametrize("name", NAMES)
def test_export_does_not_depend_on_the_shards(finished, run, capsys, name):
    out, _ = run
    assert command("export", out, "--to", "messages", "--output", out.with_name("whole.jsonl")) == 0
    flip(out / "representations" / name, 40)
    assert command("export", out, "--to", "messages", "--output", out.with_name("same.jsonl")) == 0
    assert out.with_name("same.jsonl").read_bytes() == out.with_name("whole.jsonl").read_bytes()


def test_vectors_made_elsewhere_are_taken_from_their_file_again(tmp_path, capsys):
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    words = ["score", "--representations", vectors, "--output", tmp_path / "run"]
    assert command(*words) == 0
    expected = promised_files(tmp_path / "run")
    flip(tmp_path / "run" / "representations" / "shard-0000000.safetensors")
    (tmp_path / "run" / "scores.parquet").unlink()
    assert command("score", tmp_path / "run") == 1
    assert "repeat the `scalselect score --representations` command" in capsys.readouterr().err
    assert command(*words) == 0
    assert promised_files(tmp_path / "run") == expected
    flip(tmp_path / "run" / "representations" / "shard-0000000.safetensors")
    (tmp_path / "run" / "scores.parquet").unlink()
    assert command(*words) == 0
    assert "represented again" in capsys.readouterr().err
    assert promised_files(tmp_path / "run") == expected
