"""Images from web addresses, from a server of this machine: limits, redirects, and what is tried again."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scalselect import http_images
from scalselect.errors import SampleError
from scalselect.http_images import fetch_image, is_web_address
from scalselect.image_files import image_exists, open_image
from scalselect.records import Reason
from scalselect.run_folder import RunFolder
from small_pools import command, record

pytestmark = pytest.mark.usefixtures("shared_models_kept")


class Web:
    """Answers by path; of a list of answers the next one at each request, the last one for ever."""

    def __init__(self):
        self.answers = {}
        self.asked = Counter()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self):
                self.raw_requestline = self.rfile.readline()
                if self.raw_requestline and self.parse_request():
                    answers = web.answers.get(self.path, [(404, b"")])
                    status, content = answers[min(web.asked[self.path], len(answers) - 1)]
                    web.asked[self.path] += 1
                    self.send_response(status)
                    if status in (301, 302):
                        self.send_header("Location", content.decode())
                        content = b""
                    if callable(content):
                        self.flush_headers()
                        content(self.wfile)
                        return
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(http_images, "WAITS", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Web()
    yield started
    started.server.shutdown()
    started.server.server_close()


def refused(address):
    with pytest.raises(SampleError) as raised:
        fetch_image(address)
    return raised.value.reason, raised.value.detail


def test_addresses():
    assert is_web_address("http://a/b")
    assert is_web_address("HTTPS://a/b")
    assert not is_web_address("s3://a/b")
    assert not is_web_address("a/http://b")


def test_an_image_is_what_it_is_on_the_disk(web, pictures):
    web.answers["/a.png"] = [(200, pictures[0].read_bytes())]
    there, here = open_image(f"{web.address}/a.png"), open_image(str(pictures[0]))
    assert (there.sha256, there.bytes) == (here.sha256, here.bytes)
    assert there.picture.tobytes() == here.picture.tobytes()
    assert image_exists(f"{web.address}/gone.png")  # told when it is fetched
    assert web.asked["/gone.png"] == 0


def test_what_is_not_there_is_asked_for_once(web):
    assert refused(f"{web.address}/gone.png") == (Reason.IMAGE_MISSING, "the server answers 404")
    web.answers["/mine.png"] = [(403, b"")]
    assert refused(f"{web.address}/mine.png") == (Reason.IMAGE_MISSING, "the server answers 403")
    assert set(web.asked.values()) == {1}


def test_a_server_that_stumbles_is_asked_again(web):
    web.answers["/a.png"] = [(503, b""), (429, b""), (200, b"content")]
    assert fetch_image(f"{web.address}/a.png") == b"content"
    web.answers["/b.png"] = [(500, b"")]
    assert refused(f"{web.address}/b.png") == (Reason.IMAGE_MISSING, "the server answers 500, 3 times")
    assert web.asked["/b.png"] == 3


def test_no_server_is_a_missing_image(web):
    web.server.server_close()
    assert refused(f"{web.address}/a.png") == (Reason.IMAGE_MISSING, "no connection (ConnectionRefusedError), 3 times")


def test_more_bytes_than_allowed_are_not_read(web, monkeypatch):
    monkeypatch.setattr(http_images, "MAX_BYTES", 1000)
    web.answers["/as-told"] = [(200, bytes(1000))]
    assert len(fetch_image(f"{web.address}/as-told")) == 1000
    web.answers["/more"] = [(200, bytes(1001))]
    assert refused(f"{web.address}/more") == (Reason.IMAGE_TOO_LARGE, "more than 1,000 bytes")

    def endless(stream):
        stream.write(b"\r\n")
        while True:
            stream.write(bytes(100_000))

    web.answers["/endless"] = [(200, endless)]
    assert refused(f"{web.address}/endless")[0] is Reason.IMAGE_TOO_LARGE


def test_a_slow_server_is_not_waited_for(web, monkeypatch):
    monkeypatch.setattr(http_images, "SECONDS", 0.2)

    def drip(stream):
        stream.write(b"\r\n")
        for _ in range(200):  # 20 seconds at each of three attempts
            stream.write(b"x")
            time.sleep(0.1)

    web.answers["/slow"] = [(200, drip)]
    began = time.monotonic()
    assert refused(f"{web.address}/slow") == (Reason.IMAGE_MISSING, "not there after 0 seconds, 3 times")
    assert time.monotonic() - began < 20


def test_redirects_are_followed_on_the_web_and_nowhere_else(web, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    web.answers["/a"] = [(302, f"{web.address}/b".encode())]
    web.answers["/b"] = [(200, b"content")]
    assert fetch_image(f"{web.address}/a") == b"content"
    for target in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/secret", "s3://bucket/secret"):
        web.answers["/away"] = [(302, target.encode())]
        reason, detail = refused(f"{web.address}/away")
        assert reason is Reason.IMAGE_MISSING
        assert "fetched" in detail
    web.answers["/round"] = [(302, f"{web.address}/round".encode())]
    assert refused(f"{web.address}/round") == (
        Reason.IMAGE_MISSING,
        "the server answers 302, sending on to where nothing is fetched",
    )


def test_a_connection_that_breaks_off_is_no_image(web):
    def half(stream):
        stream.write(b"Content-Length: 10\r\n\r\n12345")

    web.answers["/a"] = [(200, half)]
    assert "3 times" in refused(f"{web.address}/a")[1]


def test_spaces_and_other_characters_are_encoded(web):
    web.answers["/a%20b/%C3%A9.png?q=%2F"] = [(200, b"content")]
    assert fetch_image(f"{web.address}/a b/é.png?q=%2F") == b"content"


@pytest.mark.parametrize("address", ["http://", "http://[", "http://a b/", "http://127.0.0.1:99999/"])
def test_broken_addresses_are_missing_images(address, monkeypatch):
    monkeypatch.setattr(http_images, "WAITS", ())
    assert refused(address)[0] is Reason.IMAGE_MISSING


def test_a_run_fetches_images_where_that_is_allowed(web, pictures, checkpoints, tmp_path):
    web.answers["/a.png"] = [(200, pictures[0].read_bytes())]
    addresses = [f"{web.address}/a.png", str(pictures[1]), f"{web.address}/gone.png"]
    (tmp_path / "pool.json").write_text(json.dumps([record(row, image) for row, image in enumerate(addresses)]))
    words = ("represent", tmp_path / "pool.json", "--model", checkpoints("llava"), "--max-skipped", "99%", "--output")
    assert command(*words, tmp_path / "refused") == 0
    assert not web.asked
    assert command(*words, tmp_path / "allowed", "--allow-remote-images") == 0
    assert web.asked == {"/a.png": 1, "/gone.png": 1}
    found = {
        run: [(row["status"], row["detail"]) for row in RunFolder(tmp_path / run).store.rows(0).to_pylist()]
        for run in ("refused", "allowed")
    }
    assert [status for status, _ in found["refused"]] == ["skipped", "scored", "skipped"]
    assert "--allow-remote-images" in found["refused"][0][1]
    assert found["allowed"][:2] == [("scored", None)] * 2
    assert found["allowed"][2] == ("skipped", f"`{addresses[2]}`: the server answers 404")


def test_images_are_fetched_in_processes_that_were_forked(web):
    web.answers["/a"] = [(200, b"content")]
    assert fetch_image(f"{web.address}/a") == b"content"
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.map(fetch_image, [f"{web.address}/a"] * 6) == [b"content"] * 6
