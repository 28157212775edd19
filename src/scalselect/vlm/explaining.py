"""What the instruction of one sample attends to: the model once more over a sample by itself, its attention kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scalselect.vlm.representation import launch_batch
from scalselect.vlm.token_boxes import boxes_of_tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint
    from scalselect.vlm.representation import Pooling


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExplainedSample:
    """What the representation of one sample was made from; see `scalselect.explanations_file.Explanation`.

    Attributes
    ----------
    attention
        Share of each vision token, summing to 1, float32 [vision].
    kept
        Which of them were averaged, bool [vision].
    image
        Which image each of them shows; -1 where that is not known, int32 [vision].
    boxes
        What part of it, as shares of its width and height; NaN where that is not known, float32 [vision, 4].
    finite
        Neither vector nor attention holds NaN or infinity.
    boxes_unknown
        Why nothing is known of the places, in words; None where they are known.
    """

    attention: NDArray[np.float32]
    kept: NDArray[np.bool_]
    image: NDArray[np.int32]
    boxes: NDArray[np.float32]
    finite: bool
    boxes_unknown: str | None


def explain_sample(checkpoint: Checkpoint, sample: PreparedSample, pooling: Pooling) -> ExplainedSample:
    """Run the model over one sample and return what its instruction attends to.

    It runs alone and shares nothing, so that what is found depends on no other sample.

    Parameters
    ----------
    pooling
        That of the run; its `attention_mass` must not be None, for then the attention has no say.
    """
    (found,) = launch_batch(checkpoint, [sample], replace(pooling, share=True)).collect()
    if found.share is None:
        raise ValueError("every vision token is averaged alike, whatever the instruction attends to")
    places = boxes_of_tokens(checkpoint.first_layer.model.config, checkpoint.preparer, sample)
    return ExplainedSample(
        attention=found.share.astype(np.float32),
        kept=np.isin(sample.vision.numpy(), found.kept),
        image=places.image,
        boxes=places.boxes,
        finite=found.finite,
        boxes_unknown=places.unknown,
    )
