"""Where a page is written: nothing that is not a page is replaced by one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from scalselect.errors import OptionError
from scalselect.leftovers import remove_leftovers, remove_leftovers_beside
from scalselect.progress import on_wait, say_removed
from scalselect.remote_path import path_of
from scalselect.storage import publish_bytes
from scalselect.temporary_places import removed_places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scalselect.progress import Progress
    from scalselect.run_folder import RunFolder

_BEGINS = b"<!doctype html>"


def write_page(
    folder: RunFolder, output: str | Path | None, default: Path, page: Callable[[], bytes], progress: Progress
) -> Path:
    """Write a page of a run where a call wants it, and return its path; left-over files there are removed first.

    Parameters
    ----------
    output
        See `report_place`; None for `default`, a file of the run folder, which is then claimed.
    page
        Returns the content.

    Raises
    ------
    OptionError
        See `report_place`.
    """
    path = default if output is None else report_place(output)
    with folder.claimed(on_wait(progress)) if output is None else contextlib.nullcontext():
        left = remove_leftovers(folder.path) if output is None else remove_leftovers_beside(path)
        say_removed(progress, here=left, temporary=removed_places())
        content = page()
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_bytes(path, content)
    return path


def report_place(output: str | Path) -> Path:
    """Return the path of a page that a call names.

    Raises
    ------
    OptionError
        A folder is there, or a file that is no page: most likely a slip, and it would be gone.
    """
    path = path_of(output)
    if path.is_dir():
        raise OptionError(f"output is a folder: {path} (give the file to write, such as {path / 'report.html'})")
    try:
        with path.open("rb") as stream:
            begin = stream.read(len(_BEGINS))
    except FileNotFoundError:
        return path
    except OSError as error:
        raise OptionError(f"output cannot be written: {path} ({error.strerror})") from error
    if begin and begin.lower() != _BEGINS:
        raise OptionError(f"output is a file that is no page, and would be lost: {path} (give another name)")
    return path
