"""Workers represent what one process would, and what goes wrong at one of them is another one's to do."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

import scalselect
from inline_crew import InlineCrew, work_inline
from scalselect import shard_job, shard_work
from scalselect.engines import ray_engine
from scalselect.engines.crew import Retaken
from scalselect.errors import RunFolderError, WorkError
from scalselect.process_mark import new_mark
from scalselect.run_folder import RunFolder
from scalselect.shard_worker import Elsewhere, Finished
from shard_workers import ModelFree, publish
from small_pools import command, promised_files, scores_of, write_pool

ROWS, SHARDS = 18, 6
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture(scope="module")
def pool(tmp_path_factory, pictures):
    return write_pool(tmp_path_factory.mktemp("workforce"), pictures, rows=ROWS)


@pytest.fixture
def words(pool, checkpoints, shared_models_kept):
    """Return a function (output) -> the words that represent six shards."""
    model = ("--model", checkpoints("llava"), "--device", "cpu", "--threads", "1")
    return lambda output: ["represent", pool, *model, "--shard-size", "3", "--output", output]


def run_words(words):
    """Return the words of the whole run."""
    return ["run", *words[1:], "--budget", "50%"]


@pytest.fixture(scope="module")
def done(tmp_path_factory, pool, checkpoints):
    """Return the folder of the run of one process; nobody changes it."""
    out = tmp_path_factory.mktemp("done") / "run"
    words = ["represent", pool, "--model", checkpoints("llava"), "--device", "cpu", "--threads", "1"]
    assert command(*run_words([*words, "--shard-size", "3", "--output", out])) == 0
    return out


@pytest.fixture(scope="module")
def whole(done):
    """Return what representing leaves and must be equal, whoever does it."""
    return without_logs(done, "representations/")


@pytest.fixture
def crews(monkeypatch):
    return work_inline(monkeypatch)


def without_logs(folder, of=""):
    promised = promised_files(folder).items()
    return {name: content for name, content in promised if name.startswith(of) and not name.startswith("logs/")}


def worker_logs(folder):
    return {path.name[:10]: path.read_text() for path in sorted((folder / "logs").iterdir())}


class Failing:
    """Lets some attempts at a shard fail, each a number of times, at publishing."""

    def __init__(self, monkeypatch, error, *, times, shard=2):
        self.left = times
        publish = shard_work.ShardWork._publish

        def failing(work, at, *arguments):
            if at == shard and self.left:
                self.left -= 1
                raise error
            return publish(work, at, *arguments)

        monkeypatch.setattr(shard_work.ShardWork, "_publish", failing)


def test_three_workers_represent_what_one_process_does(words, done, tmp_path, crews, capsys):
    out = tmp_path / "run"
    assert command(*run_words(words(out)), "--workers", "3") == 0
    told = capsys.readouterr().err
    assert without_logs(out) == without_logs(done)
    crew = crews[0]
    assert crew.begun == [0, 1, 2]
    assert sorted(task for _, task in crew.given) == list(range(SHARDS))
    assert {worker for worker, _ in crew.given} == {0, 1, 2}
    assert f"represented {ROWS} of {ROWS} rows" in told
    assert told.count("model: ") == 1  # of three that loaded it one is told of
    logs = worker_logs(out)
    assert list(logs) == ["worker-000", "worker-001", "worker-002"]
    assert logs["worker-000"].count("3 scored; ") == SHARDS  # those of this process are in all logs
    for left in (".claims", "scoring"):
        assert not (out / left).exists()


def test_what_a_worker_is_told_means_the_same_anywhere(words, tmp_path, crews, monkeypatch, pool, checkpoints):
    """It may have another current folder: every path begins at the root."""
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(checkpoints("llava"))
    Path("template.jinja").write_bytes((checkpoints("llava") / "chat_template.jinja").read_bytes())
    call = words("run")
    call[call.index("--model") + 1] = "model"
    call[call.index(pool)] = os.path.relpath(pool)
    assert command(*call, "--workers", "2", "--chat-template", "template.jinja", "--images", ".") == 0
    job = pickle.loads(crews[0]._begin)
    assert job.run_dir == str(tmp_path / "run")
    assert job.model == str(tmp_path / "model")
    assert job.config.chat_template == str(tmp_path / "template.jinja")
    [segment] = job.segments
    assert Path(segment.path).is_absolute()
    assert Path(segment.path).resolve() == pool
    assert Path(segment.images).is_absolute()
    assert Path(segment.images).resolve() == tmp_path
    assert job.devices == ("cpu", "cpu")
    assert job.cpus == max(1, len(os.sched_getaffinity(0)) // 2)


def test_a_list_in_memory_goes_to_the_workers(whole, shared_models_kept, tmp_path, crews, pool, checkpoints):
    records = json.loads(pool.read_text())
    options = {
        "model": checkpoints("llava"),
        "device": "cpu",
        "threads": 1,
        "shard_size": 3,
        "images": str(pool.parent),
    }
    scalselect.represent(records, output=tmp_path / "run", workers=2, **options)
    store = RunFolder(tmp_path / "run").store
    for name, content in whole.items():
        if name.endswith(".safetensors"):
            assert (store.folder / Path(name).name).read_bytes() == content
    assert pickle.loads(crews[0]._begin).pools is not None


class OneNode:
    """A cluster whose workers are those of this process; `cpus_each` is what each was asked to have."""

    gpus = 0.0
    nodes = 2
    address = "192.0.2.1:6379"
    cpus = 4.0

    def __init__(self):
        self.asked = []

    def default_workers(self, cpus, _gpus):
        return int(self.cpus // cpus)

    def check(self, look, *asked):
        assert pickle.loads(pickle.dumps(look))() is None
        self.asked.append(asked)

    def crew(self, job, **_each):
        return InlineCrew(job)


@pytest.mark.parametrize(("options", "asked"), [([], (4, 1, 0.0)), (["--workers", "2"], (2, 1, 0.0))])
def test_workers_of_a_cluster_open_the_data_anew(words, whole, tmp_path, crews, monkeypatch, options, asked):
    node = OneNode()
    monkeypatch.setattr(ray_engine, "ray_cluster", lambda _address, **_say: contextlib.nullcontext(node))
    assert command(*words(tmp_path / "run"), "--engine", "ray", *options) == 0
    assert without_logs(tmp_path / "run", "representations/") == whole
    assert node.asked[0] == asked
    job = pickle.loads(crews[0]._begin)
    assert job.pools is None
    assert job.keeps_descriptors  # of a process of the cluster
    assert job.cpus == 1


def test_a_run_of_one_process_goes_on_with_workers_and_back(words, whole, tmp_path, crews, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        Failing(patched, WorkError("no luck"), times=10)
        assert command(*words(out)) == 1
        assert command(*words(out), "--workers", "2") == 1
    assert [task for _, task in crews[0].given] == [2, 2, 2]
    assert command(*words(out)) == 0
    assert without_logs(out, "representations/") == whole


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_trouble_of_one_machine_is_tried_again_at_another(words, whole, tmp_path, crews, monkeypatch, number):
    Failing(monkeypatch, OSError(number, os.strerror(number)), times=2)
    assert command(*words(tmp_path / "run"), "--workers", "3") == 0
    tried = [worker for worker, task in crews[0].given if task == 2]
    assert len(set(tried)) == 3
    assert without_logs(tmp_path / "run", "representations/") == whole


def test_trouble_that_is_everywhere_is_counted_and_the_rest_is_done(words, tmp_path, crews, monkeypatch, capsys):
    Failing(monkeypatch, OSError(errno.EIO, "Input/output error"), times=9)
    out = tmp_path / "run"
    assert command(*words(out), "--workers", "2") == 1
    told = capsys.readouterr().err
    assert "shard 2 failed after 3 attempts: OSError: [Errno 5] Input/output error" in told
    assert f"1 of {SHARDS} shards failed (first: shard 2, OSError: [Errno 5]" in told
    store = RunFolder(out).store
    assert [store.is_published(shard) for shard in range(SHARDS)] == [shard != 2 for shard in range(SHARDS)]
    assert not (out / "scores.parquet").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_room_ends_the_run_and_the_same_command_goes_on(words, whole, tmp_path, crews, monkeypatch, capsys, number):
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        Failing(patched, OSError(number, os.strerror(number), str(out / "there")), times=1)
        assert command(*words(out), "--workers", "2") == 1
    told = capsys.readouterr().err
    assert [task for _, task in crews[0].given].count(2) == 1  # all share that disk
    assert len(crews[0].given) < SHARDS
    assert os.strerror(number).lower() in told.lower()
    assert "what was finished is kept, the same command continues" in told
    assert "fault of scalselect" not in told
    assert command(*words(out), "--workers", "2") == 0
    assert without_logs(out, "representations/") == whole


def test_a_machine_that_cannot_read_the_model_is_begun_again(words, whole, tmp_path, crews, monkeypatch):
    left = [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle")]
    model_of_run = shard_job.ModelOfRun

    def failing(*arguments, **options):
        if left and "cpus" in options:
            raise left.pop()
        return model_of_run(*arguments, **options)

    monkeypatch.setattr(shard_job, "ModelOfRun", failing)
    assert command(*words(tmp_path / "run"), "--workers", "2") == 0
    assert crews[0].begun == [0, 1, 0, 1]
    assert without_logs(tmp_path / "run", "representations/") == whole


def test_no_machine_can_read_the_model(words, tmp_path, crews, monkeypatch, capsys):
    def failing(*_arguments, **_options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shard_job, "ModelOfRun", failing)
    out = tmp_path / "run"
    assert command(*words(out), "--workers", "2") == 1
    told = capsys.readouterr().err
    assert "worker 0 is given up, it could not be started 3 times: WorkError: OSError: [Errno 5]" in told
    assert "error: no worker could be started: WorkError: OSError: [Errno 5] Input/output error" in told
    assert not (out / "run.json").exists()
    assert "WorkError: OSError: [Errno 5] Input/output error" in worker_logs(out)["worker-000"]  # on what it ended


def test_data_that_one_machine_cannot_read_now_are_read_by_another(words, whole, tmp_path, crews, monkeypatch):
    opened, left = shard_job._ShardsElsewhere._open, [OSError(errno.ESTALE, "Stale file handle")]

    def failing(self):
        if left:
            raise left.pop()
        opened(self)

    monkeypatch.setattr(shard_job._ShardsElsewhere, "_open", failing)
    assert command(*words(tmp_path / "run"), "--workers", "2") == 0
    assert without_logs(tmp_path / "run", "representations/") == whole
    assert len(crews[0].given) == SHARDS + 1


@pytest.mark.parametrize(
    ("key", "value"), [("model", "0" * 64), ("numerics_version", 1), ("transformers", "4.0"), ("threads", 7)]
)
def test_a_worker_that_would_make_other_vectors_refuses(words, tmp_path, crews, key, value):
    """It compares what the run recorded with its own model and versions before its first shard."""
    out = tmp_path / "run"
    assert command(*words(out), "--workers", "2") == 0
    job = pickle.loads(crews[0]._begin)
    folder = RunFolder(out)
    recorded = folder.require()["represent"]
    if key == "model":
        key = next(name for name in recorded if name.startswith("model_"))
    work, _ = job(0)
    try:
        folder.update(represent={**recorded, key: value})
        with pytest.raises(RunFolderError, match="run folder belongs to another run: ") as refusal:
            work(1)
        assert f"  {key}: {value!r} in the run folder, {recorded[key]!r} in this call" in str(refusal.value).split("\n")
        folder.update(represent=recorded)
        assert work(1).adopted
    finally:
        work.close()


def test_a_refusal_of_a_worker_ends_the_run_at_once(words, tmp_path, crews, monkeypatch, capsys):
    def refuse(*_arguments, **_options):
        raise RunFolderError("run folder belongs to another run: here")

    monkeypatch.setattr(shard_job, "refuse_other_keys", refuse)
    assert command(*words(tmp_path / "run"), "--workers", "2") == 2
    assert capsys.readouterr().err.count("run folder belongs to another run") == 1
    assert len(crews[0].given) == 2  # both were at it


def test_a_shard_that_was_taken_from_a_worker_is_done_whatever_that_one_holds(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claims.folder.mkdir()
    for shard in range(3):
        (folder.claims.folder / f"shard-{shard:07d}@{new_mark()}").touch()
    worker = ModelFree(folder)
    with pytest.raises(RuntimeError, match="no data were opened"):
        worker(0)
    worker.open([(None, None)])
    assert worker(0) == Elsewhere(new_mark().words)
    assert worker.represented == []
    done = worker(Retaken(1))
    assert isinstance(done, Finished)
    assert not done.adopted
    assert worker.represented == [1]
    publish(folder, 2)
    assert worker(2).adopted
    assert worker(Retaken(2)).adopted
    assert worker(Retaken(1)).adopted
    assert worker.represented == [1]


def launch(monkeypatch, number, world):
    for name, value in zip(LAUNCHED, (number, world, number, world), strict=True):
        monkeypatch.setenv(name, str(value))


def test_of_a_launchers_processes_one_tells_and_each_keeps_a_log(words, done, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    capsys.readouterr()
    launch(monkeypatch, 1, 2)
    assert command(*run_words(words(out))) == 0  # the other one has not come yet: it does all
    assert capsys.readouterr() == ("", "")
    assert without_logs(out) == without_logs(done)
    launch(monkeypatch, 0, 2)
    assert command(*run_words(words(out))) == 0
    told = capsys.readouterr()
    assert "chosen     9 rows" in told.out
    assert "pool: LLaVA records" in told.err
    logs = worker_logs(out)
    assert list(logs) == ["worker-000", "worker-001"]
    assert logs["worker-001"].count("3 scored; ") == SHARDS
    assert "3 scored" not in logs["worker-000"]
    assert without_logs(out) == without_logs(done)
    assert sum(scores_of(out)["selected"]) == ROWS / 2


@pytest.mark.parametrize("words_of", [["score"], ["select", "--budget", "4"]])
def test_other_commands_of_a_launchers_processes_print_once(done, tmp_path, monkeypatch, capsys, words_of):
    command_word, *options = words_of
    printed = []
    run = shutil.copytree(done, tmp_path / "run")
    for number in (1, 0):
        launch(monkeypatch, number, 2)
        capsys.readouterr()
        assert command(command_word, run, *options) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == ""
    assert printed[1] != ""


def test_the_first_process_counts_the_rows_of_all(words, done, tmp_path, monkeypatch, capsys):
    """Of 18 rows it represents 9 itself, and another process the others meanwhile."""
    out = tmp_path / "run"
    publish_own = shard_work.ShardWork._publish

    def beside(self, shard, *arguments):
        for suffix in (".safetensors", ".rows.parquet", ".json"):
            name = f"representations/shard-{shard + 1:07d}{suffix}"
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes((done / name).read_bytes())
        return publish_own(self, shard, *arguments)

    monkeypatch.setattr(shard_work.ShardWork, "_publish", beside)
    launch(monkeypatch, 0, 2)
    capsys.readouterr()
    assert command(*words(out)) == 0
    told = capsys.readouterr().err
    assert f"represented {ROWS} of {ROWS} rows" in told
    assert "3 of these shards were represented by other processes" in told
    assert worker_logs(out)["worker-000"].count("3 scored; ") == 3
