"""Where a page is written: nothing that is not a page is replaced by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.errors import OptionError
from scalselect.remote_path import path_of

if TYPE_CHECKING:
    from pathlib import Path

_BEGINS = b"<!doctype html>"


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
