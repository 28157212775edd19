"""Data, images and run folder in an object store: what a run makes there is what it makes on a disk, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from object_store import download, names_in, store, upload
from scalselect import storage
from small_pools import command, promised_files, record

pytestmark = pytest.mark.usefixtures("shared_models_kept")

ROWS = 9
OPTIONS = ("--budget", "3", "--shard-size", "4", "--threads", "1", "--dataloader-workers", "2")


@pytest.fixture(scope="module")
def local(tmp_path_factory, checkpoints, pictures):
    """Return a folder with data and images, and what a run on the disk makes of it."""
    folder = tmp_path_factory.mktemp("local")
    data = folder / "data"
    (data / "pictures").mkdir(parents=True)
    names = []
    for number, picture in enumerate(pictures):
        names.append(f"pictures/{number}{picture.suffix}")
        (data / names[-1]).write_bytes(picture.read_bytes())
    records = [record(row, names[row % len(names)], question="Is it red? " * (1 + row % 3)) for row in range(ROWS)]
    records[4]["image"] = "pictures/gone.png"
    (data / "pool.json").write_text(json.dumps(records, indent=1))
    options = (*OPTIONS, "--max-skipped", "50%")
    assert (
        command("run", data / "pool.json", "--model", checkpoints("llava"), "--output", folder / "run", *options) == 0
    )
    return data, folder / "run"


def words_of_run(bucket, model):
    data, output = f"{bucket}/data/pool.json", f"{bucket}/runs/first"
    return ["run", data, "--model", str(model), "--output", output, *OPTIONS, "--max-skipped", "50%"]


class StoppedError(BaseException):
    """Stands for whatever ends a process in the middle."""


def test_run_stopped_and_continued_in_a_bucket_equals_a_local_one(
    local, bucket, checkpoints, tmp_path, monkeypatch, capsys
):
    data, run = local
    upload(data, f"{bucket}/data")
    words = words_of_run(bucket, checkpoints("llava"))
    publish = storage.publish_bytes

    def stop_at_the_second_shard(path, content):
        if path.name == "shard-0000001.json":
            raise StoppedError
        publish(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("scalselect.representation_store.publish_bytes", stop_at_the_second_shard)
        with pytest.raises(StoppedError):
            command(*words)
    output = f"{bucket}/runs/first"
    reports = [name for name in names_in(output) if name.endswith(".json")]
    assert reports == ["representations/shard-0000000.json", "run.json"]
    first = store().info(f"{output}/representations/shard-0000000.json")["LastModified"]
    capsys.readouterr()
    assert command(*words) == 0
    assert f"{output}/selected.json" in capsys.readouterr().out
    assert store().info(f"{output}/representations/shard-0000000.json")["LastModified"] == first
    there = download(output, tmp_path / "there")
    assert promised_files(there) == promised_files(run)
    assert not list(there.rglob(".*"))  # neither a claim nor a trial of writing is left
    page = (there / "report.html").read_bytes()
    assert b"UklGR" in page  # pictures from the bucket
    assert command("report", output, "--output", str(tmp_path / "page.html")) == 0
    assert (tmp_path / "page.html").read_bytes() == page
    assert command("report", output, "--json") == 0
    assert f'"report": "{output}/report.html"' in capsys.readouterr().out
    written = json.loads((there / "run.json").read_bytes())
    assert written["data"]["path"] == f"{bucket}/data/pool.json"
    assert written["represent"]["images"] == f"{bucket}/data"


def test_commands_without_the_model_work_on_a_folder_in_a_bucket(local, bucket, tmp_path, capsys):
    data, run = local
    upload(data, f"{bucket}/data")
    upload(run, f"{bucket}/run")
    again = ("--dataset", f"{bucket}/data/pool.json")
    assert command("score", f"{bucket}/run", "--energy", "0.8") == 0
    assert not [name for name in names_in(f"{bucket}/run") if name.startswith("selected")]
    choice = ("--budget", "50%,2", "--deduplicate", "near", "--stratify-by", "source")
    assert command("select", f"{bucket}/run", *again, *choice) == 0
    assert command("compare", f"{bucket}/run", run) == 0
    here = tmp_path / "here"
    upload_of_local = download(f"{bucket}/run", tmp_path / "there")
    shutil.copytree(run, here)
    assert command("score", here, "--energy", "0.8") == 0
    assert command("select", here, *choice) == 0
    assert promised_files(upload_of_local) == promised_files(here)


def test_a_run_in_a_bucket_is_extended_with_data_there(local, bucket, checkpoints, tmp_path):
    data, run = local
    here = tmp_path / "here"
    shutil.copytree(run, here)
    pictures = [f"pictures/{path.name}" for path in sorted((data / "pictures").iterdir())]
    more = [record(row, pictures[row % 3], question="Where? ") for row in range(20, 24)]
    (data / "more.json").write_text(json.dumps(more))
    upload(data, f"{bucket}/data")
    upload(run, f"{bucket}/run")
    words = ("--model", checkpoints("llava"), "--max-skipped", "50%")
    assert command("extend", here, data / "more.json", *words) == 0
    (data / "pool.json").rename(data / "moved.json")  # from now on only the bucket has it
    try:
        moved = json.loads((run / "run.json").read_bytes())
        del moved["seal"]  # edited on purpose
        moved["data"]["path"] = f"{bucket}/data/pool.json"
        store().pipe_file(f"{bucket}/run/run.json", json.dumps(moved).encode())
        assert command("extend", f"{bucket}/run", f"{bucket}/data/more.json", *words) == 0
    finally:
        (data / "moved.json").rename(data / "pool.json")
    there = download(f"{bucket}/run", tmp_path / "there")
    assert (there / "selected" / "more.json").read_bytes() == (here / "selected" / "more.json").read_bytes()
    assert vectors_and_scores(there) == vectors_and_scores(here)


def vectors_and_scores(run):
    """Return what must be equal though the two runs tell of other places in their guides for trainers."""
    return {
        name: content for name, content in promised_files(run).items() if name.endswith((".safetensors", ".parquet"))
    }


@pytest.mark.slow
def test_killed_process_is_continued_by_another(local, bucket, checkpoints, tmp_path):
    data, run = local
    upload(data, f"{bucket}/data")
    words = words_of_run(bucket, checkpoints("llava"))
    process = subprocess.Popen([sys.executable, "-m", "scalselect", *words], env=os.environ)
    wanted = "representations/shard-0000000.json"
    while process.poll() is None and wanted not in names_in(f"{bucket}/runs/first"):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "selection.json" not in names_in(f"{bucket}/runs/first")
    assert subprocess.run([sys.executable, "-m", "scalselect", *words], env=os.environ, check=False).returncode == 0
    assert promised_files(download(f"{bucket}/runs/first", tmp_path)) == promised_files(run)
