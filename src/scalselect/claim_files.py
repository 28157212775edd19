"""The files of claims: created, removed, and listed with their beats, on a disk or in an object store."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from typing import TYPE_CHECKING

from scalselect.failures import NO_SPACE
from scalselect.remote_path import as_remote

if TYPE_CHECKING:
    from pathlib import Path

    from scalselect.process_mark import ProcessMark

BEAT = ".beat"  # in an object store the beats are a file of their own: writing one must not bring a claim back


def create_claim(path: Path, mark: ProcessMark) -> None:
    """Create the file of a claim, which must not be there. Raises OSError."""
    facts = {"process": mark.words, "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
    content = json.dumps(facts).encode()  # for people: whatever decides is in the name
    remote = as_remote(path)
    if remote is not None:
        remote.upload(content)
        return
    while True:
        with contextlib.suppress(FileExistsError):  # not `exist_ok`, which fails where it is removed at this moment
            path.parent.mkdir()
        with contextlib.suppress(FileNotFoundError), path.open("xb", buffering=0) as stream:  # who was last removes it
            try:
                stream.write(content)
            except OSError as error:
                if error.errno not in NO_SPACE:  # without room it is as good a claim
                    path.unlink(missing_ok=True)
                    raise
            return


def remove_claim(path: Path) -> None:
    """Remove the file of a claim, and the folder where it was the last one. Raises OSError."""
    path.unlink(missing_ok=True)
    remote = as_remote(path)
    if remote is not None:
        remote.with_name(remote.name + BEAT).unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):  # others are in it
        path.parent.rmdir()


def beats_by_claim(folder: Path) -> dict[str, object]:
    """Return the names of all claims, each with what changes at its beats, or None where that is still to be asked."""
    remote = as_remote(folder)
    if remote is None:
        try:
            return dict.fromkeys(os.listdir(folder))  # noqa: PTH208  names alone
        except FileNotFoundError:
            return {}
    found = remote.versions()
    return {name: found.get(name + BEAT, ()) for name in found if not name.endswith(BEAT)}


def remove_lone_beats(folder: Path) -> int:
    """Remove beats whose claim is gone; return how many there were. Their process died, or does it itself just now."""
    remote = as_remote(folder)
    if remote is None:
        return 0
    found = remote.versions()
    lone = [name for name in found if name.endswith(BEAT) and name.removesuffix(BEAT) not in found]
    for name in lone:
        (remote / name).unlink(missing_ok=True)
    return len(lone)


def beat_on_disk(path: Path) -> object:
    """Return what changes at each beat of a claim on a disk; None where it is gone."""
    try:
        with path.open("rb") as stream:  # NFS asks the server when a file is opened, and not for facts alone
            return os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None
