"""Hashes that tell whether a checkpoint is the one a run began with."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def fingerprint(config: Any, processor: Any, template: str, model: Any) -> dict[str, str]:
    """Return hashes of everything of a checkpoint that determines representations.

    Parameters
    ----------
    config
        The configuration as stored, before truncation.
    template
        Text of the chat template that is used.
    model
        The loaded model; of its parameters those up to decoder layer 0 count.
    """
    facts = config.to_dict()
    for changing in ("transformers_version", "_name_or_path"):
        facts.pop(changing, None)
    image_processor = processor.image_processor
    pictures = {"class": type(image_processor).__name__, **image_processor.to_dict()}
    tokenizer = processor.tokenizer.backend_tokenizer.to_str()
    return {
        "config": _hash_json(facts),
        "processor": _hash_json([type(processor).__name__, pictures, tokenizer]),
        "chat_template": hashlib.sha256(template.encode()).hexdigest(),
        "weights": _hash_weights(model),
    }


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _hash_weights(model: Any) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(needed_parameters(model), key=lambda pair: pair[0]):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def needed_parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters up to decoder layer 0; a fully loaded model has more."""
    decoder = model.get_decoder()
    later = [decoder.norm, *list(decoder.layers)[1:]] if hasattr(decoder, "norm") else list(decoder.layers)[1:]
    if getattr(model, "lm_head", None) is not None:
        later.append(model.lm_head)
    unread = {id(parameter) for module in later for parameter in module.parameters()}
    unread -= {id(parameter) for parameter in model.get_input_embeddings().parameters()}  # a tied output layer
    for name, parameter in model.named_parameters():
        if id(parameter) not in unread:
            yield name.removeprefix("model."), parameter
