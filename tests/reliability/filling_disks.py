"""A command repeated on a disk that has a little more room each time: every write fails once, none does harm."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import safetensors.numpy

from scalselect.storage import TEMPORARY_MARK
from small_pools import command, promised_files

KEPT = "what was finished is kept, the same command continues"
LASTING = ("representations/", "subspace", "coordinates", "scores", "run.json")


def repeated_until_it_fits(words, disk, run_dir, capsys, *, step, kept=KEPT):
    """Repeat a command, `step` bytes more at each time, until it ends well; return how often it failed."""
    failures = 0
    disk.leave(0)
    while True:
        before = contents(run_dir)
        with disk.at_work():
            code = command(*words)
        said = capsys.readouterr().err
        if code == 0:
            return failures
        failures += 1
        disk.widen(step)
        assert code == 1, said
        assert_told(said, disk, kept)
        after = contents(run_dir)
        assert not [name for name in after if TEMPORARY_MARK in name]
        gone = [name for name in before.keys() - after.keys() if name.startswith(LASTING)]
        assert not gone, said
        for name in after:
            if before.get(name) != after[name]:
                assert_whole(run_dir / name)
        assert failures < 500, said


def assert_told(said, disk, kept=KEPT):
    last = said[said.index("error: ") :]
    assert all(words in last.lower() for words in disk.words), said
    assert str(disk.folder) in last or "to unpack" in last, said
    assert kept in last, said
    assert "Traceback" not in said
    assert "unexpected" not in said


def contents(run_dir):
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def assert_whole(path):
    """Read a file by what wrote its kind."""
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".parquet":
        pq.read_table(path)
    elif path.suffix == ".safetensors":
        safetensors.numpy.load(path.read_bytes())


def assert_as_undisturbed(run_dir, undisturbed):
    there, expected = promised_files(run_dir), promised_files(undisturbed)
    assert there.keys() == expected.keys()
    assert [name for name in expected if there[name] != expected[name]] == []
