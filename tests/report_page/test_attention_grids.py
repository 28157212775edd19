"""Attention over a picture: cells in place of tokens, and words."""

from __future__ import annotations

import numpy as np
import pytest

from scalselect.explanations_file import Explanation
from scalselect.report_page.attention_grids import MOST_CELLS, attention_grids, attention_words


def lattice(across, down, left=0.0, top=0.0, right=1.0, bottom=1.0):
    """Return boxes of tokens side by side, row by row, float32 [tokens, 4]."""
    y, x = np.divmod(np.arange(across * down), across)
    width, height = (right - left) / across, (bottom - top) / down
    sides = [left + x * width, top + y * height, left + (x + 1) * width, top + (y + 1) * height]
    return np.stack(sides, axis=1).astype(np.float32)


def explanation(attention, boxes, kept=None, image=None):
    attention = np.asarray(attention, dtype=np.float32)
    kept = np.ones(attention.size, dtype=np.bool_) if kept is None else np.asarray(kept, dtype=np.bool_)
    image = np.zeros(attention.size, dtype=np.int32) if image is None else np.asarray(image, dtype=np.int32)
    return Explanation(row=0, attention=attention, kept=kept, image=image, boxes=np.asarray(boxes, dtype=np.float32))


def shares(count, seed=0):
    values = np.random.default_rng(seed).random(count)
    return values / values.sum()


def test_tokens_side_by_side_are_cells_of_their_own():
    attention = shares(24 * 17)
    kept = attention > np.median(attention)
    (grid,) = attention_grids(explanation(attention, lattice(24, 17), kept), 1)
    assert grid.area == pytest.approx((0, 0, 1, 1), abs=1e-6)
    np.testing.assert_allclose(grid.mass.ravel(), attention, atol=1e-6)
    np.testing.assert_array_equal(grid.kept.ravel(), kept)


def test_tokens_that_show_padding_alone_have_no_cells():
    attention = shares(24 * 24)
    # 3 of 24 rows of tokens on either side lie in the padding.
    (grid,) = attention_grids(explanation(attention, lattice(24, 24, top=-1 / 6, bottom=7 / 6)), 1)
    assert grid.mass.shape == (18, 24)
    assert grid.area == pytest.approx((0, 0, 1, 1), abs=1e-5)
    np.testing.assert_allclose(grid.mass.ravel(), attention.reshape(24, 24)[3:21].ravel(), atol=1e-6)
    (grid,) = attention_grids(explanation(attention, lattice(24, 24, left=-1 / 6, right=7 / 6)), 1)
    np.testing.assert_allclose(grid.mass, attention.reshape(24, 24)[:, 3:21], atol=1e-6)


def test_a_lattice_that_reaches_beyond_the_picture_is_not_moved():
    (grid,) = attention_grids(explanation(shares(100), lattice(10, 10, left=-0.05, right=1.05)), 1)
    assert grid.area == pytest.approx((-0.05, 0, 1.05, 1), abs=1e-6)
    assert grid.mass.shape == (10, 10)


def test_many_tokens_are_summed_into_few_cells_without_loss():
    attention = shares(128 * 125)
    (grid,) = attention_grids(explanation(attention, lattice(128, 125)), 1)
    assert grid.mass.shape == (MOST_CELLS, MOST_CELLS)
    assert grid.mass.sum() == pytest.approx(1, abs=1e-5)
    whole = attention.reshape(125, 128)
    np.testing.assert_allclose(grid.mass.sum(axis=0), whole.sum(axis=0).reshape(32, 4).sum(axis=1), atol=1e-5)


def test_tiles_of_several_sizes_share_cells():
    boxes = np.concatenate([lattice(2, 2), lattice(4, 4)])  # the whole picture, and finer tiles of it
    attention = np.zeros(20)
    attention[0] = 0.4  # the upper left quarter
    attention[4] = 0.6  # its upper left quarter
    kept = attention > 0
    (grid,) = attention_grids(explanation(attention, boxes, kept), 1)
    assert grid.mass.shape == (4, 4)
    assert grid.mass[0, 0] == pytest.approx(0.7)
    assert grid.mass[1, 1] == pytest.approx(0.1)
    assert grid.kept.sum() == 4
    assert grid.kept[:2, :2].all()


def test_each_picture_has_a_grid_and_many_pictures_have_small_ones():
    count = 4
    boxes = np.concatenate([lattice(40, 40)] * count)
    image = np.repeat(np.arange(count), 1600)
    grids = attention_grids(explanation(shares(1600 * count), boxes, image=image), count)
    assert [grid.image for grid in grids] == [0, 1, 2, 3]
    assert sum(grid.mass.size for grid in grids) <= 2 * MOST_CELLS**2
    assert sum(grid.mass.sum() for grid in grids) == pytest.approx(1, abs=1e-5)
    assert [grid.image for grid in attention_grids(explanation(shares(1600 * count), boxes, image=image), 2)] == [0, 1]


def test_tokens_without_a_place_have_no_cells():
    boxes = np.concatenate([lattice(2, 2), np.full((2, 4), np.nan)])
    found = explanation([0.1, 0.2, 0.3, 0.2, 0.1, 0.1], boxes, image=[0, 0, 0, 0, 0, -1])
    (grid,) = attention_grids(found, 1)
    assert grid.mass.sum() == pytest.approx(0.8)
    unknown = explanation(shares(4), np.full((4, 4), np.nan), image=[-1] * 4)
    assert attention_grids(unknown, 1) == []


def told_of(*given):
    return attention_words(explanation(*given)).replace("\u202f", " ")


@pytest.mark.parametrize(
    ("place", "words"),
    [((0.0, 0.0), "upper left"), ((0.5, 0.5), "centre"), ((0.9, 0.9), "lower right"), ((0.5, 0.9), "lower centre")],
)
def test_the_words_tell_where_attention_lies(place, words):
    boxes = lattice(12, 12)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    attention = np.exp(-80 * ((middles - np.array(place)) ** 2).sum(axis=1))
    attention /= attention.sum()
    kept = np.zeros(144, dtype=np.bool_)
    kept[np.argsort(-attention)[:41]] = True
    told = told_of(attention, boxes, kept)
    assert told.endswith(f" % of the instruction's attention lies on 41 of 144 image tokens; mostly {words}.")


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.51, "mostly lower left"),
        (0.5, "mostly lower left"),
        (0.34, "most in lower left (34 %)"),
        (0.26, "most in lower left (26 %)"),
        (0.24, "spread over the picture"),
    ],
)
def test_mostly_is_half_of_the_attention_or_more(share, words):
    attention = np.full(9, (1 - share) / 8)
    attention[6] = share
    assert told_of(attention, lattice(3, 3)).endswith(f"; {words}.")


def test_a_large_token_lies_in_all_parts_that_it_covers():
    boxes = np.concatenate([lattice(1, 1), lattice(3, 3)])  # the whole picture, and tiles of it
    attention = np.zeros(10)
    attention[[0, 1]] = 0.9, 0.1
    assert told_of(attention, boxes).endswith("; spread over the picture.")


def test_attention_on_padding_is_told_as_that():
    # The upper and the lower third of the square view is padding.
    boxes = lattice(3, 3, top=-1, bottom=2)
    attention = np.array([0.3, 0.0, 0.0, 0.3, 0.04, 0.0, 0.36, 0.0, 0.0])
    assert told_of(attention, boxes).endswith("tokens; most in upper left (29 %). 66 % lies on padding.")
    attention = np.array([0.5, 0, 0, 0, 0, 0, 0, 0, 0.5])
    assert told_of(attention, boxes).endswith("on 9 of 9 image tokens. 100 % lies on padding.")
    # Each token reaches beyond the picture by half.
    assert told_of([0.5, 0.5], [[-0.5, 0, 0.5, 1], [0.5, 0, 1.5, 1]]).endswith(". 50 % lies on padding.")


@pytest.mark.parametrize(
    ("area", "words"),
    [
        ((1 / 3, 0, 2 / 3, 1), "middle 33 %"),
        ((0, 0.1, 1, 0.9), "middle 80 %"),
        ((0, 0, 0.5, 1), "left 50 %"),
        ((0.2, 0.5, 1, 1), "lower right 40 %"),
    ],
)
def test_a_part_that_the_model_does_not_see_is_told(area, words):
    part = explanation(shares(16), lattice(4, 4, *area))
    assert attention_words(part).replace("\u202f", " ").endswith(f" The model sees only the {words} of this picture.")
    (grid,) = attention_grids(part, 1)
    assert grid.seen == pytest.approx((area[2] - area[0]) * (area[3] - area[1]), abs=1e-6)


def test_whole_pictures_are_told_to_be_nothing_else():
    for boxes in (lattice(4, 4), lattice(4, 4, top=-0.5, bottom=1.5), lattice(24, 24, right=0.998)):
        part = explanation(shares(len(boxes)), boxes)
        assert "sees only" not in attention_words(part)
        assert attention_grids(part, 1)[0].seen == 1.0


def test_parts_of_several_pictures_are_told_of_each():
    cut, whole = lattice(2, 2, 0.25, 0, 0.75, 1), lattice(2, 2)
    image = np.repeat([0, 1, 2], 4)
    told = told_of(shares(12), np.concatenate([cut, whole, cut]), None, image)
    assert told.endswith(" The model sees only the middle 50 % of images 1 and 3.")
    told = told_of(shares(12), np.concatenate([whole, whole, cut]), None, image)
    assert told.endswith(" The model sees only the middle 50 % of image 3.")


def test_the_words_name_the_picture_and_what_has_no_place():
    boxes = np.concatenate([lattice(3, 3)] * 2 + [np.full((1, 4), np.nan)])
    attention = np.array([0.0] * 9 + [0.9] + [0.0] * 8 + [0.1])
    image = [0] * 9 + [1] * 9 + [-1]
    told = told_of(attention, boxes, attention > 0, image)
    assert told.endswith("; mostly image 2, upper left. 10 % lies on tokens that show no place in a picture.")


def test_even_attention_is_spread():
    assert attention_words(explanation(np.full(144, 1 / 144), lattice(12, 12))).endswith("; spread over the picture.")


def test_without_places_the_words_tell_the_numbers():
    told = attention_words(explanation(shares(4), np.full((4, 4), np.nan), [True, False, False, True], [-1] * 4))
    assert told.endswith("lies on 2 of 4 image tokens.")
