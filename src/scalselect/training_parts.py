"""What the sections of `how_to_train.md` have in common: the export they name, folders, and rows that are lost."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scalselect.dataset.order_faults import order_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.training_sets import TrainingSet

UNKNOWN_FOLDER = "IMAGE_FOLDER"
LOCAL_RUN = "LOCAL_RUN_DIR"
_UNREAD = {"tar": "tar archives", "saved": "folders that `save_to_disk` wrote"}


@dataclass(frozen=True, slots=True)
class Notes:
    """What is to be said about one trainer.

    Attributes
    ----------
    trainer
        Its name.
    short
        One line for the summary of a command.
    text
        The section of `how_to_train.md`, Markdown without its title.
    """

    trainer: str
    short: str
    text: str


@dataclass(frozen=True, slots=True)
class Export:
    """Names the command that makes other files of the subset, and those files, which lie on a local disk."""

    run_dir: str
    budget: str | None

    def command(self, to: str, name: str, *options: str) -> str:
        """Return the command that writes the file `name` in a form."""
        budget = ["--budget", self.budget] if self.budget else []
        output = ["--output", self.file(name)] if "://" in self.run_dir else []
        return shlex.join(["scalselect", "export", self.run_dir, "--to", to, *budget, *options, *output])

    def file(self, name: str) -> str:
        """Return where the command writes it."""
        folder = f"exported/{self.budget}" if self.budget else "exported"
        return f"{LOCAL_RUN if '://' in self.run_dir else self.run_dir}/{folder}/{name}"


def unread(sets: Sequence[TrainingSet]) -> list[str]:
    """Return which parts lie in a container that only Hugging Face datasets and webdataset read."""
    return [f"it reads no {_UNREAD[part.container]}" for part in sets if part.container in _UNREAD]


def folders(sets: Sequence[TrainingSet]) -> list[str]:
    """Return what is wrong where image paths start from several folders."""
    found = {part.images for part in sets if part.facts.relative}
    return [f"image paths are relative to {len(found)} folders, and it takes one"] if len(found) > 1 else []


def folder_of(sets: Sequence[TrainingSet]) -> str | None:
    """Return the folder that image paths are relative to; None where none is."""
    return next((part.images or UNKNOWN_FOLDER for part in sets if part.facts.relative), None)


def unpacking(sets: Sequence[TrainingSet]) -> list[str]:
    """Return the lines that unpack files in gzip."""
    packed = [file for part in sets for file in part.files if file.endswith(".gz")]
    if not packed:
        return []
    return ["It reads no .gz files:", "", code("bash", shlex.join(["gunzip", "--keep", *packed])), ""]


def total(sets: Sequence[TrainingSet]) -> int:
    """Return the number of records."""
    return sum(part.facts.rows for part in sets)


def out_of_order(sets: Sequence[TrainingSet], trainer: str) -> Counter[str]:
    """Return how many rows a trainer drops or cuts for the order of their turns, by kind."""
    found: Counter[str] = Counter()
    for part in sets:
        found.update(part.facts.order_faults.get(trainer, {}))
    return found


def told_orders(found: Counter[str]) -> str:
    """Return in words what is out of order."""
    return ", ".join(order_words(kind, rows) for kind, rows in sorted(found.items()))


def with_calls(sets: Sequence[TrainingSet]) -> int:
    """Return the number of records with calls of tools beside the text, which exports leave out."""
    return sum(part.facts.tool_calls for part in sets)


def counted(number: int, word: str) -> str:
    """Return a number with the word in the number that fits."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def code(language: str, text: Any) -> str:
    """Return a block of code, whose fence no line of the text can be taken for."""
    longest = max(map(len, re.findall("`+", str(text))), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
