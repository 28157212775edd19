"""`--text-only` over run folders: which rows join, how they are counted, and what they leave alone."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import scalselect
from scalselect.config import RunConfig
from scalselect.errors import OptionError
from scored_runs import clustered_vectors, scored_run
from small_pools import command, promised_files, scores_of

pytestmark = pytest.mark.usefixtures("shared_models_kept")

ROWS = 200
TEXT_ONLY = tuple(range(3, ROWS, 8))  # 25 rows
SCORED = ROWS - len(TEXT_ONLY) - 1


@pytest.fixture
def run(tmp_path):
    return scored_run(tmp_path, clustered_vectors(ROWS), unusable={60}, text_only=TEXT_ONLY)


def account(run):
    return json.loads((run / "selection.json").read_text())


def written(path):
    return [int(record["id"].removeprefix("row-")) for record in json.loads(path.read_text())]


def split(rows):
    return [row for row in rows if row not in TEXT_ONLY], [row for row in rows if row in TEXT_ONLY]


def test_they_are_left_out_unless_asked_for(run, capsys):
    assert command("select", run, "--budget", "10%") == 0
    printed = capsys.readouterr().out
    assert "text-only  25\n           0 chosen on top of the budget (--text-only exclude)\n" in printed
    content = account(run)
    assert content["text_only"] == {"asked": "exclude", "rows": 25, "excluded": 0, "included": 0, "chosen": 0}
    assert not set(np.flatnonzero(scores_of(run)["selected"])) & set(TEXT_ONLY)


@pytest.mark.parametrize(("budget", "rows", "sampled"), [("10%", 17, 2), (SCORED // 2, 87, 12), ("100%", SCORED, 25)])
@pytest.mark.parametrize("asked", ["keep", "sample"])
def test_they_come_on_top_of_the_budget(run, asked, budget, rows, sampled, capsys):
    plain = scalselect.select(run, budget=budget).rows.tolist()
    diagnosed = json.loads((run / "diagnostics.json").read_text())
    assert command("select", run, "--budget", budget, "--text-only", asked) == 0
    chosen = np.flatnonzero(scores_of(run)["selected"]).tolist()
    with_images, without = split(chosen)
    more = 25 if asked == "keep" else sampled
    assert (with_images, len(without)) == (plain, more)
    assert written(run / "selected.json") == chosen
    content = account(run)
    assert content["budget"]["rows"] == rows
    assert content["rows"]["selected"] == rows + more
    assert content["text_only"] == {"asked": asked, "rows": 25, "excluded": 0, "included": 0, "chosen": more}
    printed = capsys.readouterr().out
    assert f"{more} chosen on top of the budget (--text-only {asked})" in printed
    size = f"{rows} rows + {more} text-only = {rows + more} records"
    assert f"chosen     {size} ({budget} asked, {SCORED} eligible)" in " ".join(printed.split("\n           "))
    now = json.loads((run / "diagnostics.json").read_text())
    assert now["rows"].pop("chosen_without_vector") == more
    assert diagnosed["rows"].pop("chosen_without_vector") == 0
    assert now["rows"].pop("chosen") - diagnosed["rows"].pop("chosen") == more
    assert now == diagnosed
    again = scalselect.select(run, budget=budget, text_only=asked)
    assert again.rows.tolist() == chosen


def test_the_seed_draws_them_and_the_strategy_does_not_matter(run):
    def drawn(**options):
        return split(scalselect.select(run, budget="40%", text_only="sample", **options).rows.tolist())[1]

    assert len(drawn()) == 10
    assert drawn() == drawn(strategy="coverage") == drawn(strategy="half") != drawn(seed=1)


def test_every_budget_has_its_own(run, capsys):
    result = scalselect.select(run, budget="10%,40%,100%", text_only="sample")
    parts = {"10%": result.rows.tolist(), **{label: rows.tolist() for label, rows in result.budgets.items()}}
    texts = {label: split(rows)[1] for label, rows in parts.items()}
    assert [len(rows) for rows in texts.values()] == [2, 10, 25]
    assert set(texts["10%"]) < set(texts["40%"])
    for label in ("40%", "100%"):
        folder = run / "selections" / label
        assert written(folder / "selected.json") == parts[label]
        table = pq.read_table(folder / "rows.parquet")
        assert table["row"].to_pylist() == parts[label]
        assert table["rank"].null_count == len(texts[label])
        assert json.loads((folder / "selection.json").read_text())["text_only"]["chosen"] == len(texts[label])
    assert [budget["text_only"] for budget in account(run)["budgets"]] == [2, 10, 25]
    assert command("select", run, "--budget", "10%,40%", "--text-only", "sample") == 0
    assert "69 rows and 10 text-only (40% asked)" in capsys.readouterr().out


@pytest.mark.parametrize("asked", ["exclude", "keep", "sample"])
def test_wishes_hold_for_them_too(run, asked):
    out, wanted = list(TEXT_ONLY[:5]), list(TEXT_ONLY[5:9])
    ids = [f"row-{row}" for row in wanted[2:]]
    options = {"exclude_rows": [*out, 0], "include_rows": [*wanted[:2], 1], "include_ids": ids}
    without = split(scalselect.select(run, budget="50%", text_only=asked, **options).rows.tolist())[1]
    expected = {"exclude": 4, "keep": 20, "sample": 10}[asked]
    assert len(without) == expected
    assert set(wanted) <= set(without)
    assert not set(out) & set(without)
    content = account(run)
    assert content["text_only"] == {"asked": asked, "rows": 25, "excluded": 5, "included": 4, "chosen": expected}
    assert (content["included"], content["barred"]["excluded"]) == (1, 1)
    assert content["budget"]["rows"] == (SCORED - 1) // 2
    assert content["warnings"] == scalselect.select(run, budget="50%").summary["warnings"]
    reasons = scores_of(run)["reason"]
    assert all(reason != "excluded" for reason in reasons)  # of the second choice
    scalselect.select(run, budget="50%", text_only=asked, **options)
    assert [row for row, reason in enumerate(scores_of(run)["reason"]) if reason == "excluded"] == sorted([*out, 0])
    assert account(run)["skipped"] == {"image_missing": 1}


def test_a_row_that_was_skipped_cannot_be_included(run):
    told = scalselect.select(run, budget=5, include_rows=[60, TEXT_ONLY[0]]).summary["warnings"]
    assert "1 rows to be included have no score and cannot be chosen: 60" in told


def test_groups_and_copies_and_images_know_only_rows_with_a_score(run):
    options = {"stratify_by": "source", "deduplicate": "exact", "max_per_image": 1}
    plain = scalselect.select(run, budget=40, **options)
    kept = scalselect.select(run, budget=40, text_only="keep", **options)
    assert kept.rows.tolist() == sorted([*plain.rows.tolist(), *TEXT_ONLY])
    assert kept.summary["strata"] == plain.summary["strata"]
    strata = scores_of(run)["stratum"]
    assert all(strata[row] is None for row in TEXT_ONLY)


def test_another_wish_is_another_choice_and_the_same_changes_nothing(run):
    scalselect.select(run, budget=20, text_only="keep")
    before = promised_files(run)
    scalselect.select(run, budget=20)
    assert promised_files(run) != before
    scalselect.select(run, budget=20, text_only="keep")
    assert promised_files(run) == before
    assert json.loads((run / "run.json").read_text())["select"]["text_only"] == "keep"


def test_two_runs_are_compared_by_the_rows_that_scores_chose(run):
    scalselect.select(run, budget=20, text_only="keep")
    found = scalselect.compare(run, run)
    assert (found.overlap.rows_a, found.overlap.shared) == (20, 20)


def test_misuse(run):
    with pytest.raises(
        OptionError, match=r"text_only must be one of exclude, keep, sample: 'kep' \(did you mean `keep`"
    ):
        scalselect.select(run, budget=20, text_only="kep")
    assert RunConfig.from_options({"budget": "5%"}).select.text_only == "exclude"
