"""What loading a model and one pass through it cost in a process of its own: seconds, peak memory, bytes of weights.

Linux only: resident memory and its peak are read from ``/proc``.
"""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import torch
import transformers
from transformers import AutoProcessor, core_model_loading

from passes import ATTENTION_MASS, limit_pass, load_first_layer, load_limit, load_whole, whole_pass
from peak_memory import with_peak
from scalselect.config import RepresentConfig
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scalselect.vlm.batches import PreparedSample

THREADS = 1
KINDS = ("whole", "first", "limit")
LOADERS = {"whole": load_whole, "first": load_first_layer, "limit": load_limit}
# Imported once by the server that forks the measured processes, so that no import is measured as loading.
_IMPORTED_BEFORE = [
    "transformers.models.auto.processing_auto",
    "transformers.models.llava.modeling_llava",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
]


class Cost(NamedTuple):
    """One process: `read` and `materialised` are bytes of weights, the peaks bytes above those held just before."""

    load_seconds: float
    load_peak: int
    read: int
    materialised: int
    pass_peak: int


def measure_processes(folder: Path, sample: PreparedSample, repetitions: int) -> dict[str, list[Cost]]:
    """Load the model and run one sample in every way, alternately, each time in a fresh process."""
    costs: dict[str, list[Cost]] = {kind: [] for kind in KINDS}
    context = get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_BEFORE)
    packed = pickle.dumps(sample)
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for _ in range(repetitions):
            for kind, measured in costs.items():
                measured.append(processes.submit(_cost_here, kind, folder, packed).result())
    return costs


def set_up_process() -> None:
    """Pin the threads and keep transformers quiet."""
    torch.set_num_threads(THREADS)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _cost_here(kind: str, folder: Path, packed: bytes) -> Cost:
    set_up_process()
    sample: PreparedSample = pickle.loads(packed)
    read: list[int] = []
    materialise = core_model_loading._materialize_copy  # noqa: SLF001  the one place where a tensor leaves its file

    def recorded(tensor: Any, *arguments: Any) -> Any:
        whole = materialise(tensor, *arguments)
        read.append(whole.nbytes)
        return whole

    def load() -> Any:
        model = LOADERS[kind](folder)
        for parameter in model.parameters():
            parameter.detach().sum()  # the file is only mapped until its pages are touched
        return model

    with mock.patch.object(core_model_loading, "_materialize_copy", recorded):
        begin = time.perf_counter()
        model, load_peak = with_peak(load)
        seconds = time.perf_counter() - begin
    materialised = sum(parameter.nbytes for parameter in model.parameters())
    run = _pass_of(kind, model, folder, sample)
    run()  # what the libraries set up once is not the pass's own
    _, pass_peak = with_peak(run)
    return Cost(seconds, load_peak, sum(read), materialised, pass_peak)


def _pass_of(kind: str, model: Any, folder: Path, sample: PreparedSample) -> Callable[[], Any]:
    if kind == "whole":
        return lambda: whole_pass(model, sample)
    if kind == "limit":
        return lambda: limit_pass(model, sample)
    config = RepresentConfig(threads=THREADS)
    processor = AutoProcessor.from_pretrained(folder)
    checkpoint = load_checkpoint(model, config, resolve_settings(config, model, None), processor=processor)
    return lambda: represent_samples(checkpoint, [sample], Pooling(attention_mass=ATTENTION_MASS))
