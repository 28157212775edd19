"""Where the time went, in shares and words, and what would shorten it."""

from __future__ import annotations

import pytest

from scalselect.time_shares import lines_of_time, waiting_share, work_seconds

BESIDE = {"decode": 180.0, "preprocess": 540.0}


def test_what_goes_on_beside_the_model_is_not_added():
    seconds = {"read": 1.0, "wait": 4.0, "model": 4.0, "write": 1.0, **BESIDE}
    assert work_seconds(seconds) == 10.0
    assert waiting_share(seconds) == 0.4


def test_reports_that_did_not_know_waiting_did_all_one_after_another():
    seconds = {"read": 10.0, "model": 50.0, "decode": 30.0, "preprocess": 10.0}
    assert work_seconds(seconds) == 100.0
    assert waiting_share(seconds) is None
    told = "model 50%, decode 30%, read 10%, preprocess 10% of 2 min of work"
    assert lines_of_time(seconds)[0] == told


def test_shares_of_the_work_in_words():
    seconds = {"read": 28.8, "wait": 216.0, "model": 439.2, "write": 36.0, **BESIDE}
    assert lines_of_time(seconds, workers=8)[0] == (
        "model 61%, waiting for samples 30%, write 5%, read 4% of 12 min of work in 8 workers; making samples ready "
        "took 3 min of decoding and 9 min of preprocessing"
    )


@pytest.mark.parametrize(
    ("seconds", "advice"),
    [
        ({"wait": 30, "model": 61, "decode": 9, "preprocess": 90}, "samples to be preprocessed: more --dataloader"),
        ({"wait": 30, "model": 61, "decode": 90, "preprocess": 9}, "images to be opened: more --dataloader-workers"),
        ({"wait": 30, "model": 61}, "waited for samples: more --dataloader-workers"),
        ({"wait": 9, "model": 61, "decode": 90, "preprocess": 9}, "accelerators would shorten it most"),
        ({"wait": 9, "model": 30, "read": 61}, "store for the data"),
        ({"wait": 9, "model": 30, "write": 61}, "store for the run folder"),
    ],
)
def test_advice_follows_from_the_numbers(seconds, advice):
    assert advice in lines_of_time(seconds)[1]


def test_nothing_is_told_of_little_work_or_none():
    assert lines_of_time({"wait": 4.0, "model": 5.0, **BESIDE}) == []
    assert lines_of_time({}) == []
    assert waiting_share({"wait": 0.0}) is None


def test_a_stage_that_is_not_known_is_told_without_advice():
    assert lines_of_time({"other": 90.0, "model": 10.0}) == ["other 90%, model 10% of 2 min of work"]
