"""Language models whose attention is special, in a LLaVA checkpoint: rows agree with the full eager model."""

import pytest
from PIL import Image
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from conversations import Conversation, as_samples, sample_conversations
from direct_reference import agreement, load_reference, reference_row
from families.family import chatml_template, save, text_config, tokenizer_with
from scalselect.config import RepresentConfig
from scalselect.records import ImagePart, TextPart, Turn
from scalselect.vlm import attention_capture
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings

_LONG = 4096  # more than any sequence here
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 4}
_GPT_OSS = {"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 4}
_GEMMA4 = {"model_type": "gemma4_text", "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 0}
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
STRUCTURES = {
    "softcap": {"model_type": "gemma2", **_GEMMA, "attn_logit_softcapping": 8.0, "sliding_window": _LONG},
    "softcap and window": {"model_type": "gemma2", **_GEMMA, "attn_logit_softcapping": 8.0, "sliding_window": 40},
    "sinks": {**_GPT_OSS, "sliding_window": _LONG},
    "sinks and window": {**_GPT_OSS, "sliding_window": 40},
    "window": {"model_type": "mistral", "head_dim": 16, "sliding_window": 40},
    "local layers": {"model_type": "gemma3_text", **_GEMMA, "sliding_window": 40},
    "chunks": {
        "model_type": "llama4_text",
        "head_dim": 16,
        "intermediate_size_mlp": 128,
        "num_local_experts": 4,
        "attention_chunk_size": 48,
    },
    "keys are values": {
        **_GEMMA4,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "layer_types": [_GLOBAL, _GLOBAL, _GLOBAL],
        "sliding_window": 40,
    },
    "shared keys": {
        **_GEMMA4,
        "num_kv_shared_layers": 1,
        "use_double_wide_mlp": True,
        "layer_types": [_LOCAL, _GLOBAL, _GLOBAL],
        "sliding_window": 40,
    },
    "experts beside the MLP": {
        **_GEMMA4,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
        "sliding_window": 40,
    },
}
TEMPLATE_OF = "llava_next"  # the template below has this family's delimiters


def build(folder, **text):
    tokenizer = tokenizer_with("<image>")
    config = LlavaConfig(
        text_config={**text_config(tokenizer, text.pop("model_type")), **text},
        vision_config={
            "model_type": "clip_vision_model",
            "image_size": 84,
            "patch_size": 14,
            "num_hidden_layers": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "projection_dim": 32,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=36,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 84}, crop_size={"height": 84, "width": 84}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chatml_template("<image>\\n", images_first=True),
    )
    return save(LlavaForConditionalGeneration(config), processor, folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    built = {}

    def folder(structure):
        if structure not in built:
            built[structure] = build(tmp_path_factory.mktemp("structure"), **STRUCTURES[structure])
        return built[structure]

    return folder


def load(path, **options):
    config = RepresentConfig(**options)
    return load_checkpoint(path, config, resolve_settings(config, path, None))


def represent(checkpoint, samples, batch, side):
    prepared = [
        checkpoint.preparer.prepare(sample, [Image.open(image.path).convert("RGB") for image in sample.images])
        for sample in samples
    ]
    found = []
    for start in range(0, len(prepared), batch):
        found += represent_samples(checkpoint, prepared[start : start + batch], Pooling(), padding_side=side)[0]
    return found


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("layer", [0, 1])
def test_rows_agree(folders, pictures, structure, layer, monkeypatch):
    samples = as_samples(sample_conversations(), pictures)
    model, processor = load_reference(folders(structure))
    expected = [reference_row(model, processor, TEMPLATE_OF, sample, layer=layer) for sample in samples]
    checkpoint = load(folders(structure), layer=layer)
    monkeypatch.setattr(attention_capture, "_SCORE_BYTES", 4 * 4 * 200 * 16)  # a few pieces a sample
    for batch, side in [(1, "right"), (3, "left"), (3, "right")]:
        found = represent(checkpoint, samples, batch, side)
        kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected, strict=True)]
        assert "different" not in kinds, (batch, side, kinds)
        assert kinds.count("flipped") <= 0.1 * len(kinds)
        assert [row.uniform for row in found] == [reference.uniform for reference in expected]
    assert min(len(row.kept) / len(row.vision_positions) for row in expected) < 0.9  # the cut is exercised


@pytest.mark.parametrize("structure", ["window", "softcap and window", "sinks and window", "local layers", "chunks"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_row_whose_question_stands_beyond_the_window_is_uniform(folders, pictures, structure, batch):
    near = (Turn("user", (ImagePart(0), TextPart("What is it?"))), Turn("assistant", (TextPart("A shape."),)))
    far = (
        Turn("user", (ImagePart(0),)),
        Turn("assistant", (TextPart("A circle, a square and a triangle. " * 9),)),
        Turn("user", (TextPart("Which?"),)),
    )
    samples = as_samples([Conversation(name, turns) for name, turns in (("near", near), ("far", far))], pictures)
    model, processor = load_reference(folders(structure))
    found = represent(load(folders(structure)), samples, batch, "left")
    assert [row.uniform for row in found] == [False, True]
    for row, sample in zip(found, samples, strict=True):
        assert agreement(row.kept, row.vector, reference_row(model, processor, TEMPLATE_OF, sample)) != "different"


@pytest.mark.parametrize(
    ("structure", "change"),
    [
        ("softcap", {"attn_logit_softcapping": None}),
        ("softcap", {"attn_logit_softcapping": 9.0}),
        ("window", {"sliding_window": None}),
        ("window", {"sliding_window": 39}),
        ("local layers", {"sliding_window": 39}),
    ],
)
def test_another_cap_or_window_is_noticed(folders, pictures, structure, change):
    """The comparison above can fail."""
    samples = as_samples(sample_conversations(), pictures)
    model, processor = load_reference(folders(structure))
    checkpoint = load(folders(structure))
    text = checkpoint.first_layer.model.get_decoder()
    for name, value in change.items():
        setattr(text.config, name, value)
    attention = text.layers[0].self_attn
    attention.attn_logit_softcapping = getattr(text.config, "attn_logit_softcapping", None)
    found = represent(checkpoint, samples, 3, "right")
    kinds = [
        agreement(row.kept, row.vector, reference_row(model, processor, TEMPLATE_OF, sample))
        for row, sample in zip(found, samples, strict=True)
    ]
    assert "different" in kinds


def test_other_sinks_are_noticed(folders, pictures):
    samples = as_samples(sample_conversations(), pictures)
    model, processor = load_reference(folders("sinks"))
    checkpoint = load(folders("sinks"))
    checkpoint.first_layer.model.get_decoder().layers[0].self_attn.sinks.data.add_(3.0)
    found = represent(checkpoint, samples, 3, "right")
    kinds = [
        agreement(row.kept, row.vector, reference_row(model, processor, TEMPLATE_OF, sample))
        for row, sample in zip(found, samples, strict=True)
    ]
    assert kinds.count("different") == len(kinds)
