"""Claims: of several processes that want to do the same thing in a folder, on one machine or many, one at a time does.

A claim is a file below the folder, named after what is claimed and after its owner: host, process, and when that
process began (`scalselect.process_mark`). Nobody but its owner ever creates it, and no name is used twice. Its owner
gives a sign of life, a *beat*, every few seconds, and removes the file at the end. To take a claim:

1. List the claims of that kind. Where one lives, wait.
2. Create a file of one's own.
3. List again. Where another one lives, remove one's own, wait for a short random time, and begin again.
4. Remove those that do not live. Now it is held.

Two never hold it at once: whoever creates its file later sees the earlier one in step 3, or the earlier one was
removed. This asks of the folder only that a listing shows what was created before it began: disks do, NFS does for
whoever has just created a file there, and so do S3 and Google Cloud Storage. No clocks are compared and no locks are
needed. Two that take over the same dead claim see one another's new files; as nothing is ever written under a name
that somebody else may use, a late removal cannot hit the wrong one.

A claim does not live where its process is dead. That is known at once on the same host (since the same boot, in the
same container), where a living process is never taken for a dead one however long it stands still. Elsewhere it is
dead once this process has watched it for a minute of its own clock without seeing a beat. Such an owner may have been
suspended rather than dead: it finds its file gone (`Claim.check`, before whatever it publishes) and stops.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from scalselect.claim_files import BEAT, beat_on_disk, beats_by_claim, create_claim, remove_claim, remove_lone_beats
from scalselect.errors import WorkError
from scalselect.process_mark import ProcessMark, mark_of, new_mark
from scalselect.remote_path import as_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEAT_SECONDS = 5.0  # between signs of life
PATIENCE_SECONDS = 60.0  # watched without a beat, a process elsewhere counts as dead
_POLL_SECONDS = 0.25  # between two looks at a claim on a disk
_REMOTE_POLL_SECONDS = 2.0  # and in an object store
_SHORT_PAUSE, _LONG_PAUSE = 0.01, 2.0  # seconds, of those who met in step 3
_SEPARATOR = "@"
_given_up: set[str] = set()  # names of claims that this process released; where the disk refused that, they are dead


class Claim:
    """A claim that this process holds, until it is released or taken away; made by `Claims.take`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = os.getpid()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_released, name="claim", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def check(self) -> None:
        """Make sure that it is still held.

        Raises
        ------
        WorkError
            Another process took it away, having waited for a sign of life.
        """
        try:
            self._touch()
        except FileNotFoundError:
            raise WorkError(
                f"another process has taken over from this one, of which it saw no sign of life for "
                f"{PATIENCE_SECONDS:.0f} seconds: {self._path} is gone; nothing more is written here, and the same "
                "command shows how far the other one came"
            ) from None

    def release(self) -> None:
        """Let others have it. Does nothing in a process that was forked from the one that holds it."""
        if os.getpid() != self._process:
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(BEAT_SECONDS)
        _given_up.add(self._path.name)
        remove_claim(self._path)
        _given_up.discard(self._path.name)

    def begin_to_beat(self) -> None:
        """Start the thread that gives signs of life."""
        self._thread.start()

    def _touch(self) -> None:
        """Give a sign of life. Raises FileNotFoundError where the claim is gone."""
        remote = as_remote(self._path)
        if remote is None:
            os.utime(self._path)  # fails where the file is gone, and does not bring it back
            return
        if not remote.exists():
            raise FileNotFoundError
        remote.with_name(remote.name + BEAT).upload(str(time.monotonic_ns()).encode())

    def _beat_until_released(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._touch()
            except FileNotFoundError:  # `check` will say so
                return
            except OSError:
                continue  # the next one may get through


@dataclass(slots=True)
class _Watched:
    """What was seen of a claim elsewhere: its last beat, for how long there was none, and whether there ever was."""

    beat: object
    at: float
    seconds: float = 0.0
    has_beaten: bool = False


class Claims:
    """The claims below one folder.

    Parameters
    ----------
    folder
        Local or remote; there only while something is claimed. The folder above must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._watched: dict[str, _Watched] = {}

    @contextlib.contextmanager
    def held(self, kind: str, on_wait: Callable[[str], None] = lambda _holder: None) -> Iterator[Claim]:
        """Wait for a claim and hold it while the block runs.

        Parameters
        ----------
        kind
            What is claimed; a word that can be in a file's name.
        on_wait
            Called once, with the holder as `host, process 123`, before waiting for somebody else.

        Raises
        ------
        OSError
            The folder cannot be written.
        """
        told = False
        while not isinstance(claim := self.take(kind), Claim):
            if not told:
                on_wait(claim.words)
                told = True
            self.pause()
        with claim:
            yield claim

    def take(self, kind: str) -> Claim | ProcessMark:
        """Return a claim that is held from now on, or whoever holds it. Raises OSError."""
        pause = _SHORT_PAUSE
        while True:
            holder, _ = self._look(kind)
            if holder is not None:
                return holder
            began = time.monotonic()
            mark = new_mark()
            path = self.folder / f"{kind}{_SEPARATOR}{mark}"
            claim = Claim(path)
            try:
                create_claim(path, mark)
                other, dead = self._look(kind, without=path.name)
                if other is None:
                    for name in dead:
                        remove_claim(self.folder / name)
                    claim.begin_to_beat()
                    return claim
            except BaseException:
                claim.release()
                raise
            claim.release()
            pause = min(max(2 * pause, time.monotonic() - began), _LONG_PAUSE)
            time.sleep(random.uniform(0, pause))  # noqa: S311  nobody is to be kept from guessing it

    def take_or_refuse(self, kind: str) -> Claim | ProcessMark:
        """Return a claim that is held from now on, or whoever holds it and is known to live. Raises OSError.

        Of a process elsewhere that is known after its next beat, or the lack of one.
        """
        while True:
            claim = self.take(kind)
            if isinstance(claim, Claim) or claim.is_certain:
                return claim
            watched = self._watched.get(f"{kind}{_SEPARATOR}{claim}")
            if watched is not None and watched.has_beaten:
                return claim
            self.pause()

    def living(self, kind: str) -> int:
        """Return how many claims there are whose kind begins so, without those of processes known to be dead."""
        marks = (
            mark_of(name.rpartition(_SEPARATOR)[2]) for name in beats_by_claim(self.folder) if name.startswith(kind)
        )
        return sum(mark is not None and not mark.is_dead for mark in marks)

    def pause(self) -> None:
        """Wait a little before the next look at a claim."""
        seconds = _POLL_SECONDS if as_remote(self.folder) is None else _REMOTE_POLL_SECONDS
        time.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311

    def remove(self, kind: str) -> None:
        """Remove all claims of a kind, whoever holds them: what was claimed is done."""
        for name in beats_by_claim(self.folder):
            if name.startswith(kind + _SEPARATOR):
                remove_claim(self.folder / name)

    def remove_dead(self) -> int:
        """Remove the claims of processes that are known to be dead; return how many files that were."""
        dead = remove_lone_beats(self.folder)
        for name in beats_by_claim(self.folder):
            mark = mark_of(name.rpartition(_SEPARATOR)[2])
            if mark is not None and (mark.is_dead or name in _given_up):
                remove_claim(self.folder / name)
                dead += 1
        return dead

    def _look(self, kind: str, without: str = "") -> tuple[ProcessMark | None, list[str]]:
        """Return one that lives, if there is one, and the names of those that do not."""
        living, dead = None, []
        for name, beat in beats_by_claim(self.folder).items():
            mark = mark_of(name.removeprefix(kind + _SEPARATOR)) if name.startswith(kind + _SEPARATOR) else None
            if mark is None or name == without:
                continue
            if name in _given_up or mark.is_dead or (not mark.is_certain and self._is_silent(name, beat)):
                dead.append(name)
            else:
                living = mark
        return living, dead

    def _is_silent(self, name: str, beat: object) -> bool:
        """Tell whether a claim elsewhere was watched for long enough without a beat.

        Time in which nobody looked does not count: this process may have been suspended together with the other one.
        """
        if beat is None:
            beat = beat_on_disk(self.folder / name)
        now = time.monotonic()
        watched = self._watched.get(name)
        if watched is None:
            self._watched[name] = _Watched(beat, now)
            return False
        if watched.beat != beat:
            self._watched[name] = _Watched(beat, now, has_beaten=True)
            return False
        watched.seconds += min(now - watched.at, 2 * _REMOTE_POLL_SECONDS)
        watched.at = now
        return watched.seconds >= PATIENCE_SECONDS
