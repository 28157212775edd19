"""Load only what the wanted decoder layer needs: vision tower, projector, token embedding, the layers up to it.

transformers materialises the parameters a configuration asks for and leaves the rest of the files unread, so the
checkpoint is loaded under a configuration with few decoder layers, into a class without language-model head.
"""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_MAPPING

from scalselect.errors import ModelError
from scalselect.vlm.attention_capture import ATTENTION_NAME
from scalselect.vlm.remote_code import automatic_class

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def truncated_config(config: Any, *, layer: int = 0, deepstack: str = "exclude") -> Any:
    """Return a copy of a model configuration that keeps decoder layers 0 to `layer` and no unused vision layers."""
    shorter = copy.deepcopy(config)
    text = shorter.get_text_config()
    if getattr(text, "num_kv_shared_layers", None):  # the last layers take keys and values of earlier ones
        text.num_kv_shared_layers = max(0, layer + 1 - (text.num_hidden_layers - text.num_kv_shared_layers))
    text.num_hidden_layers = layer + 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: layer + 1]
    _drop_unread_tower_layers(shorter)
    tower: Any = getattr(shorter, "vision_config", None)
    if getattr(tower, "deepstack_visual_indexes", None):
        # Level i is added after decoder layer i: what comes after the pass has ended needs no merger.
        levels = layer + 1 if deepstack == "include" else layer
        tower.deepstack_visual_indexes = tower.deepstack_visual_indexes[:levels]
    return shorter


def load_truncated(folder: Path, config: Any, *, dtype: torch.dtype, trusted: bool = False, name: str = "") -> Any:
    """Load a model under a truncated configuration, in evaluation mode, on the CPU.

    Parameters
    ----------
    trusted
        Whether code of the checkpoint may be run.
    name
        What to call the checkpoint in messages; default: its folder.

    Raises
    ------
    ModelError
        If the files lack a needed tensor, hold one of another shape, or cannot be read.
    """
    path = name or str(folder)
    try:
        model, loading = automatic_class(config).from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation={"text_config": ATTENTION_NAME},
            key_mapping=names_without_head(config),
            trust_remote_code=trusted,
            output_loading_info=True,
        )
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"model weights are no pickle of tensors alone, and nothing else is unpickled: {path}"
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, ImportError, SafetensorError) as error:
        raise ModelError(f"model weights cannot be loaded: {path} ({_first_line(error)})") from error
    for kind in ("missing_keys", "mismatched_keys", "error_msgs"):
        if loading.get(kind):
            named = ", ".join(sorted(str(key) for key in loading[kind])[:3])
            raise ModelError(f"model weights are incomplete: {path} ({len(loading[kind])} {kind}: {named})")
    return model.eval()


def names_without_head(config: Any) -> dict[str, str] | None:
    """Return how names of stored tensors become those of the model without a head, where transformers cannot tell.

    LightOnOCR's model says that it has no prefix, while its checkpoints, written with the head, have one.
    """
    if type(config) not in MODEL_MAPPING or type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return None  # code of the checkpoint's own
    whole = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    if MODEL_MAPPING[type(config)].base_model_prefix == whole.base_model_prefix:
        return None
    return {rf"^{whole.base_model_prefix}\.": ""}


def unread_tower_layers(config: Any) -> range:
    """Return the last layers of a vision tower whose output nobody reads.

    LLaVA reads its CLIP tower at layer -2: the last layer's output is thrown away. Only CLIP towers are cut, where
    the outputs were compared and found equal.
    """
    layer = getattr(config, "vision_feature_layer", None)
    tower: Any = getattr(config, "vision_config", None)
    if isinstance(layer, int) and layer < -1 and getattr(tower, "model_type", None) == "clip_vision_model":
        return range(tower.num_hidden_layers + layer + 1, tower.num_hidden_layers)
    return range(0)


def _drop_unread_tower_layers(config: Any) -> None:
    tower: Any = getattr(config, "vision_config", None)
    unread = unread_tower_layers(config)
    if unread:
        tower.num_hidden_layers = unread.start
        config.vision_feature_layer = -1


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
