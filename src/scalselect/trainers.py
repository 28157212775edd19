"""Facts about the four trainers that read a subset: how each shows a record to its model, as options of this package.

Found by running LLaMA-Factory, ms-swift, TRL and LLaVA with their own loaders, at the versions named.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

TrainerName = Literal["llava", "llamafactory", "ms-swift", "trl"]

_VICUNA = 'Vicuna\'s prompt, with the system prompt "A chat between a curious user and ..."'
_OWN_TEMPLATE = "the checkpoint's own is used here, `--chat-template vicuna` gives Vicuna's"
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Trainer:
    """One trainer, at the version that was looked at.

    Attributes
    ----------
    title, version
        For people.
    options
        Fields of `RepresentConfig` that show a record as this trainer does.
    template
        Which chat template it trains with, and what that adds.
    """

    title: str
    version: str
    options: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""


TRAINERS: dict[str, Trainer] = {
    "llava": Trainer(
        "LLaVA",
        "1.2.2",
        {
            "image_fit": "pad",
            "exif": "ignore",
            "alpha": "drop",
            "image_position": "turn-start",
            "chat_template": "vicuna",
            "max_length": 2048,
        },
        f"{_VICUNA}; a system turn of a record is refused there",
    ),
    "llamafactory": Trainer(
        "LLaMA-Factory",
        "0.9.5",
        {
            "image_fit": "processor",
            "exif": "ignore",
            "alpha": "drop",
            "image_resize": "before",
            "image_min_pixels": 32 * 32,
            "image_max_pixels": 768 * 768,
            "image_position": "record",
            "max_length": 2048,
        },
        f"the one that its option `template` names, of which `llava` is {_VICUNA}; {_OWN_TEMPLATE}",
    ),
    "ms-swift": Trainer(
        "ms-swift",
        "4.6.0",
        {"image_fit": "processor", "exif": "ignore", "alpha": "drop", "image_position": "record"},
        f"the one that it keeps for the model's type, for LLaVA-1.5 {_VICUNA}; {_OWN_TEMPLATE}",
    ),
    "trl": Trainer(
        "TRL",
        "1.16.0",
        {
            "image_fit": "processor",
            "exif": "apply",
            "alpha": "white",
            "image_position": "record",
            "max_length": 1024,
        },
        "the checkpoint's own, as here, unless it is given another one; it adds no system prompt beside that",
    ),
}


def preset(name: object) -> dict[str, Any]:
    """Return the options that a trainer's name stands for; none for a name that is no trainer's."""
    return dict(TRAINERS[name].options) if isinstance(name, str) and name in TRAINERS else {}


def from_preset(name: object, values: Mapping[str, Any]) -> str:
    """Return in words, to stand behind a message, which of `values` are what a trainer's name sets; or nothing."""
    own = preset(name)
    told = [f"{option} {value}" for option, value in values.items() if option in own and own[option] == value]
    return f" ({' and '.join(told)} from like `{name}`: give it as well)" if told else ""


def overridden(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the trainer does where `values`, the options of a run, say something else: option to its value."""
    own = TRAINERS[name].options
    return {option: value for option, value in own.items() if option in values and values[option] != value}


def preset_lines(name: str, values: Mapping[str, Any]) -> list[str]:
    """Return in words, a line each, what a trainer's name set and what single options changed.

    Parameters
    ----------
    values
        The options as they will be used: fields of `RepresentConfig`, or the keys of a run.
    """
    trainer = TRAINERS[name]
    changed = overridden(name, values)
    lines = [f"pictures and texts as {trainer.title} {trainer.version} shows them (--like {name}):"]
    for option, value in trainer.options.items():
        used = values.get(option, value)
        told = "none" if used is None else used
        instead = f" (given; {trainer.title}: {value})" if option in changed else ""
        lines.append(f"  --{option.replace('_', '-')} {told}{instead}")
    template = f"chat template of {trainer.title}: {trainer.template}"
    return [*lines, *textwrap.wrap(template, _WIDTH, initial_indent="  ", subsequent_indent="    ")]
