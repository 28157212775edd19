"""Summaries: the same facts for people at 80 columns and for scripts as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scalselect.pipeline import Represented, RunResult
from scalselect.records import DominantSubspace, Reason
from scalselect.selection.strategies import STRATEGIES
from scalselect.selection_account import TIE_RULE
from scalselect.summary import Summary, summary_of_representing, summary_of_run, summary_of_scores
from small_pools import command

HUGE = 10**13


def represented(**facts):
    known = {
        "folder": Path("runs/one"),
        "rows": 100,
        "counts": {"scored": 90, "skipped": 8, "text_only": 2},
        "reasons": {"image_missing": 3, "too_long": 5},
        "seconds": {"model": 8.0, "read": 2.0},
        "pool_rows": 100,
    }
    return Represented(**{**known, **facts})


def content(**facts):
    known = {
        "tie_rule": TIE_RULE,
        "strategy": "top-leverage",
        "seed": 3,
        "included": 0,
        "budget": {"asked": "10%", "rows": 9},
        "budgets": [{"asked": "10%", "rows": 9, "text_only": 0, "file": "selected.json"}],
        "text_only": {"asked": "exclude", "rows": 2, "excluded": 0, "included": 0, "chosen": 0},
        "barred": {"excluded": 0, "duplicate": 0, "max_per_image": 0},
        "near_copies_of_other_questions": 0,
        "strata": {},
        "rows": {"pool": 100, "scored": 90, "skipped": 8, "text_only": 2, "eligible": 90, "selected": 9},
        "skipped": {"image_missing": 3, "too_long": 5},
        "noted": {"uniform": 1, "truncated": 0, "escaped": 2},
        "subspace": {"k": 9, "energy": 0.9012, "gap": 1.0625, "largest_dimension_energy": 0.25, "n": 90},
        "selected": {"file": "selected.json", "images": 8, "tokens": 6200, "lowest_score": 0.125, "ties_at_cut": 1},
        "warnings": [],
    }
    return {**known, **facts}


def result(*, folder=Path("runs/one"), stage_one=None, **facts):
    return RunResult(
        folder=folder,
        rows=np.arange(9),
        scores=np.zeros(100),
        summary=content(**facts),
        represented=stage_one,
    )


def subspace(**facts):
    known = {
        "mean": np.zeros(4),
        "basis": np.eye(4)[:, :2],
        "singular_values": np.array([2.0, 1.0]),
        "energy": 0.9375,
        "gap": 2.5,
        "largest_dimension_energy": 0.25,
        "rows": 1234,
        "spectrum": np.array([2.0, 1.0, 0.4]),
        "total_energy": 5.16,
    }
    return DominantSubspace(**{**known, **facts})


def extreme_result(folder):
    numbers = dict.fromkeys(["pool", "scored", "skipped", "text_only", "eligible", "selected"], HUGE)
    noted = dict.fromkeys(["uniform", "truncated", "images_in_front", "exif_rotated", "alpha", "escaped"], HUGE)
    return result(
        folder=folder,
        stage_one=represented(folder=folder, rows=HUGE, pool_rows=HUGE * 1000, seconds={"model": 1e12}),
        budget={"asked": str(HUGE), "rows": HUGE},
        budgets=[
            {"asked": str(HUGE + i), "rows": HUGE, "text_only": HUGE, "file": f"selections/{HUGE}/selected.jsonl"}
            for i in range(3)
        ],
        text_only={"asked": "exclude", **dict.fromkeys(["rows", "excluded", "included", "chosen"], HUGE)},
        strategy="joint-leverage-sampling",
        barred=dict.fromkeys(["excluded", "duplicate", "max_per_image"], HUGE),
        near_copies_of_other_questions=HUGE,
        strata={f"{'long name ' * 9}{i}": {"candidates": HUGE, "quota": 1, "chosen": HUGE - i} for i in range(9)},
        rows=numbers,
        skipped={str(reason): HUGE for reason in Reason},
        noted=noted,
        subspace={"k": 99999, "energy": 1.0, "gap": 1e300, "largest_dimension_energy": 1.0, "n": HUGE},
        selected={
            "file": "selected.jsonl",
            "images": HUGE,
            "tokens": HUGE * 1000,
            "lowest_score": 1.23456789e-300,
            "ties_at_cut": HUGE,
        },
        warnings=["a warning that goes on and on " * 10],
    )


def assert_fits_width(text):
    assert all(len(line) <= 80 for line in text.splitlines())


def assert_fits(text):
    for line in text.splitlines():
        assert len(line) <= 80 or " " not in line[11:], line
        assert line[:11].strip() == "" or line[10] == " ", line
        assert line == line.rstrip()


def test_run_for_people():
    assert summary_of_run(result()).as_text() == "\n".join(
        [
            "pool       100 rows",
            "scored     90",
            "skipped    8 (too_long 5, image_missing 3)",
            "           why: `detail` in representations/*.rows.parquet; not tried again",
            "text-only  2",
            "           0 chosen on top of the budget (--text-only exclude)",
            "noted      1 whose instruction attends to no vision token",
            "           2 that spell out a special token",
            "subspace   k = 9 dimensions hold 90.12% of the energy; s_k / s_k+1: 1.062",
            "chosen     9 rows (10% asked, 90 eligible), 8 images, 6,200 tokens",
            "           lowest score 0.125; equal scores in pool order",
            "written    runs/one/selected.json",
            "           runs/one/scores.parquet",
            "           runs/one/diagnostics.json",
            "           runs/one/selection.json",
        ]
    )


def test_run_without_anything_to_note():
    plain = result(
        skipped={},
        noted={},
        rows={"pool": 5, "eligible": 5, "selected": 2, "scored": 5},
        text_only={"asked": "keep", "rows": 0, "excluded": 0, "included": 0, "chosen": 0},
    )
    lines = summary_of_run(plain).as_text().splitlines()
    assert lines[1:4] == ["scored     5", "skipped    0", "text-only  0"]
    assert not any(line.startswith(("noted", "warning", "trial")) for line in lines)
    assert "text-only keep" not in summary_of_run(plain).as_text()


def test_warnings_are_shown():
    text = summary_of_run(result(warnings=["first thing", "second thing"])).as_text()
    assert "warning    first thing\nwarning    second thing" in text


def test_a_gap_to_nothing_is_said_in_words():
    facts = {**content()["subspace"], "gap": None}
    assert "s_k / s_k+1: none left" in summary_of_run(result(subspace=facts)).as_text()


def test_run_for_scripts():
    facts = json.loads(summary_of_run(result()).as_json())
    assert facts == {**content(), "run_dir": "runs/one"}
    facts = json.loads(summary_of_run(result(stage_one=represented())).as_json())
    assert facts["represented"] == {
        "rows": 100,
        "pool_rows": 100,
        "counts": {"scored": 90, "skipped": 8, "text_only": 2},
        "reasons": {"image_missing": 3, "too_long": 5},
        "seconds": {"model": 8.0, "read": 2.0},
        "waiting_share": None,
        "rows_per_second": 10.0,
    }


def test_representing_for_people_and_scripts():
    summary = summary_of_representing(represented())
    assert summary.as_text() == "\n".join(
        [
            "pool       100 rows",
            "scored     90",
            "skipped    8 (too_long 5, image_missing 3)",
            "           why: `detail` in representations/*.rows.parquet; not tried again",
            "text-only  2",
            "time       model 80%, read 20% of 10 s of work",
            "           the model took most of it: more or faster accelerators would shorten",
            "           it most (--devices, --workers)",
            "written    runs/one/representations",
            "next       scalselect score runs/one",
        ]
    )
    facts = json.loads(summary.as_json())
    assert facts["run_dir"] == "runs/one"
    assert facts["counts"] == {"scored": 90, "skipped": 8, "text_only": 2}


def test_a_trial_tells_speed_and_estimate():
    trial = represented(pool_rows=60_000)
    words = (
        "trial      the first 100 of 60,000 rows at 10.0 rows/s; all of them would take\n"
        "           about 1 h 40 min here"
    )
    for summary in (summary_of_representing(trial), summary_of_run(result(stage_one=trial))):
        assert words in summary.as_text()
    assert json.loads(summary_of_representing(trial).as_json())["estimated_seconds_for_all"] == 6000.0
    facts = json.loads(summary_of_run(result(stage_one=trial)).as_json())
    assert facts["represented"]["estimated_seconds_for_all"] == 6000.0


def test_no_trial_no_estimate():
    for summary in (summary_of_representing(represented()), summary_of_run(result(stage_one=represented()))):
        assert "trial" not in summary.as_text()
        assert "estimated" not in summary.as_json()


def test_scores_for_people_and_scripts():
    summary = summary_of_scores("runs/one", subspace())
    assert summary.as_text() == "\n".join(
        [
            "scored     1,234 rows",
            "subspace   k = 2 dimensions hold 93.75% of the energy; s_k / s_k+1: 2.5",
            "written    runs/one/scores.parquet",
            "next       scalselect select runs/one --budget 16%",
        ]
    )
    assert json.loads(summary.as_json()) == {
        "run_dir": "runs/one",
        "subspace": {
            "k": 2,
            "energy": 0.9375,
            "gap": 2.5,
            "largest_dimension_energy": 0.25,
            "n": 1234,
            "total_energy": 5.16,
            "normalised_rows": False,
        },
        "warnings": [],
    }


def test_scores_on_a_doubtful_subspace():
    summary = summary_of_scores("runs/one", subspace(gap=1.0001, largest_dimension_energy=0.75))
    facts = json.loads(summary.as_json())
    assert len(facts["warnings"]) == 2
    assert summary.as_text().count("warning    ") == 2
    assert_fits(summary.as_text())
    infinite = json.loads(summary_of_scores("runs/one", subspace(gap=float("inf"))).as_json())
    assert infinite["subspace"]["gap"] is None


def test_commands_can_be_copied_whatever_the_folder_is_called():
    folder = Path("runs/my run")
    assert "scalselect score 'runs/my run'" in summary_of_representing(represented(folder=folder)).as_text()
    assert "scalselect select 'runs/my run' --budget 16%" in summary_of_scores(folder, subspace()).as_text()


@pytest.mark.parametrize("folder", [Path("r"), Path("runs") / ("x" * 200)])
def test_extreme_values_fit_80_columns(folder):
    summary = summary_of_run(extreme_result(folder))
    text = summary.as_text()
    assert_fits(text)
    assert str(folder / "selected.jsonl") in text
    assert text.count(f"{HUGE:,}") >= 20
    assert json.loads(summary.as_json())["rows"]["pool"] == HUGE
    assert_fits(summary_of_representing(extreme_result(folder).represented).as_text())


def test_json_keeps_every_character():
    summary = Summary([("pool", "1 row")], {"b": "日本 🦜", "a": [1.5, None]})
    assert "日本 🦜" in summary.as_json()
    assert json.loads(summary.as_json()) == summary.content
    assert list(json.loads(summary.as_json())) == ["a", "b"]


def test_json_has_no_words_that_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Summary([], {"gap": float("nan")}).as_json()


def test_how_rows_were_chosen_is_told():
    budgets = [
        {"asked": f"{percent}%", "rows": percent, "text_only": percent - 10, "file": f"{percent}.json"}
        for percent in (10, 20)
    ]
    facts = {
        "strategy": "half",
        "included": 2,
        "barred": {"excluded": 3, "duplicate": 0, "max_per_image": 12},
        "budgets": budgets,
        "near_copies_of_other_questions": 7,
        "strata": {name: {"candidates": 10 * i + 10, "quota": i, "chosen": i} for i, name in enumerate("abcdefgh")},
        "selected": {"file": "10.json", "images": 0, "tokens": None, "lowest_score": 0.125, "ties_at_cut": 1},
    }
    lines = summary_of_run(result(**facts)).as_text().splitlines()
    begin = lines.index("barred     3 excluded, 12 whose image has its share")
    assert lines[begin + 1 : begin + 9] == [
        "kept       7 near-copies of other questions about an image (not barred)",
        "chosen     9 rows (10% asked, 90 eligible)",
        "           20 rows and 10 text-only (20% asked)",
        "           lowest score 0.125; by half, seed 3; 2 rows had to be included",
        "strata     h 7 of 80, g 6 of 70, f 5 of 60, e 4 of 50, d 3 of 40, c 2 of 30, 2",
        "           more in selection.json",
        "written    runs/one/10.json",
        "           runs/one/20.json",
    ]


def test_every_strategy_is_listed_with_its_definition(capsys):
    assert command("select", "--list-strategies") == 0
    printed = capsys.readouterr().out
    assert_fits_width(printed)
    told = " ".join(printed.split())
    for strategy in STRATEGIES.values():
        assert f"{strategy.name} " in told
        assert strategy.definition in told
    assert told.startswith("top-leverage (default) ")
    assert "Needs --vectors vision+instruction." in told


def test_the_waiting_share_is_told_and_workers_count():
    seconds = {"read": 2.0, "wait": 15.0, "model": 30.0, "write": 3.0, "decode": 10.0, "preprocess": 80.0}
    stage_one = represented(seconds=seconds, workers=4)
    assert stage_one.rows_per_second == 8.0  # 100 rows in 50 seconds of work, four at once
    for summary in (summary_of_representing(stage_one), summary_of_run(result(stage_one=stage_one))):
        assert "\ntime       model 60%, waiting for samples 30%, write 6%, read 4% of 50 s" in summary.as_text()
        assert "4 workers" in summary.as_text()
        assert_fits_width(summary.as_text())
    assert summary_of_representing(stage_one).content["waiting_share"] == 0.3
