"""A hub on this machine, and a process that talks to it: huggingface_hub reads where its hub is when it is imported.

The server knows what huggingface_hub asks for: what a revision stands for, the list of files, and the files themselves.
Every request is counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from safetensors.numpy import load_file

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "hf_of_a_test"

# Names, in the files, of what a pass up to decoder layer 0 does not read.
UNREAD = {
    "llava": r"lm_head|language_model\.model\.layers\.[12]\.|vision_tower\..*layers\.2\.",
    "qwen2_5_vl": r"lm_head|^model\.layers\.[12]\.",
    "qwen3_vl": r"lm_head|language_model\.layers\.[12]\.|deepstack_merger_list",
    "qwen3_vl_moe": r"lm_head|language_model\.layers\.[12]\.|deepstack_merger_list",
    "internvl": r"lm_head|language_model\.model\.layers\.[12]\.",
}


@dataclass
class Repository:
    """Commits by hash, each a folder, and the names that stand for them. A private one wants TOKEN."""

    commits: dict[str, Path]
    names: dict[str, str]
    private: bool = False
    gated: bool = False
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)

    def downloaded(self):
        """Return the files that were sent since `requests` was cleared."""
        return {file for method, file in self.requests if method == "GET" and not file.startswith("api/")}


class Hub:
    """Serves repositories by name until `close`."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        hub = self

        class Handler(_Handler):
            repositories = hub.repositories

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name, folder, **options):
        """Publish a folder as the only commit of a repository's main branch."""
        commit = hashlib.sha1(name.encode()).hexdigest()
        self.repositories[name] = Repository({commit: folder}, {"main": commit}, **options)
        return self.repositories[name]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: dict[str, Repository]

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def log_message(self, *words):
        pass

    def _answer(self):  # noqa: PLR0911  one for each thing that may be asked for
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        is_api = parts[:1] == ["api"]
        if is_api:
            parts = parts[1:] if parts[1] == "datasets" else parts[2:]
        of_name = 3 if parts[:1] == ["datasets"] else 2
        name = "/".join(parts[:of_name])
        question, revision, *place = [*parts[of_name:], "", ""]
        file = "/".join(part for part in place if part)
        repository = self.repositories.get(name)
        if repository is None or (repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self._refuse(401, "RepoNotFound")
        repository.requests[self.command, f"api/{question}" if is_api else file] += 1
        commit = repository.names.get(revision or "main", revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound")
        folder = repository.commits[commit]
        if is_api and question in {"", "revision"}:
            siblings = [{"rfilename": path} for path in _files(folder)]
            return self._send(json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())
        if is_api and question == "tree":
            if file and not (folder / file).is_dir():
                return self._refuse(404, "EntryNotFound", commit)
            deep = "recursive=true" in urlsplit(self.path).query.lower()
            return self._send(json.dumps([_entry(folder, path) for path in _paths(folder, file, deep)]).encode())
        if is_api and question == "paths-info":
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
            return self._send(json.dumps([_entry(folder, path) for path in asked if (folder / path).exists()]).encode())
        if repository.gated:
            return self._refuse(403, "GatedRepo")
        if question != "resolve" or not (folder / file).is_file():
            return self._refuse(404, "EntryNotFound", commit)
        return self._send((folder / file).read_bytes(), commit, _etag(folder / file))

    def _send(self, content, commit="", etag=""):
        begin = 0
        if wanted := self.headers.get("Range"):  # a download that goes on
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if commit:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[begin:])

    def _refuse(self, status, code, commit=""):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _paths(folder, inside, deep):
    """Return what lies in a folder of a repository: all files below it, or its own files and folders."""
    if deep:
        return [path for path in _files(folder) if path.startswith(inside)]
    return sorted(str(path.relative_to(folder)) for path in (folder / inside).iterdir())


def _entry(folder, path):
    if (folder / path).is_dir():
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest()}
    return {"type": "file", "path": path, "size": (folder / path).stat().st_size, "oid": _etag(folder / path)}


def _etag(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()


_WORKER = """\
import contextlib, io, json, os, sys, traceback
from scalselect.cli import main

answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    question = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(question["environment"])
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(question["words"])
        except (Exception, SystemExit):
            code = traceback.format_exc()
    print(json.dumps([code, said.getvalue()]), file=answers, flush=True)
"""


class Worker:
    """A process that runs command lines against a hub, one after the other, with a cache of its own."""

    def __init__(self, address, home, *, offline=False):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, *words, **environment):
        """Return the exit code of a command line, or what it raised, and what it wrote to stderr."""
        self._process.stdin.write(
            json.dumps({"words": [str(word) for word in words], "environment": environment}) + "\n"
        )
        self._process.stdin.flush()
        code, said = json.loads(self._process.stdout.readline())
        return code, said

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def represent(worker, pool, model, output, *words, **environment):
    """Represent a pool; return exit code and stderr."""
    return worker.run("represent", pool, "--model", model, "--output", output, *words, **environment)


def vectors(run):
    return load_file(run / "representations" / "shard-0000000.safetensors")["representations"]


def weight_map(folder):
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def files_read(folder, unread):
    """Return the files that hold a tensor whose name does not match; there is one of each kind."""
    names = weight_map(folder)
    read = {file for name, file in names.items() if not re.search(unread, name)}
    assert read < set(names.values())
    return read
