"""Language models whose attention is special, in a LLaVA checkpoint: rows agree with the full eager model."""

import pytest
from PIL import Image
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from conversations import as_samples, sample_conversations
from direct_reference import agreement, load_reference, reference_row
from families.family import chatml_template, save, text_config, tokenizer_with
from scalselect.config import RepresentConfig
from scalselect.vlm import first_layer
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings

_LONG = 4096  # more than any sequence here
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 4}
STRUCTURES = {
    "softcap": {"model_type": "gemma2", **_GEMMA, "attn_logit_softcapping": 8.0, "sliding_window": _LONG},
    "softcap and window": {"model_type": "gemma2", **_GEMMA, "attn_logit_softcapping": 8.0, "sliding_window": 40},
    "sinks": {"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 4, "sliding_window": _LONG},
    "sinks and window": {"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 4, "sliding_window": 40},
    "window": {"model_type": "mistral", "head_dim": 16, "sliding_window": 40},
    "local layers": {"model_type": "gemma3_text", **_GEMMA, "sliding_window": 40},
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
    monkeypatch.setattr(first_layer, "_SCORE_BYTES", 4 * 4 * 200 * 16)  # a few pieces a sample
    for batch, side in [(1, "right"), (3, "left"), (3, "right")]:
        found = represent(checkpoint, samples, batch, side)
        kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected, strict=True)]
        assert "different" not in kinds, (batch, side, kinds)
        assert kinds.count("flipped") <= 0.1 * len(kinds)
        assert [row.uniform for row in found] == [reference.uniform for reference in expected]
    assert min(len(row.kept) / len(row.vision_positions) for row in expected) < 0.9  # the cut is exercised


@pytest.mark.parametrize("structure", ["window", "softcap and window", "sinks and window", "local layers"])
def test_a_window_that_hides_the_image_makes_rows_uniform(folders, tmp_path, pictures, structure):
    """With a window of 5 tokens some instructions see the image's end, and others stand too far behind it."""
    folder = build(tmp_path, **{**STRUCTURES[structure], "sliding_window": 5})
    samples = as_samples(sample_conversations(), pictures)
    model, processor = load_reference(folder)
    expected = [reference_row(model, processor, TEMPLATE_OF, sample) for sample in samples]
    found = represent(load(folder), samples, 3, "left")
    kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected, strict=True)]
    assert "different" not in kinds
    assert [row.uniform for row in found] == [reference.uniform for reference in expected]


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
