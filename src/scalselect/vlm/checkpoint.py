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
from scalselect.image_files import MAX_PIXELS
from scalselect.vlm.attention_capture import ATTENTION_NAME
from scalselect.vlm.fingerprints import fingerprint, needed_parameters
from scalselect.vlm.first_layer import FirstLayer
from scalselect.vlm.hub_files import HubSnapshot
from scalselect.vlm.image_fit import mean_colour
from scalselect.vlm.prefix_lm import PREFIX_LM_FAMILIES
from scalselect.vlm.refusals import image_token_id, refuse_unsupported
from scalselect.vlm.remote_code import own_code
from scalselect.vlm.sample_preparer import SamplePreparer
from scalselect.vlm.settings import is_loaded, load_config, locate
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
        Hashes of what determines the representations: `config`, `processor`, `chat_template`, `weights`, and `code`
        where code of the checkpoint was run.
    warnings
        Sentences the user should read.
    remote_code
        In words, which code of the checkpoint was run; None where none was.
    parameter_bytes
        Bytes of the parameters up to the wanted decoder layer.
    hidden_size
        Length of a representation.
    reads_instruction
        Whether instruction tokens have a say in the vectors.
    batches
        Whether a sample's row is the same in a batch as alone; if not, each runs by itself.
    shares_prefixes
        Whether samples that begin alike may be run from where they part. The rehearsal finds out.
    """

    preparer: SamplePreparer
    first_layer: FirstLayer
    device: torch.device
    dtype: torch.dtype
    pad_token_id: int
    hidden_size: int
    fingerprint: dict[str, str]
    warnings: list[str]
    remote_code: str | None
    parameter_bytes: int
    reads_instruction: bool
    batches: bool = True
    shares_prefixes: bool = False


def load_checkpoint(model: Any, config: RepresentConfig, settings: Settings, *, processor: Any = None) -> Checkpoint:
    """Load what the wanted decoder layer needs, and nothing else.

    Parameters
    ----------
    model
        Folder or hub name of a checkpoint, or an already loaded transformers model (then `processor` is needed); or
        what `locate` made of it.

    Raises
    ------
    ModelError
        If the checkpoint is missing, incomplete or not supported.
    OptionError
        If an option cannot have an effect on this checkpoint.
    """
    dtype: torch.dtype = getattr(torch, settings.dtype)
    device = torch.device(settings.device)
    trusted = config.trust_remote_code
    with quiet_transformers():
        model = locate(model, config)
        if is_loaded(model):
            loaded, model_config = model, model.config
            _refuse_layer_options(model_config, config)
            if processor is None:
                raise OptionError("a loaded model needs its processor as well: pass `processor=AutoProcessor...`")
            check_processor(processor, type(model).__name__)
            warnings = refuse_unsupported(model_config, layer=config.layer)
            dtype, device = loaded.dtype, loaded.device
            set_to_work(loaded)
        else:
            model_config = load_config(model, trusted=trusted)
            warnings = refuse_unsupported(model_config, layer=config.layer)
            _refuse_layer_options(model_config, config)
            processor = load_processor(model, trusted=trusted) if processor is None else processor
            shorter = truncated_config(model_config, layer=config.layer, deepstack=config.deepstack)
            loaded = _load_weights(model, shorter, dtype, trusted=trusted)
        first_layer = FirstLayer(loaded, layer=config.layer, deepstack=config.deepstack)
        template = effective_chat_template(processor, config.chat_template, family=model_config.model_type)
        hashes = fingerprint(model_config, processor, template, loaded, layer=config.layer)
        remote_code, code_hash = _own_code_in_words(model_config, processor, loaded)
        if remote_code is not None:
            hashes["code"] = code_hash
            warnings = [*warnings, remote_code]
        parameters = sum(parameter.nbytes for _, parameter in needed_parameters(loaded, config.layer))
        loaded.to(device)
    pad = processor.tokenizer.pad_token_id
    return Checkpoint(
        preparer=build_preparer(processor, model_config, config, template, pads=settings.image_fit == "pad"),
        first_layer=first_layer,
        device=device,
        dtype=dtype,
        pad_token_id=0 if pad is None else pad,
        hidden_size=model_config.get_text_config().hidden_size,
        fingerprint=hashes,
        warnings=warnings,
        remote_code=remote_code,
        parameter_bytes=parameters,
        reads_instruction=_reads_instruction(config),
    )


def build_preparer(
    processor: Any, model_config: Any, config: RepresentConfig, template: str, *, pads: bool
) -> SamplePreparer:
    """Return what makes samples ready for a model. Raises OptionError where an option cannot have an effect."""
    return SamplePreparer(
        processor,
        image_token_id=cast("int", image_token_id(model_config)),  # refused before where there is none
        instruction_tokens=config.instruction_tokens,
        reads_instruction=_reads_instruction(config),
        chat_template=template,
        max_length=config.max_length,
        images_kwargs=_image_limits(processor, config),
        padding_colour=mean_colour(processor.image_processor) if pads else None,
        most_pixels=config.decode_max_pixels or MAX_PIXELS,
        prefix_lm=model_config.model_type in PREFIX_LM_FAMILIES,
    )


def _reads_instruction(config: RepresentConfig) -> bool:
    return config.pooling == "attended" or config.vectors == "vision+instruction"


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


def set_to_work(model: Any) -> None:
    """Give a loaded model the attention that is read, and take it out of training; nothing for a path."""
    if is_loaded(model):
        model.set_attn_implementation({"text_config": ATTENTION_NAME})
        model.eval()


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


def effective_chat_template(processor: Any, option: str | None, *, family: str = "") -> str:
    """Return the text of the chat template that will be used.

    The option comes first, then the checkpoint's own template, then one this package brings for `family`.

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
    if not template and family in PREFIX_LM_FAMILIES:
        return _own_template("paligemma")
    if not template:
        raise ModelError(
            "the checkpoint has no chat template, so conversations cannot be rendered: give --chat-template FILE "
            "(a Jinja file), or --chat-template vicuna for LLaVA-1.5"
        )
    return str(template)


def vicuna_template() -> str:
    """Return the chat template of the prompt that LLaVA-1.5 is trained with."""
    return _own_template("vicuna")


def _own_template(name: str) -> str:
    return resources.files("scalselect.vlm").joinpath(f"templates/{name}.jinja").read_text(encoding="utf-8")


def _load_weights(model: Path | HubSnapshot, config: Any, dtype: torch.dtype, *, trusted: bool) -> Any:
    if isinstance(model, Path):
        return load_truncated(model, config, dtype=dtype, trusted=trusted)
    with model.with_weights(config) as folder:
        return load_truncated(folder, config, dtype=dtype, trusted=trusted, name=model.name)


def _own_code_in_words(config: Any, processor: Any, model: Any) -> tuple[str | None, str]:
    names, code_hash = own_code(config, processor, model)
    if not names:
        return None, ""
    return f"code that came with the checkpoint was run: {', '.join(names)}", code_hash


def load_processor(model: Path | HubSnapshot, *, trusted: bool) -> Any:
    """Return the processor of a checkpoint. Raises ModelError."""
    folder, name = (model.folder, model.name) if isinstance(model, HubSnapshot) else (model, str(model))
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trusted)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise ModelError(f"the checkpoint's processor cannot be loaded: {name} ({reason})") from error
    check_processor(processor, name)
    return processor


def check_processor(processor: Any, owner: str) -> None:
    """Raise ModelError for a processor that cannot make what is needed."""
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ModelError(f"the processor of {owner} has no image processor or no tokenizer: {type(processor).__name__}")
    if not getattr(processor.tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {owner} tells no character offsets, a fast one is needed")


def _image_limits(processor: Any, config: RepresentConfig) -> dict[str, Any]:
    """Return the processor's arguments for the given pixel limits; a limit not given stays the checkpoint's."""
    given = {"min_pixels": config.image_min_pixels, "max_pixels": config.image_max_pixels}
    given = {name: value for name, value in given.items() if value is not None}
    if not given or config.image_resize == "before":  # kept by whoever opens the pictures
        return {}
    image_processor = processor.image_processor
    understood = getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", {})
    for name in given:
        if name not in understood:
            raise OptionError(
                f"image_{name} has no effect on this checkpoint: {type(image_processor).__name__} knows no "
                f"`{name}`; leave the option out, or give --image-resize before"
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
