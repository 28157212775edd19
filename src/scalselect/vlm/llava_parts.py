"""The three parts of a LLaVA-1.5 checkpoint as their projects publish them: opened, and checked against each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPVisionModel, LlamaForCausalLM

from scalselect.errors import ModelError, OptionError, did_you_mean
from scalselect.vlm.settings import load_config
from scalselect.vlm.stored_tensors import StoredTensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Shape = tuple[int, ...]

ADDED_ROWS = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")  # one row a token

_DECODER_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_RECOMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")  # older files hold what the model works out itself
_CLIP_TEXT_SIDE = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
_PROJECTOR_LAYERS = {"0": "linear_1", "2": "linear_2"}
_PROJECTOR_MARK = "mm_projector."


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Part:
    """One part, checked.

    Attributes
    ----------
    config
        Its configuration, with as many decoder layers as are kept; None for the projector.
    companion
        The tokenizer of the language model, the image processor of the vision tower.
    stored
        Its files.
    tensors
        Name in the composed checkpoint to name in the files.
    dtype
        Number type of its first tensor.
    layers
        Decoder layers that the language model has.
    """

    config: Any = None
    companion: Any = None
    stored: StoredTensors
    tensors: dict[str, str]
    dtype: torch.dtype
    layers: int = 0


def open_language_model(folder: Path, first_layers: int | None) -> Part:
    """Open a Llama checkpoint, keeping its first `first_layers` decoder layers (None: all).

    Raises
    ------
    MisuseError
        If it is none, is incomplete, or has fewer layers.
    """
    config = _config_of(folder, "language model")
    if config.model_type != "llama":
        whole = "; it is a whole vision-language model, which --model takes as it is" if _is_whole(config) else ""
        raise ModelError(
            f"language model is no Llama (as Vicuna is) but of type `{config.model_type}`: {folder}{whole}"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(f"language model is quantised: {folder}; give the unquantised one")
    layers = config.num_hidden_layers
    kept = layers if first_layers is None else first_layers
    if isinstance(kept, bool) or not isinstance(kept, int) or not 1 <= kept <= layers:
        raise OptionError(f"first_layers must lie between 1 and {layers} for this language model: {kept!r}")
    tokenizer = _tokenizer_of(folder)
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"tokenizer does not belong to the language model: it has {len(tokenizer):,} tokens, the embedding "
            f"{config.vocab_size:,} rows: {folder}"
        )
    config.num_hidden_layers = kept
    wanted = _shapes(LlamaForCausalLM, config)
    if config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    stored = StoredTensors.of_folder(folder)
    found = {name: name for name in stored.names if not _is_left_out(name, range(kept, layers))}
    if config.tie_word_embeddings:
        found.pop("lm_head.weight", None)
    _check("language model", stored, found, wanted)
    return Part(
        config=config,
        companion=tokenizer,
        stored=stored,
        tensors={f"language_model.{name}": name for name in found},
        dtype=stored.dtype("model.embed_tokens.weight"),
        layers=layers,
    )


def open_vision_tower(folder: Path) -> Part:
    """Open a CLIP model, of which the vision side is taken. Raises ModelError."""
    config = _config_of(folder, "vision tower")
    if config.model_type not in {"clip", "clip_vision_model"}:
        raise ModelError(f"vision tower is no CLIP but of type `{config.model_type}`: {folder}")
    tower: Any = config.vision_config if config.model_type == "clip" else config
    try:
        image_processor = CLIPImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise ModelError(
            f"vision tower's image processor cannot be loaded: {folder} ({reason}); its preprocessor_config.json is "
            "needed"
        ) from error
    crop = image_processor.crop_size
    side = (crop["height"], crop["width"]) if crop and image_processor.do_center_crop else None
    if side != (tower.image_size, tower.image_size):
        raise ModelError(
            f"image processor does not fit the vision tower: it makes pictures of {side}, {tower.image_size} x "
            f"{tower.image_size} pixels are wanted: {folder}"
        )
    stored = StoredTensors.of_folder(folder)
    found = {
        name.removeprefix("vision_model."): name
        for name in stored.names
        if not name.startswith(_CLIP_TEXT_SIDE) and not name.endswith(_RECOMPUTED)
    }
    _check("vision tower", stored, found, _shapes(CLIPVisionModel, tower))
    return Part(
        config=tower,
        companion=image_processor,
        stored=stored,
        tensors={f"vision_tower.vision_model.{name}": stored_as for name, stored_as in found.items()},
        dtype=stored.dtype(next(iter(found.values()))),
    )


def open_projector(file: Path, vision_hidden: int, text_hidden: int) -> Part:
    """Open LLaVA-1.5's projector of two layers between features of two sizes. Raises ModelError."""
    if file.is_dir():
        raise ModelError(f"projector is a folder, the file mm_projector.bin is wanted: {file}")
    if not file.is_file():
        raise ModelError(f"projector file does not exist: {file}{_near(file)}")
    stored = StoredTensors.of_file(file)
    found: dict[str, str] = {}
    for name in stored.names:
        layer, _, kind = name.rpartition(_PROJECTOR_MARK)[2].rpartition(".")
        known = _PROJECTOR_MARK in name and layer in _PROJECTOR_LAYERS
        found[f"{_PROJECTOR_LAYERS[layer]}.{kind}" if known else name] = name
    wanted: dict[str, Shape] = {
        "linear_1.weight": (text_hidden, vision_hidden),
        "linear_1.bias": (text_hidden,),
        "linear_2.weight": (text_hidden, text_hidden),
        "linear_2.bias": (text_hidden,),
    }
    in_file = {f"{name}.": f"model.{_PROJECTOR_MARK}{number}." for number, name in _PROJECTOR_LAYERS.items()}
    why = f"; the vision tower's features have {vision_hidden} numbers, the language model's {text_hidden}"
    _check("projector", stored, found, wanted, in_file=in_file, why=why)
    return Part(
        stored=stored,
        tensors={f"multi_modal_projector.{name}": stored_as for name, stored_as in found.items()},
        dtype=stored.dtype(found["linear_1.weight"]),
    )


def _config_of(folder: Path, what: str) -> Any:
    if not folder.is_dir():
        raise ModelError(f"{what} folder does not exist: {folder}{_near(folder)}")
    return load_config(folder)


def _near(path: Path) -> str:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, beside)


def _is_whole(config: Any) -> bool:
    return getattr(config, "vision_config", None) is not None


def _tokenizer_of(folder: Path) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        reason = str(error).strip().split("\n", 1)[0][:200]
        advice = ""
        if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file():
            reason = "it is a tokenizer.model alone"
            advice = "; with the packages sentencepiece and protobuf installed it can be read"
        raise ModelError(f"language model's tokenizer cannot be loaded: {folder} ({reason}){advice}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"language model's tokenizer tells no character offsets, a fast one is needed: {folder}")
    return tokenizer


def _is_left_out(name: str, later: range) -> bool:
    layer = _DECODER_LAYER.match(name)
    return name.endswith(_RECOMPUTED) or (layer is not None and int(layer[1]) in later)


def _shapes(model_class: Any, config: Any) -> dict[str, Shape]:
    """Return name and shape of every tensor that an architecture has, without allocating one."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in model_class(config).state_dict().items()}


def _check(
    what: str,
    stored: StoredTensors,
    found: Mapping[str, str],
    wanted: Mapping[str, Shape],
    *,
    in_file: Mapping[str, str] | None = None,
    why: str = "",
) -> None:
    """Raise ModelError unless the files hold exactly the wanted tensors, of the wanted shapes and a floating type."""

    def shown(name: str) -> str:
        for ours, theirs in (in_file or {}).items():
            name = name.replace(ours, theirs)
        return f"`{name}`"

    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        told = ", ".join(shown(name) for name in missing[:3])
        raise ModelError(f"{what} is incomplete: {stored.where} ({len(missing)} tensors missing: {told})")
    if unknown:
        told = ", ".join(f"`{found[name]}`" for name in unknown[:3])
        raise ModelError(f"{what} has tensors that its architecture does not know: {stored.where} ({told})")
    for name, stored_as in sorted(found.items(), key=lambda pair: (stored.file(pair[1]), pair[0])):
        shape = stored.shape(stored_as)
        stored.dtype(stored_as)  # raises where it is none that can be composed
        if shape != wanted[name]:
            raise ModelError(
                f"{what} does not fit: `{stored_as}` is {list(shape)}, wanted is {list(wanted[name])}: "
                f"{stored.where}{why}"
            )
