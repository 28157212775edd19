"""Image references that lead to devices, pipes, sockets and the kernel: a reason at once, and nothing is opened."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from scalselect import local_images
from scalselect.errors import SampleError
from scalselect.image_files import image_exists, open_image


def saved(folder, name="a.png"):
    Image.new("RGB", (6, 4), "red").save(folder / name)
    return folder / name


def failure(path, **options):
    with pytest.raises(SampleError) as caught:
        open_image(str(path), **options)
    return caught.value


@pytest.fixture
def nothing_opens(monkeypatch):
    """Fail where anything is opened with `os.open`, the only way that images are."""

    def never(path, *_flags):
        raise AssertionError(f"opened: {path}")

    monkeypatch.setattr(local_images.os, "open", never)


@pytest.mark.usefixtures("nothing_opens")
@pytest.mark.parametrize(
    "path",
    [
        "/dev/zero",
        "/dev/stdin",
        "/dev/fd/0",
        "/dev/tty",
        "/proc/self/status",
        "//proc/self/status",
        "/./proc//self/status",
        "/proc/kmsg",
        "/proc/self/root/{folder}/a.png",
        "/proc/self/cwd/a.png",
        "/proc/../{folder}/a.png",
        "{folder}/{up}/proc/self/environ",
        "/sys/kernel/notes",
        "{folder}/link-to-kernel",
        "{folder}/proc/self/status",
        "{folder}/pipe",
        "{folder}/link-to-pipe",
        "{folder}/socket",
        "{folder}",
    ],
)
def test_what_is_no_plain_file_is_never_opened(tmp_path, path):
    saved(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link-to-pipe").symlink_to("pipe")
    (tmp_path / "link-to-kernel").symlink_to("/proc/self/status")
    (tmp_path / "proc").symlink_to("/proc")
    with socket.socket(socket.AF_UNIX) as listener, pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path)  # names of sockets must be short
        listener.bind("socket")
    up = "/".join([".."] * len(tmp_path.parts))
    where = path.format(folder=tmp_path, up=up)
    began = time.process_time()
    assert failure(where).reason == "image_unreadable"
    with pytest.raises(SampleError, match=r"kernel|no regular file|a folder"):
        image_exists(where)
    assert time.process_time() - began < 2


def test_paths_that_lead_to_plain_files_are_followed(tmp_path, monkeypatch):
    content = saved(tmp_path).read_bytes()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/../a.png")
    (tmp_path / "sub" / "up").symlink_to("..")
    (tmp_path / "absolute").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "sub")
    for path in ("link", "./link", "absolute/a.png", "sub//up/link", "sub/up/absolute/sub/../a.png", "../{}/a.png"):
        where = f"{tmp_path}/{path}".format(tmp_path.name)
        assert local_images.read_local_image(where) == content
        assert image_exists(where)
    assert local_images.read_local_image("../a.png") == content
    for path in ("a.png/", "a.png/.", "a.png/../a.png", "none/../a.png", "link/"):
        assert failure(f"{tmp_path}/{path}").reason == "image_missing"
        assert not image_exists(f"{tmp_path}/{path}")


@pytest.mark.parametrize("what", ["pipe", "socket", "link", "folder"])
def test_file_exchanged_between_look_and_opening_is_not_read(tmp_path, monkeypatch, what):
    path = saved(tmp_path)
    look = local_images._checked_place

    def exchange(name, within):
        place = look(name, within)
        path.unlink()
        if what == "pipe":
            os.mkfifo(path)
        elif what == "socket":
            monkeypatch.chdir(tmp_path)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path.name)
        elif what == "link":
            path.symlink_to("/etc/hostname")
        else:
            path.mkdir()
        return place

    monkeypatch.setattr(local_images, "_checked_place", exchange)
    began = time.process_time()
    assert failure(path).reason in ("image_unreadable", "image_missing")
    assert time.process_time() - began < 2


def test_file_system_of_the_kernel_is_known_wherever_it_is_mounted(tmp_path):
    script = (
        "import sys; from scalselect.image_files import open_image; from scalselect.errors import SampleError\n"
        "for path in sys.argv[1:]:\n"
        "    try: open_image(path)\n"
        "    except SampleError as error: print(error.reason, error.detail)\n"
    )
    (tmp_path / "bound").mkdir()
    (tmp_path / "mounted").mkdir()
    names = [f"{tmp_path}/bound/version", f"{tmp_path}/mounted/version"]
    mounts = f"mount --bind /proc {tmp_path}/bound; mount -t proc proc {tmp_path}/mounted || mount --bind /proc $_; "
    run = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c"]
    words = [*run, mounts.replace("$_", f"{tmp_path}/mounted") + 'exec "$0" -c "$@"', sys.executable, script, *names]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr[-200:]}")
    assert done.stdout.splitlines() == ["image_unreadable a file of the kernel"] * 2


def test_file_without_end_is_too_large(tmp_path, monkeypatch):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(10 << 40)
    began = time.process_time()
    told = failure(path)
    assert (told.reason, "1,073,741,824 bytes" in told.detail) == ("image_too_large", True)
    assert time.process_time() - began < 2
    monkeypatch.setattr(local_images, "MAX_BYTES", 1 << 20)
    growing = tmp_path / "growing.png"
    growing.write_bytes(bytes(1000))
    read = os.read

    def grows(descriptor, size):
        with growing.open("ab") as file:
            file.write(bytes(300_000))
        return read(descriptor, size)

    monkeypatch.setattr(local_images.os, "read", grows)
    assert failure(growing).reason == "image_too_large"
    assert growing.stat().st_size < 4 << 20  # it was left when the limit was reached


def test_only_one_place_opens_images():
    folder = Path(local_images.__file__).parent
    opening = re.compile(r"Image\.open\((?!io\.BytesIO)")
    assert [path.name for path in folder.rglob("*.py") if opening.search(path.read_text())] == []
