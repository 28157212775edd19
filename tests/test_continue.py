"""The same command again, and other commands on the same folder: what is done stays, the rest is done or refused."""

import json
import re
import shutil
import threading
import time

import pytest
from safetensors.torch import load_file, save_file

from claiming import holding
from scalselect import sample_work, select
from scalselect.errors import RunFolderError
from scalselect.progress import Silent
from scalselect.representation_store import RepresentationStore
from scalselect.run_folder import RunFolder
from scored_runs import clustered_vectors, scored_run
from small_pools import command, promised_files, scores_of, write_pool

pytestmark = pytest.mark.usefixtures("shared_models_kept")

OPTIONS = ["--budget", "50%", "--shard-size", "5"]


@pytest.fixture
def words(tmp_path, pictures, checkpoints):
    """Return a function (output) -> the words of a run over 17 rows in four shards."""
    data = write_pool(tmp_path / "data", pictures, rows=17)

    def run(output):
        return ["run", data, "--model", checkpoints("llava"), *OPTIONS, "--output", output]

    return run


class _Death(BaseException):
    """Nothing catches it: the process is gone."""


def test_interrupted_between_rows(tmp_path, words, monkeypatch, capsys):
    assert command(*words(tmp_path / "whole")) == 0
    capsys.readouterr()
    original, count = sample_work.open_image, iter(range(100))

    def interrupted(*arguments, **options):
        if next(count) == 8:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(sample_work, "open_image", interrupted)
    assert command(*words(tmp_path / "run"), "--dataloader-workers", "0") == 130
    message = capsys.readouterr().err
    assert "scalselect run" in message.splitlines()[-1]
    assert str(tmp_path / "run") in message.splitlines()[-1]
    monkeypatch.undo()
    assert command(*words(tmp_path / "run")) == 0
    assert promised_files(tmp_path / "run") == promised_files(tmp_path / "whole")


def test_a_finished_run_does_nothing(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert command(*words(out)) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_budget_only_selects_again(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    before = promised_files(out)
    reports = {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()}
    subspace = (out / "subspace.safetensors").stat().st_mtime_ns
    again = words(out)
    again[again.index("50%")] = "3"
    assert command(*again) == 0
    assert sum(scores_of(out)["selected"]) == 3
    assert {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()} == reports
    assert (out / "subspace.safetensors").stat().st_mtime_ns == subspace
    assert command(*words(out)) == 0
    assert promised_files(out) == before


def test_another_energy_scores_and_selects_again(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    reports = {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()}
    before = scores_of(out)["leverage_score"]
    assert command(*words(out), "--energy", "0.5") == 0
    assert scores_of(out)["leverage_score"] != before
    assert {path: path.stat().st_mtime_ns for path in (out / "representations").iterdir()} == reports
    assert command(*words(tmp_path / "fresh"), "--energy", "0.5") == 0
    assert promised_files(out) == promised_files(tmp_path / "fresh")
    # `score` without an energy keeps the run's own.
    assert command("score", out) == 0
    assert scores_of(out)["leverage_score"] == scores_of(tmp_path / "fresh")["leverage_score"]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--attention-mass", "0.8", "attention_mass: 0.9 in the run folder, 0.8 in this call"),
        ("--instruction-tokens", "non-assistant", "instruction_tokens: 'user' in the run folder, 'non-assistant'"),
        ("--shard-size", "6", "shard_size: 5 in the run folder, 6 in this call"),
        ("--exif", "apply", "exif: 'ignore' in the run folder, 'apply' in this call"),
        ("--max-length", "500", "max_length: not given in the run folder, 500 in this call"),
        ("--batch-size", "2", "max_rows: not given in the run folder, 2 in this call"),
        ("--dtype", "bfloat16", "dtype: 'float32' in the run folder, 'bfloat16' in this call"),
        ("--chat-template", "vicuna", "model_chat_template: "),
    ],
)
def test_other_options_on_the_same_folder_are_refused(tmp_path, words, capsys, option, value, named):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capsys.readouterr()
    assert command(*words(out), option, value) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count(" in this call") == 1
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_other_data_are_refused(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    data = tmp_path / "data" / "pool.json"
    data.write_text(data.read_text() + "\n")
    assert command(*words(out)) == 2
    message = capsys.readouterr().err
    assert re.search(r"data_sha256: '\w{64}' in the run folder, '\w{64}' in this call", message)
    assert re.search(r"data_bytes: \d+ in the run folder, \d+ in this call", message)
    assert command("select", out, "--budget", "2") == 2
    assert "have changed" in capsys.readouterr().err


def test_another_model_is_refused(tmp_path, pictures, checkpoints, capsys):
    model = shutil.copytree(checkpoints("llava"), tmp_path / "model")
    data = write_pool(tmp_path / "data", pictures)
    words = ["run", data, "--model", model, *OPTIONS, "--output", tmp_path / "run"]
    assert command(*words) == 0
    tensors = load_file(model / "model.safetensors")
    tensors[next(name for name in tensors if name.endswith("multi_modal_projector.linear_1.bias"))] += 0.01
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert command(*words) == 2
    assert re.search(r"model_weights: '\w{64}' in the run folder, '\w{64}' in this call", capsys.readouterr().err)


def test_a_score_without_a_choice_leaves_no_old_choice_behind(tmp_path, words):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    assert command("score", out, "--energy", "0.5") == 0
    assert not (out / "selection.json").exists()
    assert not (out / "selected.json").exists()
    assert set(scores_of(out)["selected"]) == {None}
    assert json.loads((out / "run.json").read_text())["select"] is None


def test_scores_of_other_representations_are_not_selected_from(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    scores = (out / "scores.parquet").read_bytes()
    for path in (out / "representations").glob("*.json"):
        path.unlink()
    store = RepresentationStore(out / "representations")
    other = tmp_path / "other"
    assert command(*words(other), "--attention-mass", "0.3") == 0
    for path in (other / "representations").iterdir():
        shutil.copy(path, out / "representations" / path.name)
    assert store.is_published(3)
    capsys.readouterr()
    assert command("select", out, "--budget", "3") == 2
    assert "scalselect score" in capsys.readouterr().err
    assert (out / "scores.parquet").read_bytes() == scores
    assert command("score", out) == 0
    assert command("select", out, "--budget", "50%") == 0
    assert scores_of(out) == scores_of(other)


def test_two_at_once_do_not_mix(tmp_path, words):
    """While one selects, the other waits for its claim; each leaves a whole choice."""
    out = tmp_path / "run"
    assert command(*words(out)) == 0
    told, codes = [], []
    with RunFolder(out).claimed():
        thread = threading.Thread(target=lambda: codes.append(command("select", out, "--budget", "3")))
        thread.start()
        time.sleep(0.5)
        assert codes == []
        assert sum(scores_of(out)["selected"]) == 8
        with pytest.raises(_Death), RunFolder(out).claimed(lambda holder: _die(told, holder)):
            pass
    thread.join(timeout=60)
    assert codes == [0]
    assert sum(scores_of(out)["selected"]) == 3
    assert re.fullmatch(r".+, process \d+", told[0])


def test_a_choice_waits_for_scores_that_somebody_makes(tmp_path):
    """Scores that are made anew are not there for a while; that is no lack of them."""
    out = scored_run(tmp_path, clustered_vectors(20))
    (out / "scores.parquet").rename(tmp_path / "scores.parquet")
    back = f"import os; os.rename({str(tmp_path / 'scores.parquet')!r}, {str(out / 'scores.parquet')!r})"
    with holding(RunFolder(out).claims.folder, then=back) as process:
        progress = _Answering(lambda: print("on", file=process.stdin, flush=True))
        assert len(select(out, budget="3", progress=progress).rows) == 3
    assert [words.partition(":")[0] for words in progress.said].count("waiting") == 1
    (out / "scores.parquet").unlink()
    with pytest.raises(RunFolderError, match="no scores yet"):
        select(out, budget="3")


class _Answering(Silent):
    """Does something once it hears that one has to wait."""

    def __init__(self, answer):
        self.said, self._answer = [], answer

    def say(self, words):
        self.said.append(words)
        if words.startswith("waiting"):
            self._answer()


def _die(told, holder):
    told.append(holder)
    raise _Death
