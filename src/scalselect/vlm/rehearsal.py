"""Represent one made-up sample before any work starts, so that a model that cannot be read is refused at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from scalselect.errors import ModelError, OptionError, SampleError
from scalselect.records import ImagePart, ImageReference, Reason, RowIdentity, Sample, TextPart, Turn
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.shared_prefixes import prefix_can_be_shared

if TYPE_CHECKING:
    from torch import Tensor

    from scalselect.config import RepresentConfig
    from scalselect.vlm.checkpoint import Checkpoint


def rehearse(checkpoint: Checkpoint, config: RepresentConfig) -> bool:
    """Run two questions about a made-up picture through processor, template and first layer.

    Returns
    -------
    bool
        Whether samples that begin alike may be run from where they part: it was tried, and came to the same.

    Raises
    ------
    OptionError
        If the length limit leaves no room for a plain question.
    ModelError
        If template, processor and model do not work together: the cause in words.
    """
    samples = [_question(row, text) for row, text in enumerate(["What colour is this?", "Is it getting brighter?"])]
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize((224, 224))] * 3)
    try:
        prepared, other = (checkpoint.preparer.prepare(sample, [picture], ["picture"]) for sample in samples)
        represented, _ = represent_samples(checkpoint, [prepared], Pooling(attention_mass=0.5))
    except SampleError as error:
        if error.reason == Reason.TOO_LONG:
            raise OptionError(
                f"max_length leaves no room for a plain question on one picture: {config.max_length} ({error.detail})"
            ) from error
        raise ModelError(f"the checkpoint cannot take a plain question about one picture: {error.detail}") from error
    except (TypeError, AttributeError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise ModelError(
            f"the checkpoint cannot take a plain question about one picture: {type(error).__name__}: {reason}"
        ) from error
    if checkpoint.reads_instruction and len(prepared.instruction) == 0:
        raise ModelError("no instruction token was found in a plain question: the chat template drops user texts")
    if represented[0].uniform and represented[0].finite and _comes_after(prepared.instruction, prepared.vision):
        raise ModelError("the instruction pays no attention to the image in this decoder layer")
    return config.image_reuse == "on" and config.layer == 0 and prefix_can_be_shared(checkpoint, prepared, other)


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
