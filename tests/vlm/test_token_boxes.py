"""The place of each vision token is where a change of the picture changes what the model's own tower makes of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from families import FAMILIES
from families.places_table import PAGE, page_with_table
from scalselect.config import RepresentConfig
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.first_layer import decoder_of
from scalselect.vlm.settings import resolve_settings
from scalselect.vlm.token_boxes import LAYOUTS, boxes_of_tokens
from small_questions import question

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
MIXING = 0.02
SIZES = ((233, 117), (90, 260), (171, 171))
CLAIMED = [name for name in ("llava", "qwen2_5_vl", "qwen3_vl", *FAMILIES) if name == "pixtral" or name in LAYOUTS]


def pictures(sizes=SIZES):
    """Return pictures of unlike shape: noise on grey, so that a changed part stands out."""
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(generator.integers(110, 146, size=(height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


def turned_down(_module, _arguments, output):
    """Let tokens of the tower learn little of each other, so that each remains what its own pixels make of it."""
    if isinstance(output, tuple):
        return (output[0] * MIXING, *output[1:])
    return output * MIXING


def mixing_modules(model):
    """Return what hands on what the tokens of the tower learn of each other, behind a norm where there is one."""
    found = []
    for module in model.modules():
        normed = (
            getattr(module, "post_attention_layernorm", None) if hasattr(module, "pre_feedforward_layernorm") else None
        )
        if normed is not None:
            found.append(normed)
        elif type(module).__name__.endswith("Attention"):
            found.append(module)
    return found


class Tower:
    """What reaches the decoder of a checkpoint at the vision tokens of a question about pictures."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def prepare(self, shown):
        return self.checkpoint.preparer.prepare(question(len(shown)), shown)

    def features(self, sample):
        """Return what the tower makes of the pictures, float32 [vision, hidden]."""
        taken = []

        def take(_module, arguments, named):
            taken.append(arguments[0] if arguments else named["hidden_states"])

        model = self.checkpoint.first_layer.model
        handles = [decoder_of(model).layers[0].register_forward_pre_hook(take, with_kwargs=True)]
        handles += [module.register_forward_hook(turned_down) for module in mixing_modules(model)]
        inputs = {name: x.float() if x.is_floating_point() else x for name, x in sample.inputs.items()}
        try:
            self.checkpoint.first_layer(inputs, [sample.instruction])
        finally:
            for handle in handles:
                handle.remove()
        return taken[0][0][sample.vision].float()

    def places(self, sample):
        return boxes_of_tokens(self.checkpoint.first_layer.model.config, self.checkpoint.preparer, sample)


def inner(box, size):
    """Return the pixels of the middle of a box, and how much of the box lies in the picture."""
    left, top, right, bottom = box
    shown = [max(0, left), max(0, top), min(1, right), min(1, bottom)]
    share = max(0, shown[2] - shown[0]) * max(0, shown[3] - shown[1]) / ((right - left) * (bottom - top))
    x, y = ((shown[0] + shown[2]) / 2, (shown[1] + shown[3]) / 2)
    half = (shown[2] - shown[0]) * 0.3, (shown[3] - shown[1]) * 0.3
    pixels = [(x - half[0]) * size[0], (y - half[1]) * size[1], (x + half[0]) * size[0], (y + half[1]) * size[1]]
    return [round(pixel) for pixel in pixels], share


def changed(picture, pixels):
    left, top, right, bottom = pixels
    array = np.asarray(picture).copy()
    part = array[top : max(bottom, top + 1), left : max(right, left + 1)]
    part[...] = np.where(np.indices(part.shape[:2]).sum(axis=0)[..., None] % 2, 255, 0)
    part[..., 0] = 255
    return Image.fromarray(array)


def tokens_to_try(places, image):
    """Return corners, edges and the middle of each view of a picture."""
    here = np.flatnonzero((places.image == image) & ~np.isnan(places.boxes[:, 0]))
    here = np.array([token for token in here if inner(places.boxes[token], (1, 1))[1] > 0.5])  # not padding
    sizes = np.round(places.boxes[here, 2:] - places.boxes[here, :2], 3)
    chosen = set()
    for kind in np.unique(sizes, axis=0):
        alike = here[(sizes == kind).all(axis=1)]
        boxes = places.boxes[alike]
        for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            chosen.add(int(alike[np.argmax(x * boxes[:, 0] + y * boxes[:, 1])]))
        chosen.add(int(alike[len(alike) // 2]))
    return sorted(chosen)


def ranks_of_changes(tower, shown):
    """Yield, for some tokens, how many tokens of their view changed more than they when their part was changed."""
    sample = tower.prepare(shown)
    places, before = tower.places(sample), tower.features(sample)
    assert places.unknown is None
    sizes = np.round(places.boxes[:, 2:] - places.boxes[:, :2], 3)
    for image, picture in enumerate(shown):
        for token in tokens_to_try(places, image):
            pixels, _ = inner(places.boxes[token], picture.size)
            others = [*shown[:image], changed(picture, pixels), *shown[image + 1 :]]
            after = tower.features(tower.prepare(others))
            change = torch.linalg.vector_norm(after - before, dim=1).numpy()
            alike = (sizes == sizes[token]).all(axis=1)  # the picture as a whole changes as well, where it is shown
            yield token, image, int((change[alike] > change[token]).sum())


def wrong_places(tower, shown, least=12):
    """Return the tokens that were not the ones whose part of a picture was changed."""
    with torch.inference_mode():
        tried = list(ranks_of_changes(tower, shown))
    assert len(tried) >= least
    return [(token, image) for token, image, rank in tried if rank]


@pytest.mark.parametrize("family", CLAIMED)
def test_the_token_whose_part_is_changed_changes_most(loaded, family):
    layer = FAMILIES[family].layer if family in FAMILIES else 0
    assert wrong_places(Tower(loaded(family, layer=layer)), pictures()) == []


@pytest.mark.parametrize("family", ["internvl", "llama4", "ovis2", "idefics3"])
def test_pictures_that_are_not_cut(loaded, family):
    assert wrong_places(Tower(loaded(family)), pictures([(56, 56), (48, 48)]), least=8) == []


@pytest.mark.parametrize("family", ["llava", "internvl"])
def test_pictures_padded_to_a_square(loaded, family):
    tower = Tower(loaded(family, image_fit="pad"))
    boxes = tower.places(tower.prepare(pictures())).boxes
    assert boxes.min() < -0.4  # what is padded lies outside
    assert boxes.max() > 1.4
    assert wrong_places(tower, pictures()) == []


def test_onevision_scales_down_what_has_too_many_tokens(checkpoints):
    config = RepresentConfig()
    path = checkpoints("llava_onevision")
    checkpoint = load_checkpoint(path, config, resolve_settings(config, path, None))
    processor = checkpoint.preparer._processor
    pinpoints = [[112, 112], [112, 224], [224, 112]]
    for owner in (checkpoint.first_layer.model.config, processor.image_processor):
        owner.image_grid_pinpoints = pinpoints
    for owner in (checkpoint.first_layer.model.config, processor):
        owner.vision_aspect_ratio = "anyres_max_2"
    tower = Tower(checkpoint)
    shown = pictures([(233, 117), (117, 233)])
    assert 2 * (16 + 32) < len(tower.prepare(shown).vision) < 2 * (16 + 60)
    assert wrong_places(tower, shown) == []


def test_a_wrong_place_is_seen(loaded, monkeypatch):
    whole = LAYOUTS["qwen2_5_vl"]
    monkeypatch.setitem(LAYOUTS, "qwen2_5_vl", lambda seen: [boxes[:, [1, 0, 3, 2]] for boxes in whole(seen)])
    assert len(wrong_places(Tower(loaded("qwen2_5_vl")), pictures())) > 6


def test_a_family_whose_places_are_not_known(loaded):
    tower = Tower(loaded("idefics2"))
    sample = tower.prepare(pictures())
    places = tower.places(sample)
    assert "`idefics2`" in places.unknown
    assert set(places.image) == {-1}
    assert places.boxes.shape == (len(sample.vision), 4)
    assert np.isnan(places.boxes).all()


def test_another_number_of_tokens_than_is_understood_is_unknown(loaded):
    tower = Tower(loaded("internvl"))
    sample = tower.prepare(pictures())
    assert tower.places(sample).unknown is None
    places = tower.places(dataclasses.replace(sample, sizes=((900, 50), *sample.sizes[1:])))
    assert "`internvl` cuts pictures in a way that is not known" in places.unknown
    assert np.isnan(places.boxes).all()


def test_a_grid_of_another_size_than_the_tokens_make_is_unknown(loaded):
    tower = Tower(loaded("qwen2_5_vl"))
    sample = tower.prepare(pictures())
    inputs = {**sample.inputs, "image_grid_thw": sample.inputs["image_grid_thw"] + torch.tensor([0, 2, 0])}
    assert tower.places(dataclasses.replace(sample, inputs=inputs)).unknown is not None


def test_gemma_that_pans_and_scans_is_unknown(checkpoints):
    config = RepresentConfig()
    path = checkpoints("gemma3")
    checkpoint = load_checkpoint(path, config, resolve_settings(config, path, None))
    checkpoint.preparer._images_kwargs = {
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": 16,
        "pan_and_scan_max_num_crops": 4,
        "pan_and_scan_min_ratio_to_activate": 1.2,
    }
    tower = Tower(checkpoint)
    sample = tower.prepare(pictures([(351, 117)]))
    assert len(sample.inputs["pixel_values"]) == 4  # whose tokens would make a square as well
    assert tower.places(sample).unknown is not None


@pytest.mark.skipif(
    f"transformers=={transformers.__version__}" not in CONSTRAINTS.read_text(encoding="utf-8").split(),
    reason="the table is that of the transformers version in constraints.txt, another one knows other families",
)
def test_the_page_names_the_families_whose_places_are_known():
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_table(page) == page, "run `python tests/families/places_table.py`"
