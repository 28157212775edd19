"""What `how_to_train.md` of a run tells each trainer, taken from the page itself: what it says is what is tested."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Guide:
    """The page of one run.

    Attributes
    ----------
    blocks
        Title of a section: language and text of each of its code blocks.
    """

    blocks: dict[str, list[tuple[str, str]]]

    @classmethod
    def read(cls, run_dir: Path) -> Guide:
        """Read the page of a run folder."""
        _, *sections = (run_dir / "how_to_train.md").read_text(encoding="utf-8").split("\n## ")
        titled = (section.split("\n", 1) for section in sections)
        return cls({title: _BLOCK.findall(text) for title, text in titled})

    def exports(self, trainer: str) -> list[list[str]]:
        """Return the commands of ours that a section wants to be run first, as words."""
        commands = [shlex.split(text) for language, text in self.blocks[trainer] if language == "bash"]
        return [words for words in commands if words[0] == "scalselect"]

    def llamafactory(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the content of `dataset_info.json` and the options for the training file."""
        (info,) = [json.loads(text) for language, text in self.blocks["LLaMA-Factory"] if language == "json"]
        (options,) = [yaml.safe_load(text) for language, text in self.blocks["LLaMA-Factory"] if language == "yaml"]
        return info, options

    def swift(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the flags of `swift sft`, all but the model, and the variables set before it."""
        words = self._command("ms-swift")
        start = words.index("swift")
        variables = dict(word.split("=", 1) for word in words[:start])
        flags = _flags(words[start + 2 :])
        del flags["model"]
        return flags, variables

    def llava(self) -> dict[str, str]:
        """Return the flags of LLaVA's training script."""
        return _flags(self._command("LLaVA"))

    def trl(self) -> str:
        """Return the Python code that loads the data set."""
        (code,) = [text for language, text in self.blocks["TRL"] if language == "python"]
        return code

    def _command(self, trainer: str) -> list[str]:
        commands = [shlex.split(text) for language, text in self.blocks[trainer] if language == "bash"]
        (words,) = [words for words in commands if words[0] not in {"scalselect", "gunzip"}]
        return words


def _flags(words: list[str]) -> dict[str, str]:
    """Return `--name value` pairs; anything else is no page of ours."""
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise ValueError(f"no flags with one value each: {words}")
    return dict(zip((name.removeprefix("--") for name in names), values, strict=True))
