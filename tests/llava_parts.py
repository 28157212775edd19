"""Tiny parts of a LLaVA, each in the file layout in which its project publishes it: Vicuna, CLIP, LLaVA's projector."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from tiny_llava import spread_weights, train_llama_tokenizer
from tiny_vlms import TEXTS

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, VISION_HIDDEN, SIDE, PATCH = 64, 48, 84, 14
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
# As openai/clip-vit-large-patch14-336 has it, with its older names and a size that is one number.
PREPROCESSOR = {
    "crop_size": SIDE,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": MEAN,
    "image_std": STD,
    "resample": 3,
    "size": SIDE,
}


@dataclass(frozen=True)
class Parts:
    """Folders and file of the parts, and the models they were saved from."""

    language_model: Path
    vision_tower: Path
    projector: Path
    llama: LlamaForCausalLM
    clip: CLIPModel
    mm_projector: dict[str, torch.Tensor]

    def words(self, output: Path, **other: Path) -> list[str]:
        """Return the words of the command, with other parts where they are given."""
        given = {name: getattr(self, name) for name in ("language_model", "vision_tower", "projector")} | other
        options = [word for name, path in given.items() for word in (f"--{name.replace('_', '-')}", str(path))]
        return ["compose-llava", *options, "--output", str(output)]


def build_parts(folder: Path, *, dtype: torch.dtype = torch.float32, tied: bool = False) -> Parts:
    tokenizer = _vicuna_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=4096,
        pad_token_id=0,
        tie_word_embeddings=tied,
    )
    llama = LlamaForCausalLM(config).to(dtype)
    spread_weights(llama, 1)
    tower = CLIPVisionConfig(
        image_size=SIDE,
        patch_size=PATCH,
        num_hidden_layers=3,
        hidden_size=VISION_HIDDEN,
        intermediate_size=2 * VISION_HIDDEN,
        num_attention_heads=4,
    )
    text_side = CLIPTextConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    clip = CLIPModel(CLIPConfig(vision_config=tower.to_dict(), text_config=text_side.to_dict()))
    spread_weights(clip.vision_model, 2)
    generator = torch.Generator().manual_seed(3)
    shapes = {"0.weight": (HIDDEN, VISION_HIDDEN), "0.bias": (HIDDEN,), "2.weight": (HIDDEN,) * 2, "2.bias": (HIDDEN,)}
    mm_projector = {
        f"model.mm_projector.{name}": torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        for name, shape in shapes.items()
    }
    parts = Parts(folder / "vicuna", folder / "clip", folder / "mm_projector.bin", llama, clip, mm_projector)
    for place in (parts.language_model, parts.vision_tower):
        place.mkdir(parents=True)
    tokenizer.save_pretrained(parts.language_model)
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = str(dtype).removeprefix("torch.")
    config.save_pretrained(parts.language_model)
    save_vicuna(parts, "sharded bin")
    save_clip(parts, "bin")
    torch.save(mm_projector, parts.projector)
    return parts


def _vicuna_tokenizer():
    """Return a Llama tokenizer that knows neither `<image>` nor `<pad>`."""
    model = json.loads(train_llama_tokenizer(TEXTS, 700).backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return LlamaTokenizer(
        vocab=model["vocab"], merges=merges, legacy=False, add_bos_token=True, model_max_length=4096, pad_token="<unk>"
    )


def save_vicuna(parts: Parts, layout: str) -> None:
    """Write the weights of the language model: `bin`, `old bin`, `safetensors`, or two `sharded` files of one kind."""
    for file in [*parts.language_model.glob("*.bin*"), *parts.language_model.glob("*.safetensors*")]:
        file.unlink()
    state = {name: value.detach().clone() for name, value in parts.llama.state_dict().items()}
    if parts.llama.config.tie_word_embeddings:
        del state["lm_head.weight"]
    for layer in range(3):  # a buffer that files of that time hold
        state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.arange(8.0)
    kind = layout.removeprefix("sharded ").removeprefix("old ")
    stem = {"bin": "pytorch_model", "safetensors": "model"}[kind]

    def save(content, path):
        if kind == "safetensors":
            save_file(content, path, metadata={"format": "pt"})
        else:
            torch.save(content, path, _use_new_zipfile_serialization=not layout.startswith("old"))

    if not layout.startswith("sharded"):
        save(state, parts.language_model / f"{stem}.{kind}")
        return
    early = {name for name in state if "embed_tokens" in name or "layers.0" in name or "layers.1.mlp" in name}
    files = {name: f"{stem}-0000{1 if name in early else 2}-of-00002.{kind}" for name in state}
    for file in set(files.values()):
        save({name: state[name] for name in state if files[name] == file}, parts.language_model / file)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (parts.language_model / f"{stem}.{kind}.index.json").write_text(json.dumps(index))


def save_clip(parts: Parts, layout: str) -> None:
    """Write the vision tower: `bin`, the whole CLIP; `tower`, its vision side alone, with or without the prefix."""
    folder = parts.vision_tower
    for file in folder.iterdir():
        file.unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    state = dict(parts.clip.state_dict())
    if layout == "bin":
        parts.clip.config.save_pretrained(folder)
        state["vision_model.embeddings.position_ids"] = torch.arange((SIDE // PATCH) ** 2 + 1)[None]
        torch.save(state, folder / "pytorch_model.bin")
        return
    parts.clip.config.vision_config.save_pretrained(folder)
    prefix = "vision_model."
    tower = {name: value for name, value in state.items() if name.startswith(prefix)}
    if layout == "tower without prefix":
        tower = {name.removeprefix(prefix): value for name, value in tower.items()}
    save_file(tower, folder / "model.safetensors", metadata={"format": "pt"})


def assembled(parts: Parts, tokenizer) -> LlavaForConditionalGeneration:
    """Put the parts' own modules into one LLaVA in memory, as the second road."""
    rows = 64 * math.ceil((parts.llama.config.vocab_size + 2) / 64)
    text = LlamaConfig(**{**parts.llama.config.to_dict(), "vocab_size": rows})
    config = LlavaConfig(
        vision_config=parts.clip.config.vision_config,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
        tie_word_embeddings=text.tie_word_embeddings,
    )
    model = LlavaForConditionalGeneration(config).float()
    llama = {name: _grown(name, value.float(), rows) for name, value in parts.llama.state_dict().items()}
    inner = model.model
    inner.language_model.load_state_dict(
        {name.removeprefix("model."): value for name, value in llama.items() if name != "lm_head.weight"}
    )
    model.lm_head.load_state_dict({"weight": llama["lm_head.weight"]})
    inner.vision_tower.load_state_dict(parts.clip.vision_model.state_dict())
    first, second = inner.multi_modal_projector.linear_1, inner.multi_modal_projector.linear_2
    for linear, number in ((first, 0), (second, 2)):
        names = {kind: f"model.mm_projector.{number}.{kind}" for kind in ("weight", "bias")}
        linear.load_state_dict({kind: parts.mm_projector[name] for kind, name in names.items()})
    return model.eval()


def _grown(name, tensor, rows):
    """Add rows to a table with one row a token; what stands in them must not matter."""
    if name not in {"model.embed_tokens.weight", "lm_head.weight"}:
        return tensor
    return torch.cat([tensor, torch.zeros(rows - tensor.shape[0], tensor.shape[1])])
