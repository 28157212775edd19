"""One checkpoint, ready to represent samples: processor, truncated model, fingerprints, resolved settings."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from transformers import AutoProcessor

from scalselect.errors import ModelError, OptionError
from scalselect.vlm.batches import SamplePreparer
from scalselect.vlm.fingerprints import fingerprint, needed_parameters
from scalselect.vlm.first_layer import ATTENTION_NAME, FirstLayer
from scalselect.vlm.image_fit import mean_colour
from scalselect.vlm.refusals import image_token_id, refuse_unsupported
from scalselect.vlm.settings import is_loaded, load_config
from scalselect.vlm.truncation import load_truncated, truncated_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalselect.config import RepresentConfig
    from scalselect.vlm.settings import Settings


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """A model up to one decoder layer, with everything needed to feed it.

    Attributes
    ----------
    fingerprint
        Hashes of what determines the representations: `config`, `processor`, `chat_template`, `weights`.
    warnings
        Sentences the user should read.
    parameter_bytes
        Bytes of the parameters up to the wanted decoder layer.
    hidden_size
        Length of a representation.
    reads_instruction
        Whether instruction tokens have a say in the vectors.
    batches
        Whether samples may share a batch; the rehearsal finds out.
    """

    preparer: SamplePreparer
    first_layer: FirstLayer
    device: torch.device
    dtype: torch.dtype
    pad_token_id: int
    hidden_size: int
    fingerprint: dict[str, str]
    warnings: list[str]
    parameter_bytes: int
    reads_instruction: bool
    batches: bool = True


def load_checkpoint(model: Any, config: RepresentConfig, settings: Settings, *, processor: Any = None) -> Checkpoint:
    """Load what the wanted decoder layer needs, and nothing else.

    Parameters
    ----------
    model
        Folder or hub name of a checkpoint, or an already loaded transformers model (then `processor` is needed).

    Raises
    ------
    ModelError
        If the checkpoint is missing, incomplete or not supported.
    OptionError
        If an option cannot have an effect on this checkpoint.
    """
    dtype: torch.dtype = getattr(torch, settings.dtype)
    device = torch.device(settings.device)
    with quiet_transformers():
        if is_loaded(model):
            loaded, model_config = model, model.config
            _refuse_layer_options(model_config, config)
            if processor is None:
                raise OptionError("a loaded model needs its processor as well: pass `processor=AutoProcessor...`")
            _check_processor(processor, type(model).__name__)
            warnings = refuse_unsupported(model_config, layer=config.layer)
            dtype, device = loaded.dtype, loaded.device
            loaded.set_attn_implementation({"text_config": ATTENTION_NAME})
            loaded.eval()
        else:
            model_config = load_config(str(model), config.revision)
            warnings = refuse_unsupported(model_config, layer=config.layer)
            _refuse_layer_options(model_config, config)
            processor = _load_processor(str(model), config.revision) if processor is None else processor
            shorter = truncated_config(model_config, layer=config.layer, deepstack=config.deepstack)
            loaded = load_truncated(str(model), shorter, dtype=dtype, revision=config.revision)
        first_layer = FirstLayer(loaded, layer=config.layer, deepstack=config.deepstack)
        template = effective_chat_template(processor, config.chat_template)
        hashes = fingerprint(model_config, processor, template, loaded, layer=config.layer)
        parameters = sum(parameter.nbytes for _, parameter in needed_parameters(loaded, config.layer))
        loaded.to(device)
    pad = processor.tokenizer.pad_token_id
    reads_instruction = config.pooling == "attended" or config.vectors == "vision+instruction"
    return Checkpoint(
        preparer=SamplePreparer(
            processor,
            image_token_id=cast("int", image_token_id(model_config)),  # refused above where there is none
            instruction_tokens=config.instruction_tokens,
            reads_instruction=reads_instruction,
            chat_template=template,
            max_length=config.max_length,
            images_kwargs=_image_limits(processor, config),
            padding_colour=mean_colour(processor.image_processor) if settings.image_fit == "pad" else None,
        ),
        first_layer=first_layer,
        device=device,
        dtype=dtype,
        pad_token_id=0 if pad is None else pad,
        hidden_size=model_config.get_text_config().hidden_size,
        fingerprint=hashes,
        warnings=warnings,
        parameter_bytes=parameters,
        reads_instruction=reads_instruction,
    )


def _refuse_layer_options(model_config: Any, config: RepresentConfig) -> None:
    """Raise OptionError for a layer that is not there, or a DeepStack that is none."""
    layers = model_config.get_text_config().num_hidden_layers
    if config.layer >= layers:
        raise OptionError(f"layer must lie between 0 and {layers - 1} for this model: {config.layer}")
    levels = len(getattr(getattr(model_config, "vision_config", None), "deepstack_visual_indexes", None) or [])
    if config.deepstack == "include" and config.layer >= levels:
        raise OptionError(
            f"deepstack `include` has no effect: this model adds no vision features after decoder layer {config.layer}"
        )


@contextlib.contextmanager
def model_restored(model: Any) -> Iterator[None]:
    """Give a loaded model its attention implementation and its mode back when the block ends; nothing for a path."""
    if not is_loaded(model):
        yield
        return
    attention = model.config.get_text_config()._attn_implementation  # noqa: SLF001  no public reader
    training = model.training
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": attention})
        model.train(training)


def effective_chat_template(processor: Any, option: str | None) -> str:
    """Return the text of the chat template that will be used.

    Raises
    ------
    OptionError
        If the option names a file that cannot be read.
    ModelError
        If there is no option and the checkpoint has no template.
    """
    if option == "vicuna":
        return vicuna_template()
    if option is not None:
        try:
            return Path(option).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(
                f"chat_template is neither `vicuna` nor a readable file: {option} ({error.__class__.__name__})"
            ) from error
    template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise ModelError(
            "the checkpoint has no chat template, so conversations cannot be rendered: give --chat-template FILE "
            "(a Jinja file), or --chat-template vicuna for LLaVA-1.5"
        )
    return str(template)


def vicuna_template() -> str:
    """Return the chat template of the prompt that LLaVA-1.5 is trained with."""
    return resources.files("scalselect.vlm").joinpath("templates/vicuna.jinja").read_text(encoding="utf-8")


def _load_processor(path: str, revision: str | None) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise ModelError(f"the checkpoint's processor cannot be loaded: {path} ({reason})") from error
    _check_processor(processor, path)
    return processor


def _check_processor(processor: Any, owner: str) -> None:
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ModelError(f"the processor of {owner} has no image processor or no tokenizer: {type(processor).__name__}")
    if not getattr(processor.tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {owner} tells no character offsets, a fast one is needed")


def _image_limits(processor: Any, config: RepresentConfig) -> dict[str, Any]:
    """Return the processor's arguments for the given pixel limits; a limit not given stays the checkpoint's."""
    given = {"min_pixels": config.image_min_pixels, "max_pixels": config.image_max_pixels}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return {}
    image_processor = processor.image_processor
    understood = getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", {})
    for name in given:
        if name not in understood:
            raise OptionError(
                f"image_{name} has no effect on this checkpoint: {type(image_processor).__name__} resizes every "
                "picture to a fixed size; leave the option out"
            )
    # Processors that know pixel limits keep them under these two names, as pixels.
    least = given.get("min_pixels", image_processor.size["shortest_edge"])
    most = given.get("max_pixels", image_processor.size["longest_edge"])
    if least > most:
        raise OptionError(f"the lower limit of pixels an image exceeds the upper one: {least} > {most}; give both")
    return {"size": {"shortest_edge": least, "longest_edge": most}}


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep loading bars and notes of transformers off the user's screen; errors still raise."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
