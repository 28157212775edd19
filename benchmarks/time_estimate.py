"""How long a pool of 625,000 samples takes on one H100 with LLaVA-1.5-7B: an estimate from operations and bytes.

``python benchmarks/time_estimate.py`` needs no GPU and no weights. The real shape is built on torch's meta device,
where tensors have a shape and no content, and its operations are run there one by one: the floating-point operations
and the bytes that each reads and writes are counted. An operation takes the longer of its two times, at an assumed
share of the GPU's published peak rate and bandwidth. `docs/time-and-memory.md` shows the tables with what they assume.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from scalselect.vlm.truncation import truncated_config

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = 625_000
TOKENS = (650, 700, 1000)  # of one sample, 576 of them vision tokens
BATCH_TOKENS = 32_768  # the package's own budget on a GPU
# NVIDIA H100 SXM, data sheet: 1,979 TFLOPS bfloat16 with sparsity, half of it without; 3.35 TB/s.
PEAK_FLOPS = 989.5e12
PEAK_BANDWIDTH = 3.35e12
SHARES = (0.3, 0.6)  # of both peaks: what is assumed to be reached, cautious and good
PICTURE_MS = 7.4  # CPU time of one core to decode and preprocess a picture: benchmarks/picture_time.py
CONFIG = LlavaConfig(
    vision_config=CLIPVisionConfig(
        image_size=336,
        patch_size=14,
        num_hidden_layers=24,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        projection_dim=768,
    ),
    text_config=LlamaConfig(
        vocab_size=32_064,
        num_hidden_layers=32,
        hidden_size=4096,
        intermediate_size=11_008,
        num_attention_heads=32,
        num_key_value_heads=32,
    ),
    vision_feature_layer=-2,
)


@dataclass(slots=True)
class Work:
    """Operations run one after the other: for each its floating-point operations and the bytes it moves."""

    steps: list[tuple[int, int]] = field(default_factory=list)

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps)

    def __mul__(self, times: int) -> Work:
        return Work(self.steps * times)

    @property
    def flops(self) -> int:
        """Floating-point operations of matrix products, convolutions and attention."""
        return sum(flops for flops, _ in self.steps)

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return sum(moved for _, moved in self.steps)

    def seconds(self, share: float) -> float:
        """Return the time on the GPU at a share of its peaks; each operation is bound by one of them."""
        return sum(max(flops / PEAK_FLOPS, moved / PEAK_BANDWIDTH) for flops, moved in self.steps) / share


class _Recorder(TorchDispatchMode):
    """Writes down every operation that computes something; a view of a tensor moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket is not torch.ops.aten._unsafe_view:  # noqa: SLF001  a view as well
            count = flop_registry.get(func.overloadpacket)
            flops = 0 if count is None else count(*args, **(kwargs or {}), out_val=result)
            self.work.steps.append((flops, _bytes_of((args, kwargs)) + _bytes_of(result)))
        return result


class _FusedAttention(TorchFunctionMode):
    """Counts SDPA as a GPU's fused kernel: query, key and value are read and the output is written, no scores."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args
        # Both products, of all query-key pairs: the half that a causal mask leaves out is not taken off.
        flops = 4 * query.numel() * key.shape[-2]
        self._work.steps.append((flops, _bytes_of(args) + query.nbytes))
        with torch.utils._python_dispatch._disable_current_modes():  # noqa: SLF001  the output counts above
            return torch.empty(query.shape[:-1] + value.shape[-1:], dtype=query.dtype, device="meta")


def _bytes_of(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def recorded(run: Callable[[], object]) -> Work:
    """Return the work of everything that `run` computes on meta tensors."""
    with torch.no_grad(), _Recorder() as recorder, _FusedAttention(recorder.work):
        run()
    return recorder.work


def work_of(config: Any, layers: int, *, rows: int, tokens: int, attention: str, head: bool) -> Work:
    """Return the work of one batch of `rows` samples through tower, projector, embedding and decoder layers."""
    with torch.device("meta"):
        whole = LlavaForConditionalGeneration._from_config(  # noqa: SLF001  takes an attention implementation
            config, attn_implementation=attention, dtype=torch.bfloat16
        ).eval()
        model, decoder = whole.model, whole.model.language_model
        pixels = torch.empty(rows, 3, 336, 336, dtype=torch.bfloat16)
        ids = torch.zeros(rows, tokens, dtype=torch.int64)
        hidden = torch.empty(rows, tokens, decoder.config.hidden_size, dtype=torch.bfloat16)
        mask = torch.empty(rows, 1, tokens, tokens, dtype=torch.bfloat16) if attention == "eager" else None
        positions = torch.arange(tokens)[None]
        rotation = decoder.rotary_emb(hidden, positions)
        layer = decoder.layers[0]
        work = recorded(lambda: model.get_image_features(pixels, return_dict=True))
        work += recorded(lambda: decoder.embed_tokens(ids))
        one = recorded(lambda: layer(hidden, attention_mask=mask, position_embeddings=rotation, use_cache=False))
        work += one * layers
        if head:
            work += recorded(lambda: whole.lm_head(decoder.norm(hidden)))
    return work


def parameters(config: Any, *, head: bool) -> int:
    """Return the number of parameters of a model of this shape, with or without its language-model head."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration._from_config(config)  # noqa: SLF001
    return sum(parameter.numel() for parameter in (model if head else model.model).parameters())


@functools.cache
def batches(tokens: int) -> dict[str, tuple[Work, int]]:
    """Return for each way the work of one batch and the samples in it."""
    rows = BATCH_TOKENS // tokens
    shorter, layers = truncated_config(CONFIG), CONFIG.text_config.num_hidden_layers
    return {
        "up to layer 0": (work_of(shorter, 1, rows=rows, tokens=tokens, attention="sdpa", head=False), rows),
        "all layers": (work_of(CONFIG, layers, rows=rows, tokens=tokens, attention="sdpa", head=True), rows),
        "all layers, eager, one by one": (
            work_of(CONFIG, layers, rows=1, tokens=tokens, attention="eager", head=True),
            1,
        ),
    }


def gpu_table() -> list[str]:
    """Return the lines that compare the passes on the GPU."""
    lines = [
        "| tokens | pass | TFLOP a sample | GB moved a sample | operations a batch | ms a sample | hours in all |",
        "|---|---|---|---|---|---|---|",
    ]
    for tokens in TOKENS:
        for name, (work, rows) in batches(tokens).items():
            slow, fast = (work.seconds(share) / rows for share in SHARES)
            lines.append(
                f"| {tokens} | {name} | {work.flops / rows / 1e12:.2f} | {work.moved / rows / 1e9:.1f} "
                f"| {len(work.steps):,} | {1e3 * fast:.1f} to {1e3 * slow:.1f} "
                f"| {SAMPLES * fast / 3600:.2f} to {SAMPLES * slow / 3600:.2f} |"
            )
    return lines


def processor_table() -> list[str]:
    """Return the lines that set the CPU's work on pictures beside the GPU's, at 700 tokens."""
    work, rows = batches(700)["up to layer 0"]
    slow, fast = (1e3 * work.seconds(share) / rows for share in SHARES)
    alone, hours = SAMPLES * PICTURE_MS / 3.6e6, [SAMPLES * one / 3.6e6 for one in (fast, slow)]
    return [
        "| what | estimate |",
        "|---|---|",
        f"| CPU time to open and prepare a picture, one core | {PICTURE_MS:.1f} ms |",
        f"| the same for the whole pool | {alone:.1f} core hours |",
        f"| cores that keep the GPU busy | {PICTURE_MS / slow:.1f} to {PICTURE_MS / fast:.1f} |",
        f"| hours for the pool with these cores | {hours[0]:.2f} to {hours[1]:.2f} |",
        f"| hours if one core prepares while the GPU works | {alone:.2f} |",
        f"| hours if one process does both in turn | {alone + hours[0]:.2f} to {alone + hours[1]:.2f} |",
    ]


def memory_table() -> list[str]:
    """Return the lines about weights, vectors and sums."""
    width = CONFIG.text_config.hidden_size
    needed, whole = parameters(truncated_config(CONFIG), head=False), parameters(CONFIG, head=True)
    return [
        "| what | size |",
        "|---|---|",
        f"| weights read and held, bfloat16 | {2 * needed / 1e9:.2f} GB of {2 * whole / 1e9:.2f} GB |",
        f"| vectors on disk, float32, {SAMPLES:,} x {width:,} | {4 * SAMPLES * width / 1e9:.2f} GB |",
        f"| scatter matrix, float64, {width:,} x {width:,} | {8 * width**2 / 1e9:.2f} GB |",
    ]


def main() -> None:
    """Print the tables of `docs/time-and-memory.md`."""
    for lines in (gpu_table(), processor_table(), memory_table()):
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
