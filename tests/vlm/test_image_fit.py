"""Pictures padded to a square: pixel for pixel, through the processor, and in whole runs."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from conversations import as_samples, sample_conversations
from scalselect.config import RepresentConfig
from scalselect.errors import ModelError, OptionError, SampleError
from scalselect.representation_store import RepresentationStore
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.image_fit import declared_image_fit, mean_colour, padded_to_square
from scalselect.vlm.settings import resolve_settings
from small_pools import command, scores_of, write_pool

COLOUR = (122, 116, 104)  # CLIP's mean: 0.48145466, 0.4578275, 0.40821073
SIZES = [(9, 4), (4, 9), (8, 3), (3, 8), (1, 200), (5, 5)]


def noise(width, height):
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def plainly_padded(picture, mean):
    """Write every pixel by hand: the picture in the middle, the mean colour elsewhere."""
    pixels = np.asarray(picture)
    height, width, _ = pixels.shape
    side = max(height, width)
    square = np.empty((side, side, 3), dtype=np.uint8)
    down, across = (side - height) // 2, (side - width) // 2
    for y in range(side):
        for x in range(side):
            inside = 0 <= y - down < height and 0 <= x - across < width
            square[y, x] = pixels[y - down, x - across] if inside else [int(channel * 255) for channel in mean]
    return square


def load(path, **options):
    config = RepresentConfig(**options)
    return load_checkpoint(path, config, resolve_settings(config, path, None))


def copied(checkpoint, folder, **facts):
    """Copy a checkpoint and change fields of its configuration."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | facts))
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_every_pixel(checkpoints, size):
    image_processor = AutoProcessor.from_pretrained(checkpoints("llava")).image_processor
    assert mean_colour(image_processor) == COLOUR
    padded = padded_to_square(noise(*size), COLOUR)
    assert padded.mode == "RGB"
    assert np.array_equal(np.asarray(padded), plainly_padded(noise(*size), image_processor.image_mean))


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
@pytest.mark.parametrize("size", [(120, 80), (64, 113), (96, 96)])
def test_the_processor_is_given_the_padded_picture(loaded, checkpoints, pictures, family, size):
    sample = as_samples(sample_conversations()[:1], pictures)[0]
    picture = noise(*size)
    found = loaded(family, image_fit="pad").preparer.prepare(sample, [picture]).inputs["pixel_values"]
    image_processor = AutoProcessor.from_pretrained(checkpoints(family)).image_processor
    square = Image.fromarray(plainly_padded(picture, image_processor.image_mean))
    assert torch.equal(found, image_processor(images=[square], return_tensors="pt")["pixel_values"])
    unpadded = loaded(family).preparer.prepare(sample, [picture]).inputs["pixel_values"]
    same = unpadded.shape == found.shape and torch.equal(unpadded, found)
    assert same == (size[0] == size[1])


def test_a_square_that_would_not_fit_into_memory_is_refused():
    strip = Image.new("RGB", (13_500, 70))
    with pytest.raises(SampleError, match="image_too_large: 13500 x 70 pixels, padded to a square 182,250,000"):
        padded_to_square(strip, COLOUR)
    assert padded_to_square(Image.new("RGB", (200, 70)), COLOUR).size == (200, 200)


def test_square_keeps_the_limit_of_decoding():
    picture = Image.new("RGB", (20, 7))
    assert padded_to_square(picture, COLOUR, 400).size == (20, 20)
    with pytest.raises(SampleError, match=r"padded to a square 400, more than 399 \(--decode-max-pixels\)"):
        padded_to_square(picture, COLOUR, 399)


def test_auto_is_what_the_checkpoint_says(checkpoints, tmp_path):
    padding = copied(checkpoints("llava"), tmp_path / "padding", scalselect_image_fit="pad")
    model = AutoModelForImageTextToText.from_pretrained(padding)
    for path, fit in ((padding, "pad"), (model, "pad"), (checkpoints("llava"), "processor")):
        assert resolve_settings(RepresentConfig(), path, None).image_fit == fit
        for asked in ("processor", "pad"):
            assert resolve_settings(RepresentConfig(image_fit=asked), path, None).image_fit == asked
    recorded = {"dtype": "float32", "threads": 1, "max_rows": 3, "batch_tokens": 99, "image_fit": "processor"}
    assert resolve_settings(RepresentConfig(), padding, recorded).image_fit == "processor"
    assert declared_image_fit(model.config) == "pad"


def test_what_cannot_be_padded_or_understood_is_refused(checkpoints, tmp_path):
    with pytest.raises(ModelError, match="scalselect_image_fit is neither `processor` nor `pad`: 'crop'"):
        load(copied(checkpoints("llava"), tmp_path / "odd", scalselect_image_fit="crop"))
    folder = shutil.copytree(checkpoints("llava"), tmp_path / "meanless")
    facts = json.loads((folder / "processor_config.json").read_text())
    facts["image_processor"] |= {"image_mean": [0.5]}
    (folder / "processor_config.json").write_text(json.dumps(facts))
    with pytest.raises(OptionError, match="tells no mean colour"):
        load(folder, image_fit="pad")


def test_padding_reaches_a_run_and_its_record(tmp_path, pictures, checkpoints, capsys):
    data = write_pool(tmp_path, pictures)  # pictures 96 x 96, 120 x 80 and 64 x 112 in turn
    padding = copied(checkpoints("llava"), tmp_path / "padding", scalselect_image_fit="pad")

    def vectors(name, model, *options):
        out = tmp_path / name
        assert command("represent", data, "--model", model, "--output", out, *options) == 0
        fit = json.loads((out / "run.json").read_text())["represent"]["image_fit"]
        return fit, RepresentationStore(out / "representations").representations(0)[1]

    fit, plain = vectors("plain", checkpoints("llava"))
    assert fit == "processor"
    fit, padded = vectors("padded", checkpoints("llava"), "--image-fit", "pad")
    assert fit == "pad"
    changed = np.abs(padded - plain).max(axis=1) > 1e-3
    assert changed.tolist() == [False, True, True] * 4
    fit, automatic = vectors("auto", padding)
    assert fit == "pad"
    assert np.array_equal(automatic, padded)
    assert vectors("auto", padding)[0] == "pad"  # continued
    words = ["represent", data, "--model", padding, "--output", tmp_path / "auto", "--image-fit", "processor"]
    assert command(*words) == 2
    assert "image_fit: 'pad' in the run folder, 'processor' in this call" in capsys.readouterr().err


def test_a_picture_too_long_to_be_padded_costs_its_own_row_only(tmp_path, pictures, checkpoints):
    strip = tmp_path / "strip.png"
    Image.new("RGB", (13_500, 70)).save(strip)
    data = write_pool(tmp_path, [pictures[0], strip, pictures[2]], rows=3)
    out = tmp_path / "run"
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "1", "--output", out, "--max-skipped", "60%"]
    assert command(*words, "--image-fit", "pad") == 0
    assert scores_of(out)["reason"] == [None, "image_too_large", None]
