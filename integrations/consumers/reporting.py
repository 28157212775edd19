"""What all consumers print: one JSON line for each file, telling what became of its rows.

These scripts run in the environments of the trainers, so they import nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

Result = dict[str, Any]
MARK = "consumer-result "  # trainers print to stdout as well; a line that begins so is ours


def report_each(consumer: str, packages: tuple[str, ...], consume: Callable[[dict[str, Any]], Result]) -> None:
    """Call `consume` for each entry of the job file named on the command line, and print what it returns.

    Parameters
    ----------
    consumer
        Name printed with each line.
    packages
        Distributions whose versions are printed.
    consume
        Takes an entry, returns `rows_in`, `rows_kept`, `ids`, `texts`, `images` and `losses`, what it cannot tell as
        None. What it raises is printed as `error`: a consumer that refuses a file is a finding, not an accident.
    """
    versions = {name: version(name) for name in packages}
    for entry in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        result: Result = {"consumer": consumer, "versions": versions, "name": entry["name"], "error": None}
        try:
            result |= consume(entry)
        except Exception as error:  # noqa: BLE001  whatever a consumer raises is what is to be told
            result["error"] = f"{type(error).__name__}: {error}"
        print(f"\n{MARK}{json.dumps(result)}", flush=True)


def pixels_of(image: Image.Image | bytes | str | dict[str, Any]) -> str:
    """Return a digest of the size and the RGB pixels of a picture, given as one, as bytes, as a path or as a struct."""
    if isinstance(image, dict):
        image = image["bytes"] if image.get("bytes") is not None else image["path"]
    if isinstance(image, bytes):
        image = Image.open(BytesIO(image))
    elif isinstance(image, str):
        image = Image.open(image)
    rgb = image.convert("RGB")
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()[:16]
