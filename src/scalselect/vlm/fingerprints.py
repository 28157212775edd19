"""Hashes that tell whether a checkpoint is the one a run began with."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

from scalselect.vlm.first_layer import decoder_of
from scalselect.vlm.truncation import unread_tower_layers

if TYPE_CHECKING:
    from collections.abc import Iterator


def fingerprint(config: Any, processor: Any, template: str, model: Any, *, layer: int = 0) -> dict[str, str]:
    """Return hashes of everything of a checkpoint that determines representations.

    Parameters
    ----------
    config
        The configuration as stored, before truncation.
    template
        Text of the chat template that is used.
    model
        The loaded model; of its parameters those up to decoder layer `layer` count.
    """
    facts = _without(config.to_dict(), {"transformers_version", "_name_or_path", "dtype", "torch_dtype"})
    image_processor = processor.image_processor
    pictures = {"class": type(image_processor).__name__, **image_processor.to_dict()}
    tokenizer = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    for changed_by_use in ("padding", "truncation"):
        tokenizer.pop(changed_by_use, None)
    own = {name: value for name, value in vars(processor).items() if isinstance(value, (bool, int, float, str))}
    own.pop("chat_template", None)  # hashed by itself
    return {
        "config": _hash_json(facts),
        "processor": _hash_json([type(processor).__name__, own, pictures, tokenizer]),
        "chat_template": hashlib.sha256(template.encode()).hexdigest(),
        "weights": _hash_weights(model, layer),
    }


def _without(facts: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Leave out, at any depth, what loading writes into a configuration: the number type is a key of its own."""
    return {
        name: _without(value, names) if isinstance(value, dict) else value
        for name, value in facts.items()
        if name not in names
    }


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _hash_weights(model: Any, layer: int) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(needed_parameters(model, layer), key=lambda pair: pair[0]):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def needed_parameters(model: Any, layer: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters, and stored buffers, up to a decoder layer; a fully loaded model has more."""
    decoder = decoder_of(model)
    later = (
        [decoder.norm, *list(decoder.layers)[layer + 1 :]]
        if hasattr(decoder, "norm")
        else list(decoder.layers)[layer + 1 :]
    )
    for module in (model, model.get_decoder()):
        if getattr(module, "lm_head", None) is not None:
            later.append(module.lm_head)
    unread = {id(tensor) for module in later for tensor in [*module.parameters(), *module.buffers()]}
    unread -= {id(parameter) for parameter in model.get_input_embeddings().parameters()}  # a tied output layer
    tower = unread_tower_layers(model.config)
    stored = model.state_dict().keys()
    # Gemma 4 multiplies the output of each layer by a number that is no parameter.
    buffers = [(name, buffer) for name, buffer in model.named_buffers() if name in stored]
    for full_name, parameter in [*model.named_parameters(), *buffers]:
        name = full_name.removeprefix("model.")
        in_unread_tower = any(f"encoder.layers.{layer}." in name for layer in tower) and name.startswith(
            "vision_tower."
        )
        if id(parameter) not in unread and not in_unread_tower:
            yield name, parameter
