"""The same pictures are preprocessed once, and nothing else is taken for them."""

import torch
from PIL import Image
from transformers import BatchFeature, CLIPImageProcessor

from scalselect.vlm.picture_memo import PictureMemo

PICTURES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]


def processor():
    return CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})


def test_same_pictures_same_tensors():
    plain, own = processor(), processor()
    memo = PictureMemo(own)
    with memo.open():
        first = own(PICTURES, return_tensors="pt")
        second = own(list(PICTURES), return_tensors="pt")
    assert memo.computed == 1
    assert first["pixel_values"] is second["pixel_values"]
    assert torch.equal(first["pixel_values"], plain(PICTURES, return_tensors="pt")["pixel_values"])
    assert isinstance(second, BatchFeature)


def test_other_pictures_order_or_options_are_processed_anew():
    own = processor()
    memo = PictureMemo(own)
    with memo.open():
        for pictures in (PICTURES, PICTURES[::-1], PICTURES[:1], [PICTURES[0].copy()]):
            own(pictures, return_tensors="pt")
        own([PICTURES[0]], return_tensors="pt", do_normalize=False)
    assert memo.computed == 5


def test_what_is_taken_out_of_one_result_stays_in_the_next():
    class Counting:
        def preprocess(self, _images, **_):
            return BatchFeature({"pixel_values": torch.ones(2), "patches": [1, 2]})

    own = Counting()
    memo = PictureMemo(own)
    with memo.open():
        first = own.preprocess(PICTURES)
        first["patches"].pop()
        first.pop("patches")
        assert own.preprocess(PICTURES)["patches"] == [1, 2]
    assert memo.computed == 1


def test_arrays_are_not_told_apart_and_so_not_remembered():
    own = processor()
    memo = PictureMemo(own)
    array = torch.zeros(3, 30, 40, dtype=torch.uint8)
    with memo.open():
        own(array, return_tensors="pt")
        own(array, return_tensors="pt")
    assert memo.computed == 2


def test_nothing_is_remembered_outside():
    own = processor()
    memo = PictureMemo(own)
    with memo.open():
        own(PICTURES, return_tensors="pt")
    assert "preprocess" not in vars(own)
    with memo.open():
        own(PICTURES, return_tensors="pt")
    assert memo.computed == 2
