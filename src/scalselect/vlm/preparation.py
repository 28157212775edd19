"""What makes samples ready for a model, without the model: for looking at data before any work starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from scalselect.errors import OptionError
from scalselect.vlm.checkpoint import (
    build_preparer,
    check_processor,
    effective_chat_template,
    load_processor,
    quiet_transformers,
)
from scalselect.vlm.refusals import refuse_unsupported
from scalselect.vlm.settings import is_loaded, load_config, locate, resolve_settings

if TYPE_CHECKING:
    from scalselect.config import RepresentConfig
    from scalselect.vlm.sample_preparer import SamplePreparer


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """What is known of a checkpoint whose weights were not read.

    Attributes
    ----------
    whole
        Prepares samples in their whole length.
    limited
        Prepares them within `max_length`; None where there is no limit.
    hidden_size
        Length of a representation.
    warnings
        Sentences the user should read.
    """

    whole: SamplePreparer
    limited: SamplePreparer | None
    hidden_size: int
    warnings: list[str]

    def begin_in_a_fork(self) -> None:
        """Take one thread in this process, which was forked from the one that loaded the processor.

        The threads of OpenMP do not come along into a fork, and whoever asks for several there waits for ever.
        """
        torch.set_num_threads(1)


def load_preparation(model: Any, config: RepresentConfig, *, processor: Any = None) -> Preparation:
    """Read configuration and processor of a checkpoint, no weights.

    Parameters
    ----------
    model
        Folder or hub name of a checkpoint, or a loaded model (then with its `processor`).

    Raises
    ------
    ModelError
        If the checkpoint is missing, incomplete or not supported.
    OptionError
        If an option cannot have an effect on this checkpoint.
    """
    with quiet_transformers():
        located = locate(model, config)
        if is_loaded(located):
            model_config = located.config
            if processor is None:
                raise OptionError("a loaded model needs its processor as well: pass `processor=AutoProcessor...`")
        else:
            model_config = load_config(located, trusted=config.trust_remote_code)
        warnings = refuse_unsupported(model_config, layer=config.layer)
        if processor is None:
            processor = load_processor(located, trusted=config.trust_remote_code)
        else:
            check_processor(processor, str(model_config.model_type))
        template = effective_chat_template(processor, config.chat_template, family=model_config.model_type)
        pads = resolve_settings(config, located, None).image_fit == "pad"
        whole = replace(config, max_length=None)
        return Preparation(
            whole=build_preparer(processor, model_config, whole, template, pads=pads),
            limited=None
            if config.max_length is None
            else build_preparer(processor, model_config, config, template, pads=pads),
            hidden_size=model_config.get_text_config().hidden_size,
            warnings=warnings,
        )
