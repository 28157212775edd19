"""What cannot be an extension of a run is refused before any work, and says what would be right."""

from __future__ import annotations

import json
import shutil

import pytest

import scalselect
from scalselect import sample_work
from scalselect.dataset.opening import open_pool
from scalselect.errors import DatasetError, ModelError, OptionError, RunFolderError, TooManySkippedError
from scalselect.extend_work import plan_extension
from scalselect.run_folder import RunFolder
from scalselect.segments import segments_of
from small_pools import command, promised_files, record, scores_of, write_pool

pytestmark = pytest.mark.usefixtures("shared_models_kept")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoints, pictures):
    """Return a folder with a data file of 8 rows and a finished run on it."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_pool(folder, pictures, rows=8)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "3", "--shard-size", "5"]
    assert command(*words, "--output", folder / "run") == 0
    return folder


@pytest.fixture
def run_dir(finished, tmp_path):
    return shutil.copytree(finished / "run", tmp_path / "run")


def more(folder, pictures, rows=6, name="more", first=100):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps([record(first + i, pictures[i % len(pictures)]) for i in range(rows)]))
    return path


def refused(capsys, run_dir, *words):
    """Run `extend`, which must refuse and change nothing, and return its message."""
    before = promised_files(run_dir), (run_dir / "run.json").read_bytes()
    capsys.readouterr()
    assert command("extend", run_dir, *words) == 2
    assert (promised_files(run_dir), (run_dir / "run.json").read_bytes()) == before
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_the_runs_own_data(finished, run_dir, tmp_path, capsys):
    message = refused(capsys, run_dir, finished / "pool.json")
    assert f"these are the data that the run began with: {finished / 'pool.json'}" in message
    copy = shutil.copy(finished / "pool.json", tmp_path / "copy.json")
    assert "these are the data that the run began with" in refused(capsys, run_dir, copy)


def test_data_that_are_there_already_under_another_name(run_dir, tmp_path, pictures, capsys):
    path = more(tmp_path, pictures)
    assert command("extend", run_dir, path) == 0
    copy = shutil.copy(path, tmp_path / "copy.json")
    message = refused(capsys, run_dir, copy)
    assert f"these data are in the run already, as {path}: {copy}" in message
    elsewhere = tmp_path / "elsewhere" / "more.json"  # the same data by name and content
    elsewhere.parent.mkdir()
    shutil.copy(path, elsewhere)
    message = refused(capsys, run_dir, elsewhere)
    assert f"another images: {elsewhere} ({tmp_path} in the run folder, {elsewhere.parent} in this call)" in message
    assert command("extend", run_dir, elsewhere, "--images", tmp_path) == 0


def test_a_data_file_that_has_grown_itself(run_dir, tmp_path, pictures, capsys):
    path = more(tmp_path, pictures)
    assert command("extend", run_dir, path) == 0
    more(tmp_path, pictures, rows=9)
    message = refused(capsys, run_dir, path)
    assert f"has changed since: {path}; put the new rows alone into another file" in message


def test_the_same_data_twice(run_dir, tmp_path, pictures, capsys):
    path = more(tmp_path, pictures)
    assert f"the same data were given twice: {path}" in refused(capsys, run_dir, path, path)


def test_files_and_folders_that_are_none(run_dir, tmp_path, pictures, capsys):
    assert "gone.json" in refused(capsys, run_dir, tmp_path / "gone.json")
    assert command("extend", tmp_path / "nothing", more(tmp_path, pictures)) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()
    assert command("extend", run_dir) == 2
    with pytest.raises(DatasetError, match="write the records to a file"):
        scalselect.extend(run_dir, [{"id": 1}])
    with pytest.raises(DatasetError, match="no new data were given"):
        scalselect.extend(run_dir, [])


def test_images_that_lie_elsewhere(run_dir, tmp_path, pictures, capsys):
    names = [path.name for path in pictures]
    path = more(tmp_path / "data", names)
    message = refused(capsys, run_dir, path)
    assert "none of the first 6 images of" in message
    assert "--images" in message
    assert command("extend", run_dir, path, "--images", pictures[0].parent) == 0
    assert scores_of(run_dir)["status"] == ["scored"] * 14


def test_a_trial_a_list_and_vectors_alone_cannot_grow(tmp_path, checkpoints, pictures, capsys):
    data, new = write_pool(tmp_path / "data", pictures), more(tmp_path, pictures)
    trial = tmp_path / "trial"
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "3", "--output", trial, "--limit", "5"]
    assert command(*words) == 0
    assert "a trial of the first 5 rows" in refused(capsys, trial, new)
    records = json.loads(data.read_text())
    scalselect.run(records, model=checkpoints("llava"), budget=3, output=tmp_path / "list")
    assert "Python list" in refused(capsys, tmp_path / "list", new)
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    scalselect.score(representations=tmp_path / "x.npy", output=tmp_path / "vectors")
    assert "vectors made elsewhere" in refused(capsys, tmp_path / "vectors", new)


def test_another_model_or_none(run_dir, tmp_path, pictures, checkpoints, capsys):
    path = more(tmp_path, pictures)
    message = refused(capsys, run_dir, path, "--model", checkpoints("llava", "large"))
    assert "model_config" in message
    assert "in this call" in message
    content = json.loads((run_dir / "run.json").read_text())
    del content["seal"]  # edited on purpose
    (run_dir / "run.json").write_text(json.dumps({**content, "model": str(tmp_path / "gone")}))
    message = refused(capsys, run_dir, path)
    assert f"the model that the run was made with is not there: {tmp_path / 'gone'}" in message
    assert "--model" in message
    assert command("extend", run_dir, path, "--model", checkpoints("llava")) == 0


def test_another_version_of_what_decides_the_digits(run_dir, tmp_path, pictures, capsys):
    content = json.loads((run_dir / "run.json").read_text())
    del content["seal"]  # edited on purpose
    content["represent"]["transformers"] = "4.0"
    (run_dir / "run.json").write_text(json.dumps(content))
    message = refused(capsys, run_dir, more(tmp_path, pictures))
    assert "transformers: '4.0' in the run folder" in message


def test_options_are_those_of_the_run(run_dir, tmp_path, pictures, capsys):
    path = more(tmp_path, pictures)
    assert "--shard-size" in refused(capsys, run_dir, path, "--shard-size", "9")
    with pytest.raises(OptionError, match="extend has no option `shard_size`"):
        scalselect.extend(run_dir, path, shard_size=9)
    with pytest.raises(OptionError, match="did you mean `images`"):
        scalselect.extend(run_dir, path, image=tmp_path)


def test_code_of_a_checkpoint_is_trusted_anew(run_dir, tmp_path, pictures, capsys):
    content = json.loads((run_dir / "run.json").read_text())
    del content["seal"]  # edited on purpose
    content["represent"]["trust_remote_code"] = True
    (run_dir / "run.json").write_text(json.dumps(content))
    message = refused(capsys, run_dir, more(tmp_path, pictures))
    assert "trust_remote_code: True in the run folder, False in this call" in message


def test_rows_before_must_be_there(run_dir, tmp_path, pictures, monkeypatch, capsys):
    second, third = more(tmp_path, pictures, name="second"), more(tmp_path, pictures, name="third", first=200)
    original, count = sample_work.open_image, iter(range(100))

    def interrupted(*arguments, **options):
        if next(count) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(sample_work, "open_image", interrupted)
        assert command("extend", run_dir, second, "--dataloader-workers", "0") == 130
    message = refused(capsys, run_dir, third)
    assert f"2 of 2 shards of {second} are not represented yet: repeat the `scalselect extend`" in message
    assert command("score", run_dir) == 1
    assert command("extend", run_dir, second, third) == 0
    (run_dir / "representations" / "shard-0000000.json").unlink()
    assert "repeat the `scalselect run`" in refused(capsys, run_dir, third)


def test_old_records_that_are_gone_are_missed_before_the_work(finished, run_dir, tmp_path, pictures, capsys):
    content = json.loads((run_dir / "run.json").read_text())
    del content["seal"]  # edited on purpose
    content["data"]["path"] = str(tmp_path / "moved.json")
    (run_dir / "run.json").write_text(json.dumps(content))
    path = more(tmp_path, pictures)
    assert f"the data of the run are gone: {tmp_path / 'moved.json'}" in refused(capsys, run_dir, path)
    content["select"] = None  # without a choice nobody copies records
    (run_dir / "run.json").write_text(json.dumps(content))
    assert command("extend", run_dir, path) == 0
    assert command("select", run_dir, "--budget", "3") == 2
    assert command("select", run_dir, "--budget", "3", "--dataset", finished / "pool.json") == 0
    other = more(tmp_path, pictures, name="other", first=300)
    capsys.readouterr()
    assert command("select", run_dir, "--budget", "3", "--dataset", other) == 2
    assert "are gone" in capsys.readouterr().err


def test_skipped_rows_of_the_new_data_alone_are_judged(run_dir, tmp_path, pictures):
    path = more(tmp_path, [*pictures[:5], tmp_path / "missing.png"])
    before, recorded = promised_files(run_dir), RunFolder(run_dir).read()
    with pytest.raises(TooManySkippedError, match=r"1 of 6 rows.*The run is as it was before this call: mend the data"):
        scalselect.extend(run_dir, path)
    assert promised_files(run_dir) == before
    after = RunFolder(run_dir).read()
    assert {name: value for name, value in after.items() if value} == {
        n: value for n, value in recorded.items() if value
    }
    assert not RunFolder(run_dir).store.is_published(2)
    assert scalselect.extend(run_dir, path, max_skipped="20%").represented.counts == {"scored": 5, "skipped": 1}


def test_a_choice_by_a_python_list_is_told_to_be_lost(run_dir, tmp_path, pictures):
    scalselect.select(run_dir, budget=3, exclude_rows=[0, 1])
    path = more(tmp_path, pictures)
    with pytest.warns(scalselect.ScalselectWarning, match="made with exclude_rows as a Python list"):
        extended = scalselect.extend(run_dir, path)
    assert (extended.subspace.rows, extended.selected) == (14, None)
    assert not (run_dir / "selected").exists()
    assert scalselect.extend(run_dir, path).selected is None  # nothing is left to tell
    (tmp_path / "rows.txt").write_text("0\n1\n")
    scalselect.select(run_dir, budget="50%,3", exclude_rows=str(tmp_path / "rows.txt"), strategy="half", seed=7)
    other = more(tmp_path, pictures, name="other", first=200)
    summary = scalselect.extend(run_dir, other).selected.summary
    asked = summary["inputs"]["select"]
    assert (asked["strategy"], asked["seed"], asked["budget"]) == ("half", 7, "50%,3")
    assert asked["exclude_rows"] == str(tmp_path / "rows.txt")
    assert [budget["rows"] for budget in summary["budgets"]] == [9, 3]
    assert (run_dir / "selections" / "3" / "selected" / "other.json").exists()


def test_two_calls_that_extend_at_once(run_dir, tmp_path, pictures):
    folder = RunFolder(run_dir)
    plans = [
        plan_extension(folder, folder.require(), [more(tmp_path, pictures, name=name, first=first)], {})
        for name, first in (("one", 100), ("other", 200))
    ]
    plans[0].record(folder, lambda _holder: None)
    plans[0].record(folder, lambda _holder: None)
    assert [segment.source for segment in segments_of(folder.require())] == ["pool", "one"]
    with pytest.raises(RunFolderError, match="extended by another call meanwhile"):
        plans[1].record(folder, lambda _holder: None)


def test_a_loaded_model_must_be_given_again(tmp_path, checkpoints, pictures):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    loaded = AutoModelForImageTextToText.from_pretrained(checkpoints("llava")).eval()
    processor = AutoProcessor.from_pretrained(checkpoints("llava"))
    data, new = write_pool(tmp_path / "data", pictures), more(tmp_path, pictures)
    scalselect.run(data, model=loaded, processor=processor, budget=3, output=tmp_path / "run")
    with pytest.raises(ModelError, match="for a loaded model the model itself"):
        scalselect.extend(tmp_path / "run", new)
    extended = scalselect.extend(tmp_path / "run", new, model=loaded, processor=processor)
    assert len(extended.selected.scores) == 12 + len(open_pool(new))


def test_a_list_that_the_choice_was_made_with_is_missed_before_the_work(
    run_dir, tmp_path, pictures, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.txt").write_text("2\n")
    assert command("select", run_dir, "--budget", "3", "--exclude-rows", "out.txt") == 0
    new = more(tmp_path / "new", pictures)
    (tmp_path / "out.txt").rename(tmp_path / "elsewhere.txt")
    assert f"exclude_rows cannot be read: {tmp_path}/out.txt" in refused(capsys, run_dir, new)
    (tmp_path / "elsewhere.txt").rename(tmp_path / "out.txt")
    monkeypatch.chdir(tmp_path / "new")  # the list is found from anywhere
    assert command("extend", run_dir, new) == 0
    assert scores_of(run_dir)["reason"][2] == "excluded"
    capsys.readouterr()
    assert command("extend", run_dir, new) == 0
    assert "rows 8 to 13 (added before)" in capsys.readouterr().out


def test_a_missing_shard_names_the_command_that_makes_it(run_dir, tmp_path, pictures, capsys):
    new = more(tmp_path, pictures)
    assert command("extend", run_dir, new) == 0
    (run_dir / "representations" / "shard-0000002.json").unlink()
    capsys.readouterr()
    assert command("score", run_dir) == 1
    assert f"(first: 2): repeat `scalselect extend {run_dir} {new}`" in capsys.readouterr().err
    assert command("extend", run_dir, new) == 0
