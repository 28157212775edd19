"""LLaVA before instruction tuning, as one checkpoint: Vicuna, a CLIP vision tower and LLaVA's projector together.

The three are published apart. Tensors are copied bit for bit; what is new are a few rows of the embedding and of the
output layer, for `<image>`, `<pad>` and up to the next multiple of 64. They are never read as text: each is the mean of
the rows that were there. Everything is checked before anything is written.
"""

from __future__ import annotations

import copy
import functools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AddedToken, LlavaConfig, LlavaProcessor

from scalselect.errors import OptionError, WorkError
from scalselect.leftovers import remove_leftovers_beside
from scalselect.storage import temporary_beside
from scalselect.vlm.checkpoint import quiet_transformers, vicuna_template
from scalselect.vlm.image_fit import CONFIG_FIELD
from scalselect.vlm.llava_parts import ADDED_ROWS, Part, open_language_model, open_projector, open_vision_tower
from scalselect.vlm.stored_tensors import TensorToWrite, write_tensors

FILE_BYTES = 10**9  # of a file of weights; about twice as much memory is needed
_VOCABULARY_MULTIPLE = 64  # of the rows of an embedding, as in the published checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedLlava:
    """What was written.

    Attributes
    ----------
    decoder_layers, language_model_layers
        Decoder layers of the checkpoint, and those that the language model has.
    image_token_id
        Id of `<image>`.
    new_rows
        Rows of the embedding that the language model does not have.
    files, parameter_bytes
        Files of weights and the bytes of all tensors in them.
    """

    folder: Path
    decoder_layers: int
    language_model_layers: int
    image_token_id: int
    new_rows: int
    files: int
    parameter_bytes: int


def compose_llava(
    *,
    language_model: str | Path,
    vision_tower: str | Path,
    projector: str | Path,
    output: str | Path,
    first_layers: int | None = None,
) -> ComposedLlava:
    """Write a LLaVA-1.5 checkpoint in the Hugging Face layout, made of its three parts.

    Its chat template is the prompt that LLaVA-1.5 is trained with, and its configuration says that pictures are padded
    to a square, which `image_fit` `auto` follows. Number types stay as stored; the configuration tells the language
    model's.

    Parameters
    ----------
    language_model
        Folder of a Llama checkpoint with its tokenizer, such as Vicuna.
    vision_tower
        Folder of a CLIP model, or of its vision tower alone, with its `preprocessor_config.json`.
    projector
        LLaVA's `mm_projector.bin`, or the same tensors as `.safetensors`. Pickles are read as tensors alone.
    output
        Folder to write; must not exist, or be empty.
    first_layers
        Decoder layers to keep, from the first; default: all. One is enough for selection with the default layer.

    Raises
    ------
    MisuseError
        Before anything is written: a part is missing, is of another architecture, or does not fit the others.
    WorkError
        If writing fails; nothing is left then.
    """
    folder = Path(output).absolute()
    _refuse_used(folder)
    with quiet_transformers():
        language = open_language_model(Path(language_model), first_layers)
        vision = open_vision_tower(Path(vision_tower))
        connector = open_projector(Path(projector), vision.config.hidden_size, language.config.hidden_size)
        tokenizer = language.companion
        image_token_id, pad_token_id = _add_tokens(tokenizer)
        stored_rows = language.config.vocab_size
        rows = _VOCABULARY_MULTIPLE * math.ceil(max(stored_rows, len(tokenizer)) / _VOCABULARY_MULTIPLE)
        config = _configuration(language, vision, rows, image_token_id, pad_token_id)
        processor = LlavaProcessor(
            image_processor=vision.companion,
            tokenizer=tokenizer,
            patch_size=vision.config.patch_size,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            num_additional_image_tokens=1,  # the class token, which the strategy takes away again
            chat_template=vicuna_template(),
        )
        tensors = [
            *_tensors(language, new_rows=rows - stored_rows),
            *_tensors(vision),
            *_tensors(connector),
        ]
        files = _publish(folder, config, processor, tensors)
    return ComposedLlava(
        folder=folder,
        decoder_layers=config.text_config.num_hidden_layers,
        language_model_layers=language.layers,
        image_token_id=image_token_id,
        new_rows=rows - stored_rows,
        files=files,
        parameter_bytes=sum(tensor.nbytes for tensor in tensors),
    )


def _refuse_used(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"output is a file, a folder is wanted: {folder}")
    if folder.is_dir() and any(folder.iterdir()):
        raise OptionError(f"output folder is not empty: {folder}; give a new one")


def _add_tokens(tokenizer: Any) -> tuple[int, int]:
    """Add `<image>` and `<pad>`, as the published checkpoints have them; return their ids."""
    tokenizer.add_tokens(AddedToken("<image>", special=True, normalized=False), special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.chat_template = None  # the processor's own one counts
    return tokenizer.convert_tokens_to_ids("<image>"), tokenizer.pad_token_id


def _configuration(language: Part, vision: Part, rows: int, image_token_id: int, pad_token_id: int) -> Any:
    text = copy.deepcopy(language.config)
    text.vocab_size = rows
    text.pad_token_id = pad_token_id
    tower = copy.deepcopy(vision.config)
    for config in (text, tower):
        config.dtype = None  # the whole model's counts
        config._name_or_path = ""  # noqa: SLF001  no public name; where a part lay is nobody's business
    return LlavaConfig(
        text_config=text,
        vision_config=tower,
        image_token_index=image_token_id,
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=text.tie_word_embeddings,
        architectures=["LlavaForConditionalGeneration"],
        dtype=str(language.dtype).removeprefix("torch."),
        **{CONFIG_FIELD: "pad"},
    )


def _tensors(part: Part, *, new_rows: int = 0) -> list[TensorToWrite]:
    """Return the tensors of a part, file by file, so that each file is opened once."""
    tensors = []
    for name, stored_as in sorted(part.tensors.items(), key=lambda pair: (part.stored.file(pair[1]), pair[0])):
        shape, dtype = part.stored.shape(stored_as), part.stored.dtype(stored_as)
        added = new_rows if name in ADDED_ROWS else 0
        elements = math.prod(shape) + added * math.prod(shape[1:])
        read = functools.partial(_read, part, stored_as, added)
        tensors.append(TensorToWrite(name, elements * dtype.itemsize, read))
    return tensors


def _read(part: Part, stored_as: str, new_rows: int) -> torch.Tensor:
    tensor = part.stored.read(stored_as)
    if new_rows == 0:
        return tensor
    grown = tensor.new_empty((tensor.shape[0] + new_rows, *tensor.shape[1:]))  # [vocabulary, hidden]
    grown[: tensor.shape[0]] = tensor
    grown[tensor.shape[0] :] = tensor.mean(dim=0, dtype=torch.float64).to(tensor.dtype)
    return grown


def _publish(folder: Path, config: Any, processor: Any, tensors: list[TensorToWrite]) -> int:
    """Write everything beside `folder` and rename it when it is whole; return the number of files of weights."""
    temporary = temporary_beside(folder)
    try:
        remove_leftovers_beside(folder)
        temporary.mkdir(parents=True)
        files = write_tensors(temporary, tensors, file_bytes=FILE_BYTES)
        config.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        temporary.replace(folder)  # of nothing, or of an empty folder
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WorkError(f"checkpoint cannot be written: {folder} ({reason}); nothing is left of it") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(files)
