"""The three passes that are compared: all layers, this package's, and the least that could be run; and their FLOPs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForImageTextToText

from scalselect.vlm.settings import load_config
from scalselect.vlm.truncation import load_truncated, truncated_config

sys.path[1:1] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("examples", "tests")]
from direct_reference import ReferenceRow  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalselect.vlm.batches import PreparedSample

ATTENTION_MASS = 0.9


def load_whole(folder: Path) -> Any:
    """Load the whole model as it is usually loaded to read its attention."""
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def load_first_layer(folder: Path) -> Any:
    """Load the model up to its first decoder layer, as the package does."""
    config = truncated_config(load_config(folder))
    return load_truncated(folder, config, dtype=torch.float32)


def load_limit(folder: Path) -> Any:
    """Load the same truncated model with plain SDPA in every part, nothing of the package in its way."""
    config = truncated_config(load_config(folder))
    model = AutoModel.from_pretrained(folder, config=config, attn_implementation="sdpa", dtype=torch.float32)
    return model.eval()


@torch.inference_mode()
def whole_pass(model: Any, sample: PreparedSample) -> ReferenceRow:
    """Run all layers, keep all outputs, then read the method's attention rows and average."""
    output = model(**sample.inputs, output_attentions=True, output_hidden_states=True, use_cache=False)
    A = output.attentions[0][0].mean(dim=0)  # [sequence, sequence]
    a = A[sample.instruction][:, sample.vision].mean(dim=0).double()  # [vision]
    p = a / a.sum()
    ranked, order = torch.sort(p, descending=True, stable=True)
    count = int((torch.cumsum(ranked, 0) <= ATTENTION_MASS).sum()) + 1
    kept = torch.sort(order[:count]).values
    H = output.hidden_states[1][0][sample.vision]  # [vision, hidden]
    return ReferenceRow(
        input_ids=sample.inputs["input_ids"][0].numpy(),
        vision_positions=sample.vision.numpy(),
        instruction_positions=sample.instruction.numpy(),
        attention=a.numpy(),
        share=p.numpy(),
        hidden=H.double().numpy(),
        kept=sample.vision[kept].numpy(),
        vector=H[kept].mean(dim=0).double().numpy(),
        uniform=False,
        attention_mass=ATTENTION_MASS,
    )


@torch.inference_mode()
def limit_pass(model: Any, sample: PreparedSample) -> Tensor:
    """Run vision tower, projector and one decoder layer by hand; return its output [1, sequence, hidden].

    No attention is read and nothing is averaged. The sample is alone and not padded, so the causal mask is SDPA's own.
    """
    ids = sample.inputs["input_ids"]
    images = {name: sample.inputs[name] for name in ("pixel_values", "image_grid_thw") if name in sample.inputs}
    features = torch.cat(list(model.get_image_features(**images, return_dict=True).pooler_output))  # [vision, hidden]
    embedded = model.get_input_embeddings()(ids)  # [1, sequence, hidden]
    embedded = embedded.masked_scatter((ids == model.config.image_token_id)[..., None], features)
    if "image_grid_thw" in images:  # a position of time, height and width for every token
        kinds = sample.inputs["mm_token_type_ids"]
        positions, _ = model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=images["image_grid_thw"])
    else:
        positions = torch.arange(ids.shape[1])[None]
    decoder = model.get_decoder()
    rotation = decoder.rotary_emb(embedded, positions)
    output = decoder.layers[0](embedded, attention_mask=None, position_embeddings=rotation, use_cache=False)
    return output[0] if isinstance(output, tuple) else output


def counted_flops(run: Callable[[], object]) -> int:
    """Return the floating-point operations of the matrix products and convolutions that `run` makes.

    torch's counter: two operations a multiplication with its addition. Softmax, norms, activations and rotations
    count nothing, and the half of the attention products that a causal mask hides counts like the other half. The
    counter does not know SDPA's fused CPU kernel, so attention is run as plain products here.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
