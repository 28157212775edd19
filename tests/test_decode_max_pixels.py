"""`--decode-max-pixels` lowers and raises what is decoded, in a run and in a check, and is a key of the run."""

import json

import pytest
from PIL import Image

from small_pools import command, record, scores_of


@pytest.fixture
def pool(tmp_path):
    """Write four rows: pictures of 40 x 30, and the last of 60 x 50 pixels."""
    for number, size in enumerate([(40, 30)] * 3 + [(60, 50)]):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / f"{number}.png")
    path = tmp_path / "pool.json"
    path.write_text(json.dumps([record(n, f"{n}.png") for n in range(4)]))
    return path


def run(pool, model, *options):
    words = ["--model", model, "--budget", 2, "--output", pool.parent / "run", "--max-skipped", "100%"]
    return command("run", pool, *words, *options)


@pytest.mark.parametrize(("limit", "skipped"), [(1199, 4), (1200, 1), (2999, 1), (3000, 0)])
def test_run_skips_what_has_more_pixels(pool, checkpoints, monkeypatch, limit, skipped):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow's own would refuse all
    code = run(pool, checkpoints("qwen2_5_vl"), "--decode-max-pixels", limit)
    if skipped == 4:
        assert code != 0  # nothing to choose from
        return
    assert code == 0
    found = scores_of(pool.parent / "run")
    assert found["reason"] == [None] * (4 - skipped) + ["image_too_large"] * skipped
    assert json.loads((pool.parent / "run/run.json").read_text())["represent"]["decode_max_pixels"] == limit


def test_continuing_with_another_limit_is_refused(pool, checkpoints, capsys):
    assert run(pool, checkpoints("qwen2_5_vl"), "--decode-max-pixels", 3000) == 0
    assert run(pool, checkpoints("qwen2_5_vl"), "--decode-max-pixels", 2000) == 2
    assert "decode_max_pixels" in capsys.readouterr().err


def test_padded_square_keeps_the_limit(pool, checkpoints):
    words = ("--image-fit", "pad", "--decode-max-pixels", 1600)
    assert run(pool, checkpoints("llava"), *words) == 0  # 40 x 40, and 60 x 50
    assert scores_of(pool.parent / "run")["reason"] == [None] * 3 + ["image_too_large"]
    (pool.parent / "other").mkdir()
    assert run(pool, checkpoints("llava"), *words[:3], 3000, "--output", pool.parent / "other") == 0
    assert scores_of(pool.parent / "other")["reason"] == [None] * 3 + ["image_too_large"]  # 60 x 60 = 3600
    assert run(pool, checkpoints("llava"), *words[:3], 3600, "--output", pool.parent / "third") == 0
    assert scores_of(pool.parent / "third")["reason"] == [None] * 4


@pytest.mark.parametrize(("limit", "code"), [(2999, 1), (3000, 0)])
def test_check_tells_what_has_more_pixels(pool, monkeypatch, capsys, limit, code):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert command("check", pool, "--decode-max-pixels", limit, "--dataloader-workers", 0) == code
    told = "60 x 50 pixels, more than 2,999 (--decode-max-pixels)"
    assert (told in " ".join(capsys.readouterr().out.split())) == bool(code)


def test_check_without_decoding_refuses_the_limit(pool, capsys):
    assert command("check", pool, "--decode", "off", "--decode-max-pixels", 9) == 2
    assert "decode_max_pixels has no effect where no image is decoded" in capsys.readouterr().err
