"""A process that dies at any write leaves a folder that the same command completes, equal byte for byte.

All writes are in the slow tests; the others thin them, so that flushes of files and of folders take turns.
"""

import json
import shutil

import pytest

from deaths import deaths
from kept_models import keep_loaded
from small_pools import command, promised_files, scores_of, write_pool

OPTIONS = ["--shard-size", "3", "--vectors", "vision+instruction"]
BUDGET = ["--budget", "50%"]
THINNED = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture
def model(checkpoints, monkeypatch):
    keep_loaded(monkeypatch)
    return checkpoints("llava")


@pytest.fixture
def words(tmp_path, pictures, model):
    """Return a function (output) -> the words of a run over 6 rows in two shards."""
    data = write_pool(tmp_path / "data", pictures, rows=6)
    return lambda output: ["run", data, "--model", model, *OPTIONS, *BUDGET, "--output", output]


@THINNED
def test_death_at_every_write_leaves_a_run_that_continues(tmp_path, words, every):
    assert command(*words(tmp_path / "whole")) == 0
    expected = promised_files(tmp_path / "whole")
    assert len(expected) == 2 * 2 + 8
    died = []
    for moment in deaths(lambda moment: words(tmp_path / f"died-{moment}"), every):
        out = tmp_path / f"died-{moment}"
        assert command(*words(out)) == 0, moment
        assert promised_files(out) == expected, moment
        died.append(moment)
    # Every file is written and flushed, then its folder: two moments a write.
    assert died[-1] + every >= 2 * (1 + 2 * 3 + 12)


@THINNED
@pytest.mark.parametrize(
    "again",
    [
        ["score", "--energy", "0.5"],
        ["select", "--budget", "3"],
        ["select", "--budget", "3,20%", "--strategy", "half", "--deduplicate", "near"],
    ],
)
def test_death_while_scoring_or_selecting_anew(tmp_path, words, again, every):
    """Whatever is asked next, scores and choice belong together, and the first command's files can be had again."""
    stage, *options = again
    assert command(*words(tmp_path / "whole")) == 0
    expected = promised_files(tmp_path / "whole")

    def begin(moment):
        return [stage, shutil.copytree(tmp_path / "whole", tmp_path / f"died-{moment}"), *options]

    died = []
    for moment in deaths(begin, every):
        out = tmp_path / f"died-{moment}"
        if command("select", out, "--budget", "4") == 0:
            summary = json.loads((out / "selection.json").read_text())
            assert sum(scores_of(out)["selected"]) == 4
            assert sum(scores_of(out)["leverage_score"]) == pytest.approx(summary["subspace"]["k"], abs=1e-8)
            assert summary["subspace"]["energy"] >= summary["inputs"]["score"]["energy"]
        assert command(stage, out, *options) == 0, moment
        assert command(*words(out)) == 0, moment
        assert promised_files(out) == expected, moment
        died.append(moment)
    assert len(died) > 8 // every


@THINNED
def test_death_at_every_write_leaves_an_extension_that_continues(tmp_path, pictures, model, words, every):
    """Whatever was written, the same command ends with the choice among all rows."""
    more = write_pool(tmp_path / "more", pictures, rows=4, note="new")
    begun = tmp_path / "begun"
    assert command(*words(begun)) == 0
    whole = shutil.copytree(begun, tmp_path / "whole")
    assert command("extend", whole, more) == 0
    expected = promised_files(whole)

    def begin(moment):
        return ["extend", shutil.copytree(begun, tmp_path / f"died-{moment}"), more]

    died = []
    for moment in deaths(begin, every):
        grown = tmp_path / f"died-{moment}"
        assert command("extend", grown, more) == 0, moment
        assert promised_files(grown) == expected, moment
        died.append(moment)
    assert len(died) > 20 // every
