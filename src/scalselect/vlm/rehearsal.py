"""Represent made-up samples before any work starts: a model that cannot be read is refused at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from scalselect.errors import ModelError, OptionError, SampleError
from scalselect.records import ImagePart, ImageReference, Reason, RowIdentity, Sample, TextPart, Turn
from scalselect.vlm.batch_independence import frequencies_depend_on_length, rows_are_independent
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.shared_prefixes import prefix_can_be_shared
from scalselect.vlm.time_limit import time_limit

if TYPE_CHECKING:
    from torch import Tensor

    from scalselect.config import RepresentConfig
    from scalselect.vlm.checkpoint import Checkpoint

_SECONDS = 120
_FOR = "for a plain question about one picture"


def rehearse(checkpoint: Checkpoint, config: RepresentConfig) -> Checkpoint:
    """Run made-up questions about made-up pictures through processor, template and first layer.

    Returns
    -------
    Checkpoint
        The same, with the knowledge whether its samples may share a batch, and whether those that begin alike may be
        run from where they part.

    Raises
    ------
    OptionError
        If the length limit leaves no room for a plain question.
    ModelError
        If template, processor and model do not work together: the cause in words.
    """
    first, second = _question(0, "What colour is this?"), _question(1, "Is it getting brighter?")
    shades = Image.linear_gradient("L"), Image.radial_gradient("L")
    picture, other = (Image.merge("RGB", [shade.resize((224, 224))] * 3) for shade in shades)
    prepare = checkpoint.preparer.prepare
    try:
        with time_limit(
            _SECONDS, f"the checkpoint's chat template or processor takes more than {_SECONDS} seconds {_FOR}"
        ):
            prepared, elsewhere = prepare(first, [picture], ["picture"]), prepare(first, [other], ["other"])
        follower = prepare(second, [picture], ["picture"])
        represented, _ = represent_samples(checkpoint, [prepared], Pooling(attention_mass=0.5))
        independent = rows_are_independent(checkpoint, elsewhere, prepared)
    except SampleError as error:
        if error.reason == Reason.TOO_LONG:
            raise OptionError(
                f"max_length leaves no room for a plain question on one picture: {config.max_length} ({error.detail})"
            ) from error
        raise ModelError(f"the checkpoint cannot take a plain question about one picture: {error.detail}") from error
    except (TypeError, AttributeError, LookupError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise ModelError(
            f"the checkpoint cannot take a plain question about one picture: {type(error).__name__}: {reason}"
        ) from error
    if checkpoint.reads_instruction and len(prepared.instruction) == 0:
        raise ModelError(
            "no instruction token was found in a plain question: the tokenizer keeps nothing of the user's text"
        )
    if represented[0].uniform and represented[0].finite and _comes_after(prepared.instruction, prepared.vision):
        raise ModelError("the instruction pays no attention to the image in this decoder layer")
    model = checkpoint.first_layer.model
    shares = config.image_reuse == "on" and config.layer == 0 and not frequencies_depend_on_length(model.config)
    shares = shares and prefix_can_be_shared(checkpoint, prepared, follower)
    return replace(checkpoint, batches=independent, shares_prefixes=shares)


def _question(row: int, text: str) -> Sample:
    return Sample(
        identity=RowIdentity(row, "rehearsal", None, "absent"),
        turns=(Turn("user", (ImagePart(0), TextPart(text))), Turn("assistant", (TextPart("It is gray."),))),
        images=(ImageReference("", ""),),
        images_in_front=False,
        text_sha256="",
    )


def _comes_after(instruction: Tensor, vision: Tensor) -> bool:
    return len(instruction) > 0 and int(instruction.max()) > int(vision.min())
