"""What `auto` stands for on this machine and model: device, number type, threads, batch budget, image fit."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig

from scalselect.errors import ModelError, OptionError, did_you_mean
from scalselect.vlm.elsewhere import refuse_what_lies_elsewhere
from scalselect.vlm.hub_files import HubSnapshot, open_snapshot
from scalselect.vlm.image_fit import declared_image_fit
from scalselect.vlm.loader import can_fork
from scalselect.vlm.remote_code import refuse_untrusted_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scalselect.config import RepresentConfig

# Tokens of one padded batch where the batch size is `auto`: what keeps each kind of device busy without much memory.
# On a CPU larger tensors leave the allocator's own memory and are mapped anew by every operation.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
_MOST_WORKERS = 16  # that are started unasked


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `auto` stood for, resolved once by whoever creates run.json.

    Attributes
    ----------
    max_rows
        Highest number of rows in a batch; None where the token budget alone decides.
    batch_tokens
        Highest number of tokens in a padded batch.
    image_fit
        `processor` or `pad`.
    dataloader_workers
        Processes that prepare samples beside the model. Not recorded: they change no vector.
    """

    dtype: str
    device: str
    threads: int
    max_rows: int | None
    batch_tokens: int
    image_fit: str
    dataloader_workers: int = 0


def resolve_settings(
    config: RepresentConfig, model: Any, recorded: dict[str, Any] | None, *, cpus: int | None = None
) -> Settings:
    """Resolve `auto` options for this machine and model.

    Parameters
    ----------
    model
        What `locate` takes or returns; a loaded model brings its own device and number type.
    recorded
        The `represent` keys of a run that exists already: what `auto` was resolved to then stays.
    cpus
        CPUs of this machine that are for this process, where several share it; None: all it may use.

    Raises
    ------
    OptionError
        If the device does not exist here, or a loaded model has another device or number type than asked for.
    ModelError
        If the checkpoint's configuration cannot be read.
    """
    model = locate(model, config)
    device = _resolved_device(config, model)
    dtype = config.dtype
    if is_loaded(model):
        dtype = str(model.dtype).removeprefix("torch.")
        if config.dtype not in {"auto", dtype}:
            raise OptionError(f"dtype cannot be changed, the loaded model has {dtype}: {config.dtype}")
    elif dtype == "auto":
        dtype = recorded["dtype"] if recorded else _auto_dtype(model, device, trusted=config.trust_remote_code)
    threads = config.threads
    if threads == "auto":
        threads = recorded["threads"] if recorded else cpus or _usable_threads()
    max_rows = None if config.batch_size == "auto" else int(config.batch_size)
    if config.batch_size == "auto" and recorded:
        max_rows = recorded["max_rows"]
    tokens = _BATCH_TOKENS["cpu" if device.startswith("cpu") else "cuda"]
    return Settings(
        dtype=dtype,
        device=device,
        threads=int(threads),
        max_rows=max_rows,
        batch_tokens=recorded["batch_tokens"] if recorded else tokens,
        image_fit=_resolved_image_fit(config, model, recorded),
        dataloader_workers=_resolved_workers(config, device, cpus or _usable_cpus()),
    )


def _resolved_workers(config: RepresentConfig, device: str, cpus: int) -> int:
    if config.dataloader_workers != "auto":
        if config.dataloader_workers and not can_fork:
            asked = config.dataloader_workers
            raise OptionError(f"dataloader_workers need Linux, other systems cannot fork safely: {asked}; give 0")
        return int(config.dataloader_workers)
    if not can_fork:
        return 0
    # A model on the CPU takes nearly all of the time and every CPU: more processes beside it gain nothing. One there is
    # everywhere: a decoder that crashes or hangs is to cost a row, and not the run.
    return 1 if device.startswith("cpu") else max(1, min(cpus - 1, _MOST_WORKERS))


def _resolved_image_fit(config: RepresentConfig, model: Any, recorded: dict[str, Any] | None) -> str:
    if config.image_fit != "auto":
        return config.image_fit
    if recorded and "image_fit" in recorded:
        return str(recorded["image_fit"])
    trusted = config.trust_remote_code
    return declared_image_fit(model.config if is_loaded(model) else load_config(model, trusted=trusted))


def _usable_threads() -> int:
    """Return the CPUs this process may use, or fewer where the environment asks for fewer."""
    usable = _usable_cpus()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(asked)) if asked.isdecimal() and int(asked) > 0 else usable


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loaded(model: Any) -> bool:
    """Tell whether `model` is a model object and not the name of one. Raises OptionError where it is neither."""
    if isinstance(model, (str, Path, HubSnapshot)):
        return False
    if not all(hasattr(model, name) for name in ("config", "get_decoder", "set_attn_implementation")):
        raise OptionError(f"model must be a folder, a hub name, or a loaded transformers model: {type(model).__name__}")
    return True


def _resolved_device(config: RepresentConfig, model: Any) -> str:
    if is_loaded(model):
        own = str(model.device)
        if config.device not in {"auto", own, model.device.type}:
            raise OptionError(f"device cannot be changed, the loaded model lies on {own}: {config.device}")
        return own
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    return device


def _auto_dtype(model: Path | HubSnapshot, device: str, *, trusted: bool) -> str:
    """Float32 on a CPU, where half precision is slow; else the checkpoint's own type where it is a half one."""
    if device.startswith("cpu"):
        return "float32"
    stored = str(getattr(load_config(model, trusted=trusted), "dtype", None)).removeprefix("torch.")
    return stored if stored in {"bfloat16", "float16"} else "float32"


def locate(model: Any, config: RepresentConfig, *, commit: str | None = None) -> Any:
    """Return what a model is read from: a loaded model as it is, a folder as Path, a hub name as HubSnapshot.

    Parameters
    ----------
    model
        Folder or hub name of a checkpoint, a loaded model, or what this function returned before.
    commit
        Of a hub's repository, instead of the revision: a run that goes on keeps the one it began with.

    Raises
    ------
    ModelError
        If there is no such folder and no such model on the hub.
    OptionError
        If a revision is given for a model that does not come from a hub, or `model` is no model.
    """
    if isinstance(model, HubSnapshot):
        return model
    if not is_loaded(model):
        _refuse_missing_folder(str(model))
    if is_loaded(model) or Path(model).exists():
        if config.revision is not None:
            raise OptionError(f"revision has no effect on a model that lies on disk: {config.revision}; leave it out")
        return Path(model) if isinstance(model, str) else model
    return open_snapshot(str(model), commit or config.revision, with_code=config.trust_remote_code)


def load_config(model: Path | HubSnapshot, *, trusted: bool = False) -> Any:
    """Return the configuration of a checkpoint, running code of its own only where that is trusted.

    Raises
    ------
    ModelError
        If it cannot be read, or needs code that is not trusted.
    """
    folder, name = (model.folder, model.name) if isinstance(model, HubSnapshot) else (model, str(model))
    refuse_untrusted_code(folder, name, trusted=trusted)
    refuse_what_lies_elsewhere(folder, name)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    except Exception as error:  # configuration classes check their fields with errors of other libraries
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise ModelError(f"model folder has no config.json: {folder}; give the folder of a checkpoint") from error
        reason = str(error).strip().split("\n", 1)[0][:300]
        raise ModelError(
            f"model cannot be opened: {name} ({reason}); give the folder of a checkpoint or a hub name such as "
            "llava-hf/llava-1.5-7b-hf"
        ) from error


def _refuse_missing_folder(path: str) -> None:
    """Raise ModelError for what can only be meant as a folder and is none, before a hub is asked for it."""
    if not path:
        raise ModelError("model is empty; give the folder of a checkpoint or a hub name")
    folder = Path(path)
    if folder.is_file():
        raise ModelError(f"model is a file, the folder of a checkpoint is wanted: {path}")
    parent = folder.parent
    meant_as_folder = path.startswith(("/", ".", "~")) or path.count("/") > 1
    if folder.exists() or not (meant_as_folder or (parent != Path() and parent.is_dir())):
        return
    beside = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    raise ModelError(f"model folder does not exist: {path}{did_you_mean(folder.name, beside)}")


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many CPU threads inside the block; they decide the last digits of its sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def use_device(device: str) -> Iterator[None]:
    """Make an accelerator the current one inside the block: what libraries use unasked is the model's own."""
    if torch.device(device).type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


def visible_accelerators() -> list[str]:
    """Return the accelerators that this process sees, as names of devices. Touches none of them."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide the digits of representations."""
    names = ("numpy", "pillow", "tokenizers", "torch", "torchvision", "transformers")
    return {name: metadata.version(name) for name in names}


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise OptionError(f"device cannot be used here: {device} ({reason}); `cpu` always can") from error
    if kind == "meta":
        raise OptionError("device `meta` holds no numbers; use `cpu` or `cuda`")
