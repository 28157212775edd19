"""Remote locations: which ones are such, their bytes, and what is said when a store cannot be used."""

from __future__ import annotations

import errno
import multiprocessing
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from object_store import access_for, store
from scalselect.dataset.opening import open_pool
from scalselect.errors import DatasetError, OptionError, RunFolderError, SampleError
from scalselect.image_files import image_exists, open_image
from scalselect.records import Reason
from scalselect.remote_files import filesystem, is_remote, normalised, read_remote, remote_facts
from scalselect.run_folder import RunFolder


class Scripted:
    """A store that answers as told: a status and an error code a request, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self):
                self.raw_requestline = self.rfile.readline()
                if self.raw_requestline and self.parse_request():
                    self.answer()

            def answer(self):
                status, code = scripted.answers[min(scripted.asked, len(scripted.answers) - 1)]
                scripted.asked += 1
                content = b"content" if status == 200 else f"<Error><Code>{code}</Code></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that makes `s3://` mean a store that answers as told."""
    started = []

    def start(*answers):
        started.append(Scripted(*answers))
        for name, value in access_for(started[-1].address).items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("location", ["s3://b/k", "S3://b/k", "hf://datasets/a/b", "ftp://x/y", "http://x/y.json"])
def test_urls_are_remote(location):
    assert is_remote(location)


@pytest.mark.parametrize("location", ["pool.json", "/data/s3://b", "s3:/b/k", "C:\\x", "", None, Path("a"), [{"a": 1}]])
def test_paths_and_other_things_are_not(location):
    assert not is_remote(location)


@pytest.mark.parametrize(
    ("location", "wanted"),
    [
        ("s3://b/a/c.png", "s3://b/a/c.png"),
        ("s3://b", "s3://b"),
        ("s3://b/", "s3://b"),
        ("S3://b/a/", "s3://b/a"),
        ("s3://b/a/./c//d.png", "s3://b/a/c/d.png"),
        ("s3://b/a/../c.png", "s3://b/c.png"),
        ("s3://b/../../other/c.png", "s3://b/other/c.png"),
        ("s3://b/with space?and#more", "s3://b/with space?and#more"),
    ],
)
def test_a_location_has_one_spelling_and_never_leaves_its_bucket(location, wanted):
    assert normalised(location) == wanted
    assert normalised(wanted) == wanted


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("ftp://x/y", "s3://, gs://, hf://"),
        ("ssh://x/y", "s3://, gs://, hf://"),
        ("s3a://b/y", "did you mean `s3`"),
        ("s3://", "names nothing"),
        ("s3:///key", "s3:///key"),
    ],
)
def test_unknown_protocols_are_refused_and_the_known_ones_named(location, told, tmp_path):
    for use in (normalised, filesystem, open_pool, RunFolder, lambda at: open_pool([{"messages": []}], images=at)):
        if location == "s3:///key":  # a bucket of that name, which is there or not
            continue
        with pytest.raises(OptionError, match=told):
            use(location)


def test_missing_extra_is_one_message_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for use in (
        open_pool,
        lambda at: RunFolder(at).check_usable(),
        lambda at: open_pool([{"messages": []}], images=at),
    ):
        with pytest.raises(OptionError, match=r"pip install 'scalselect\[gs\]'"):
            use("gs://bucket/pool.json")


def test_a_run_folder_cannot_lie_on_a_hub():
    with pytest.raises(RunFolderError, match="s3:// and gs://"):
        RunFolder("hf://datasets/a/b/run").check_usable()


def test_bytes_whole_and_in_part(bucket):
    store().pipe_file(f"{bucket}/a/b", b"0123456789")
    store().pipe_file(f"{bucket}/empty", b"")
    assert read_remote(f"{bucket}/a/./b") == b"0123456789"
    assert read_remote(f"{bucket}/a/b", 2, 5) == b"234"
    assert read_remote(f"{bucket}/a/b", 7) == b"789"
    assert read_remote(f"{bucket}/a/b", 10, 10) == b""
    assert read_remote(f"{bucket}/empty") == b""
    assert remote_facts(f"{bucket}/a/b")["size"] == 10


def test_missing_image_is_a_row_with_a_reason(bucket, pictures):
    store().pipe_file(f"{bucket}/a.png", pictures[0].read_bytes())
    assert open_image(f"{bucket}/a.png").sha256 == open_image(str(pictures[0])).sha256
    assert image_exists(f"{bucket}/a.png")
    assert not image_exists(f"{bucket}/b.png")
    for unknown in ("ftp://x/a.png", "s3://", "urn://a"):
        with pytest.raises(SampleError, match="no protocol"):
            open_image(unknown)
    for gone in ("b.png", "b" * 2000, "nul\0.png", "../no-such-bucket/a.png"):
        with pytest.raises(SampleError) as raised:
            open_image(f"{bucket}/{gone}")
        assert raised.value.reason is Reason.IMAGE_MISSING
    with pytest.raises(SampleError) as raised:
        open_image(bucket)
    assert raised.value.reason is Reason.IMAGE_UNREADABLE


def test_images_are_read_in_processes_that_were_forked(bucket, pictures):
    wanted = []
    for number, picture in enumerate(pictures):
        store().pipe_file(f"{bucket}/{number}", picture.read_bytes())
        wanted.append(open_image(f"{bucket}/{number}").sha256)  # so that this process has a connection to fork
    with multiprocessing.get_context("fork").Pool(2) as processes:
        found = processes.map(_sha256, [f"{bucket}/{number}" for number in range(len(pictures))] * 3, chunksize=1)
    assert found == wanted * 3
    assert open_image(f"{bucket}/0").sha256 == wanted[0]


def _sha256(location):
    return open_image(location).sha256


def test_denied_access_is_no_missing_image(scripted):
    scripted((403, "AccessDenied"))
    with pytest.raises(PermissionError) as raised:
        open_image("s3://b/a.png")
    assert raised.value.filename == "s3://b/a.png"
    assert "access denied" in raised.value.strerror
    with pytest.raises(DatasetError, match=r"cannot be read: s3://b/pool\.json \(access denied"):
        open_pool("s3://b/pool.json")
    with pytest.raises(RunFolderError, match=r"cannot be used: s3://b/run \(access denied"):
        RunFolder("s3://b/run").check_usable()


def test_a_store_that_stumbles_is_asked_again(scripted):
    stumbling = scripted((503, "SlowDown"), (500, "InternalError"), (503, "SlowDown"), (200, ""))
    assert read_remote("s3://b/a.png") == b"content"
    assert stumbling.asked == 4


def test_no_connection_ends_the_work(scripted, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 2)
    scripted((200, "")).server.server_close()
    with pytest.raises(OSError, match="the store cannot be used: Could not connect") as raised:
        open_image("s3://b/a.png")
    assert raised.value.errno == errno.EIO


def test_no_credentials_end_the_work(scripted, monkeypatch, tmp_path):
    scripted((200, ""))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(OSError, match="the store cannot be used: Unable to locate credentials"):
        open_image("s3://b/a.png")


def test_local_use_imports_no_library_of_stores():
    code = (
        "import sys, scalselect.pipeline, scalselect.dataset.opening, scalselect.run_folder\n"
        "scalselect.run_folder.RunFolder('here').read()\n"
        "print([name for name in ('fsspec', 's3fs', 'aiohttp', 'httpx') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
