"""Rows of further families agree with the full model: eager attention, all layers, batches padded on either side."""

import dataclasses
from pathlib import Path

import pytest
import transformers
from PIL import Image
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from conversations import as_samples, sample_conversations, single_questions
from direct_reference import agreement
from families import FAMILIES
from families.table import PAGE, page_with_table
from scalselect.config import RepresentConfig
from scalselect.errors import OptionError
from scalselect.records import TextPart
from scalselect.vlm.batches import can_be_stacked
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.image_reuse import ImageFeatureCache
from scalselect.vlm.refusals import TESTED_FAMILIES
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings

TAKE_PIXEL_LIMITS = ("paddleocr_vl", "qwen2_vl", "qwen3_vl_moe", "video_llama_3")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def samples_for(family, pictures):
    return as_samples(single_questions() if FAMILIES[family].one_question else sample_conversations(), pictures)


def prepare(checkpoint, samples):
    return [
        checkpoint.preparer.prepare(sample, [Image.open(image.path).convert("RGB") for image in sample.images])
        for sample in samples
    ]


def represent(checkpoint, prepared, batch, side):
    results = []
    for start in range(0, len(prepared), batch):
        found, splits = represent_samples(checkpoint, prepared[start : start + batch], Pooling(), padding_side=side)
        assert splits == 0
        results += found
    return results


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """Return each family in turn, for all tests of it, which share what the full model gave."""
    return request.param


def test_rows_agree(reference, rehearsed, pictures, family):
    samples, layer = samples_for(family, pictures), FAMILIES[family].layer
    expected = [reference(family, sample, layer) for sample in samples]
    checkpoint = rehearsed(family, layer=layer)
    assert checkpoint.batches == FAMILIES[family].batches
    prepared = prepare(checkpoint, samples)
    for one, row in zip(prepared, expected, strict=True):
        assert one.instruction.tolist() == row.instruction_positions.tolist()
        assert one.vision.tolist() == row.vision_positions.tolist()
    assert sum(len(row.instruction_positions) > 0 for row in expected) == len(expected) - 1  # one has no user text
    assert min(len(row.kept) / len(row.vision_positions) for row in expected) < 0.8  # the cut is exercised
    for batch, side in [(1, "right"), (3, "left"), (3, "right")]:
        found = represent(checkpoint, prepared, batch, side)
        kinds = [agreement(row.kept, row.vector, other) for row, other in zip(found, expected, strict=True)]
        assert "different" not in kinds, (batch, side, kinds)
        assert kinds.count("flipped") <= 0.1 * len(kinds)
        assert [row.uniform for row in found] == [row.uniform for row in expected]


def test_the_other_instruction_and_shared_images_agree(reference, rehearsed, pictures, family):
    samples, layer = samples_for(family, pictures), FAMILIES[family].layer
    checkpoint = rehearsed(family, instruction_tokens="non-assistant", layer=layer)
    prepared = [
        dataclasses.replace(one, images=tuple(image.path for image in sample.images))
        for one, sample in zip(prepare(checkpoint, samples), samples, strict=True)
    ]
    cache, found = ImageFeatureCache(), []
    for start in range(0, len(prepared), 4):
        found += represent_samples(checkpoint, prepared[start : start + 4], Pooling(), cache=cache)[0]
    for row, sample in zip(found, samples, strict=True):
        expected = reference(family, sample, layer, instruction_tokens="non-assistant")
        assert agreement(row.kept, row.vector, expected) != "different"


@pytest.mark.parametrize("family", TAKE_PIXEL_LIMITS)
def test_pixel_limits_are_taken(loaded, pictures, family):
    samples = as_samples(sample_conversations()[:1], pictures)
    limits = {"image_min_pixels": 28**2, "image_max_pixels": 6 * 28**2}
    assert len(prepare(loaded(family, **limits), samples)[0].vision) < len(prepare(loaded(family), samples)[0].vision)


@pytest.mark.parametrize(
    ("family", "told_by"),
    [
        ("llava_next", "image_sizes"),
        ("llava_onevision", "image_sizes"),
        ("mistral3", "image_sizes"),
        ("idefics2", "pixel_attention_mask"),
        ("idefics3", "pixel_attention_mask"),
        ("smolvlm", "pixel_attention_mask"),
    ],
)
def test_pixels_of_different_shape_share_a_batch_only_where_the_model_cuts_padding_off(
    checkpoints, loaded, pictures, family, told_by
):
    prepared = prepare(loaded(family), as_samples(sample_conversations(), pictures))[:3]
    assert len({sample.inputs["pixel_values"].shape[1:] for sample in prepared}) > 1
    assert can_be_stacked(prepared)
    for sample in prepared:
        del sample.inputs[told_by]
    assert not can_be_stacked(prepared)


def test_a_placeholder_that_is_no_token_of_the_model_is_defused_in_texts(loaded, pictures):
    checkpoint = loaded("qianfan_ocr")
    sample = as_samples(sample_conversations()[:1], pictures)[0]
    plain = prepare(checkpoint, [sample])[0]
    turns = (
        dataclasses.replace(sample.turns[0], parts=(*sample.turns[0].parts, TextPart(" <image> "))),
        *sample.turns[1:],
    )
    spelt = prepare(checkpoint, [dataclasses.replace(sample, turns=turns)])[0]
    assert (plain.escaped, spelt.escaped) == (0, 1)
    assert len(spelt.vision) == len(plain.vision)


def test_the_page_says_whether_pixel_limits_are_taken(checkpoints, family):
    name = "with a Pixtral tower" if family == "pixtral" else f"| `{family}`"
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if name in line)
    path, config = checkpoints(family), RepresentConfig(image_max_pixels=10**5, layer=FAMILIES[family].layer)
    settings = resolve_settings(config, path, None)
    if row.endswith("| taken |"):
        load_checkpoint(path, config, settings)
    else:
        assert "| refused" in row
        with pytest.raises(OptionError, match="no effect"):
            load_checkpoint(path, config, settings)


def test_every_family_called_tested_is_compared_with_the_full_model():
    model_types = {family.model_type or name for name, family in FAMILIES.items()}
    known = {name for name in TESTED_FAMILIES if name in CONFIG_MAPPING and CONFIG_MAPPING[name] in MODEL_MAPPING}
    assert known == {"llava", "qwen2_5_vl", "qwen3_vl", *model_types}


@pytest.mark.skipif(
    f"transformers=={transformers.__version__}" not in CONSTRAINTS.read_text(encoding="utf-8").split(),
    reason="the table is that of the transformers version in constraints.txt, another one knows other families",
)
def test_the_page_of_families_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_table(page) == page, "run `python tests/families/table.py`"
