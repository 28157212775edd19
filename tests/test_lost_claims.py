"""Whoever scores or selects and has lost its claim meanwhile writes nothing more and ends with 1."""

from __future__ import annotations

import numpy as np
import pytest

from scalselect import score_work, select_work
from scalselect.errors import WorkError
from scalselect.run_folder import RunFolder
from small_pools import command, promised_files


@pytest.fixture
def run(tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((20, 4), dtype=np.float32))
    assert command("score", "--representations", tmp_path / "X.npy", "--output", tmp_path / "run") == 0
    assert command("select", tmp_path / "run", "--budget", "3") == 0
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        (score_work, "_subspace", ["score", "--energy", "0.5"]),
        (select_work, "_diagnosis", ["select", "--budget", "4"]),
    ],
)
def test_a_command_that_lost_its_claim_changes_nothing(run, module, name, words, monkeypatch, capsys):
    before, work = promised_files(run), getattr(module, name)

    def losing(*arguments):
        for path in (run / ".claims").iterdir():
            path.unlink()
        return work(*arguments)

    monkeypatch.setattr(module, name, losing)
    capsys.readouterr()
    assert command(words[0], run, *words[1:]) == 1
    told = capsys.readouterr().err
    assert "another process has taken over from this one" in told
    assert "Traceback" not in told
    assert promised_files(run) == before
    monkeypatch.undo()
    assert command(words[0], run, *words[1:]) == 0
    assert promised_files(run) != before


def test_no_file_of_scores_and_choices_is_written_then(run):
    folder = RunFolder(run)
    before = promised_files(run)
    table, subspace = folder.read_scores(), folder.read_subspace()
    with folder.claimed():
        folder.check_claim()
        for path in (run / ".claims").iterdir():
            path.unlink()
        for write in (
            folder.check_claim,
            folder.forget_selection,
            lambda: folder.write_scores(table, {}),
            lambda: folder.write_selection({}),
            lambda: folder.write_subspace(subspace, {}),
            lambda: folder.write_instruction_subspace(None, {}),
            lambda: folder.update(score=None),
        ):
            with pytest.raises(WorkError, match="taken over"):
                write()
    assert promised_files(run) == before
    folder.check_claim()  # no longer claimed
