"""What a user can ask of a choice, on run folders without a model: copies, images, groups, wishes, several budgets."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

import scalselect
from scalselect.errors import BudgetError, DamagedFileError, OptionError, ScalselectWarning
from scalselect.selection.strategies import STRATEGIES
from scored_runs import clustered_vectors, scored_run
from small_pools import command, promised_files, scores_of

ROWS = 200


@pytest.fixture
def run(tmp_path):
    return scored_run(tmp_path, clustered_vectors(ROWS), unusable={7, 60})


def account(run):
    return json.loads((run / "selection.json").read_text())


def written(path):
    return [int(record["id"].removeprefix("row-")) for record in json.loads(path.read_text())]


def ranked(run):
    ranks = pq.read_table(run / "scores.parquet")["rank"].to_pylist()
    return sorted((row for row, rank in enumerate(ranks) if rank is not None), key=lambda row: ranks[row])


def with_both_vectors(folder):
    vectors = clustered_vectors(ROWS)
    return scored_run(folder, vectors, instruction=clustered_vectors(ROWS, seed=1))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_by_name(tmp_path, strategy, capsys):
    run = with_both_vectors(tmp_path)
    assert command("select", run, "--budget", "10%", "--strategy", strategy, "--seed", 3) == 0
    capsys.readouterr()
    content, chosen = account(run), np.flatnonzero(scores_of(run)["selected"])
    assert len(chosen) == 20 == content["budget"]["rows"]
    assert content["strategy"] == strategy
    assert content["instruction_subspace"]["n"] == ROWS
    assert content["strategy_definition"] == STRATEGIES[strategy].definition
    assert content["seed"] == 3
    assert written(run / "selected.json") == chosen.tolist()
    again = scalselect.select(run, budget=20, strategy=strategy, seed=3)
    assert again.rows.tolist() == chosen.tolist()


def test_the_default_is_the_method_itself(run):
    result = scalselect.select(run, budget=30)
    assert result.rows.tolist() == sorted(ranked(run)[:30])
    assert account(run)["strategy"] == "top-leverage"


def test_another_seed_is_another_sample(run):
    chosen = {tuple(scalselect.select(run, budget=30, strategy="half", seed=seed).rows) for seed in (0, 1, 2)}
    assert len(chosen) == 3


def test_several_budgets_have_a_subset_each(run, capsys):
    assert command("select", run, "--budget", "10%,30,50%") == 0
    printed = capsys.readouterr().out
    order = ranked(run)
    assert written(run / "selected.json") == sorted(order[:19])
    for label, n in (("30", 30), ("50%", 99)):
        folder = run / "selections" / label
        assert written(folder / "selected.json") == sorted(order[:n])
        table = pq.read_table(folder / "rows.parquet")
        assert table["row"].to_pylist() == sorted(order[:n])
        assert sorted(table["rank"].to_pylist()) == list(range(1, n + 1))
        assert json.loads((folder / "selection.json").read_text())["budget"] == {"asked": label, "rows": n}
        assert f"selections/{label}/selected.json" in printed
    assert np.flatnonzero(scores_of(run)["selected"]).tolist() == sorted(order[:19])
    result = scalselect.select(run, budget=["10%", 30, "50%"])
    assert {label: len(rows) for label, rows in result.budgets.items()} == {"30": 30, "50%": 99}
    scalselect.select(run, budget="10%")
    assert not (run / "selections").exists()


def test_a_choice_is_left_alone_until_something_of_it_changes(run):
    scalselect.select(run, budget="10%,20%", stratify_by="source")
    before = promised_files(run)
    (run / "selections" / "20%" / "selected.json").write_text("[]")
    with pytest.warns(ScalselectWarning, match="selected.json is not what was written: selecting again"):
        scalselect.select(run, budget="10%,20%", stratify_by="source")
    assert promised_files(run) == before
    scalselect.select(run, budget="10%,20%")
    assert promised_files(run) != before
    scalselect.select(run, budget="10%,20%", stratify_by="source")
    assert promised_files(run) == before


def test_rows_and_ids_that_must_be_in_or_out(run, tmp_path):
    order = ranked(run)
    worst, best = order[-3:], order[:4]
    (tmp_path / "in.txt").write_text(f"{worst[0]}\n\n {worst[1]} \n")
    (tmp_path / "in.json").write_text(json.dumps([f"row-{worst[2]}"]))
    (tmp_path / "out.txt").write_text("\n".join(f"row-{row}" for row in best[:2]))
    options = ["--include-rows", tmp_path / "in.txt", "--include-ids", tmp_path / "in.json"]
    options += ["--exclude-ids", tmp_path / "out.txt"]
    assert command("select", run, "--budget", 10, *options) == 0
    expected = sorted([*worst, *[row for row in order if row not in best[:2]][:7]])
    assert np.flatnonzero(scores_of(run)["selected"]).tolist() == expected
    reasons = scores_of(run)["reason"]
    assert [reasons[row] for row in best[:2]] == ["excluded", "excluded"]
    content = account(run)
    assert content["barred"]["excluded"] == 2
    assert content["included"] == 3
    assert content["rows"]["eligible"] == ROWS - 2 - 2
    assert content["skipped"] == {"image_missing": 2}
    scalselect.select(run, budget=10, exclude_rows=best, include_rows=worst)
    assert np.flatnonzero(scores_of(run)["selected"]).tolist() == sorted([*worst, *order[4:11]])
    scalselect.select(run, budget=10)
    assert scores_of(run)["reason"].count("excluded") == 0


def test_a_list_that_says_something_else_is_another_request(run, tmp_path):
    path = tmp_path / "out.txt"
    for excluded in (ranked(run)[:2], ranked(run)[2:4]):
        path.write_text("\n".join(map(str, excluded)))
        scalselect.select(run, budget=10, exclude_rows=str(path))
        assert not set(excluded) & set(np.flatnonzero(scores_of(run)["selected"]))


def test_ids_that_are_absent_or_not_unique_are_told(tmp_path):
    records = [{"id": 7 if row in (3, 9) else f"row-{row}"} for row in range(ROWS)]
    run = scored_run(tmp_path, clustered_vectors(ROWS), records=records, unusable={5})
    result = scalselect.select(run, budget=10, include_ids=["7", "nobody", "row-5"], include_rows=[1])
    assert {1, 3, 9} <= set(result.rows)
    told = account(run)["warnings"]
    assert "include_ids: 'nobody' is the id of no row" in told
    assert "include_ids: '7' is the id of several rows, all meant" in told
    assert "1 rows to be included have no score and cannot be chosen: 5" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include_rows": [ROWS]}, rf"include_rows must hold row positions from 0 to {ROWS - 1}: '{ROWS}'"),
        ({"exclude_rows": ["-1"]}, "exclude_rows must hold row positions"),
        ({"include_rows": [4], "exclude_ids": ["row-4"]}, "row 4 is to be included and to be excluded"),
        ({"include_rows": "/nowhere.txt"}, "include_rows cannot be read: /nowhere.txt"),
        ({"stratify_by": "sorce"}, r"no record has a field `sorce` to group rows by \(did you mean `source`\?\)"),
        ({"stratify_by": "image"}, "rows cannot be grouped by `image`: in row 0 it holds a list or an object"),
        ({"stratify_by": "source", "quotas": "/nowhere.json"}, "quotas: there is no file /nowhere.json"),
        ({"stratify_by": "source", "quotas": "equall"}, r"no file equall \(did you mean `equal`\?\)"),
        ({"stratify_by": ""}, "stratify_by is empty"),
        ({"strategy": "joint-leverage-sampling"}, "represent the pool with --vectors vision"),
        ({"stratgy": "half"}, r"unknown option: `stratgy` \(did you mean `strategy`\?\)"),
    ],
)
def test_wishes_that_cannot_be_right_change_nothing(run, options, message):
    scalselect.select(run, budget=5)
    before = promised_files(run)
    with pytest.raises(OptionError, match=message):
        scalselect.select(run, budget=10, **options)
    assert promised_files(run) == before


def test_groups_get_their_quotas(run, tmp_path):
    records = json.loads((tmp_path / "pool.json").read_text())
    sources = [record["source"] for record in records]

    def chosen_by_group(**options):
        rows = scalselect.select(run, budget=40, stratify_by="source", **options).rows
        return Counter(sources[row] for row in rows)

    assert chosen_by_group() == {"vqa": 27, "ocr": 13}
    assert chosen_by_group(quotas="equal") == {"vqa": 20, "ocr": 20}
    (tmp_path / "quotas.json").write_text('{"vqa": 0.9, "ocr": 0.1}')
    assert chosen_by_group(quotas=str(tmp_path / "quotas.json")) == {"vqa": 36, "ocr": 4}
    (tmp_path / "quotas.toml").write_text("ocr = 40\n")
    assert chosen_by_group(quotas=str(tmp_path / "quotas.toml")) == {"ocr": 40}
    assert account(run)["strata"]["ocr"] == {"candidates": 66, "quota": 40, "chosen": 40}
    told = "1 of 2 strata have a quota of 0 rows, as the quotas do not name them: 'vqa'"
    assert told in account(run)["warnings"]
    for content, message in (
        ('{"vqa": "half"}', "holds 'half' for 'vqa', where a number is wanted"),
        ("[1]", "holds no object"),
        ('{"vqq": 1}', r"no row belongs to: 'vqq' \(did you mean `vqa`\?\); there are '(ocr|vqa)', "),
        ("vqa: 1", "is not valid JSON"),
        ('{"vqa": -1}', "must be a number, not negative"),
    ):
        (tmp_path / "quotas.json").write_text(content)
        with pytest.raises(OptionError, match=message):
            chosen_by_group(quotas=str(tmp_path / "quotas.json"))
    table = scores_of(run)
    assert [s for s in table["stratum"] if s] == [source for row, source in enumerate(sources) if row not in (7, 60)]
    scalselect.select(run, budget=40, stratify_by="source", quotas="equal", exclude_rows=list(range(0, 186, 3)))
    assert any("stratum 'ocr' gives 5 rows where its quota is 20" in text for text in account(run)["warnings"])


def test_every_row_may_be_a_group_of_its_own(run):
    chosen = scalselect.select(run, budget=40, stratify_by="id").rows
    assert chosen.tolist() == sorted(ranked(run)[:40])  # of equal remainders, those of the best rows
    assert any("158 of 198 strata have a quota of 0 rows" in text for text in account(run)["warnings"])
    assert set(scores_of(run)["stratum"]) == {None, *(f"row-{row}" for row in range(ROWS) if row not in (7, 60))}


def test_the_data_set_is_the_group_where_records_have_no_such_field(tmp_path):
    records = [{"id": row, "kind": None if row == 3 else row % 2 == 0} for row in range(ROWS)]
    run = scored_run(tmp_path, clustered_vectors(ROWS), records=records)
    scalselect.select(run, budget=40, stratify_by="source")
    assert account(run)["strata"].keys() == {"pool"}
    assert "all rows belong to one stratum, so stratify_by source has no effect" in account(run)["warnings"]
    scalselect.select(run, budget=40, stratify_by="kind")
    assert account(run)["strata"].keys() == {"(none)", "false", "true"}


def copied_run(tmp_path):
    """Rows 100 to 199 repeat rows 0 to 99: image and text for even rows, the image with another question for odd."""
    vectors = clustered_vectors(100)
    noise = np.random.default_rng(9).normal(size=(100, 24)).astype(np.float32) * 1e-6
    images = [[f"{row % 100}.png"] for row in range(ROWS)]
    texts = [f"question {row % 100 if row % 2 == 0 else row}" for row in range(ROWS)]
    return scored_run(tmp_path, np.concatenate([vectors, vectors + noise]), images=images, texts=texts)


def test_exact_copies_are_barred(tmp_path):
    run = copied_run(tmp_path)
    chosen = scalselect.select(run, budget=100, deduplicate="exact").rows
    assert not any(row >= 100 and row % 2 == 0 for row in chosen)
    table = scores_of(run)
    assert [table["reason"][row] for row in range(100, 106, 2)] == [f"duplicate_of:{row}" for row in (0, 2, 4)]
    assert table["reason"].count(None) == 150
    content = account(run)
    assert content["barred"]["duplicate"] == 50
    assert content["rows"]["eligible"] == 200
    assert content["rows"]["candidates"] == 150
    half = scalselect.select(run, budget="50%", deduplicate="exact").rows
    assert len(half) == 100  # copies change who fills the budget, never its size
    with pytest.raises(BudgetError, match="only 150 can be chosen"):
        scalselect.select(run, budget=151, deduplicate="exact")


def test_a_row_that_must_be_in_is_no_copy_of_another(tmp_path):
    run = copied_run(tmp_path)
    chosen = scalselect.select(run, budget=20, deduplicate="exact", include_rows=[100, 2, 102]).rows
    assert {2, 100, 102} <= set(chosen)  # 102 repeats 2
    assert 0 not in chosen
    assert scores_of(run)["reason"][0] == "duplicate_of:100"
    told = "1 rows to be included are copies of others that are; they are chosen all the same"
    assert told in account(run)["warnings"]
    chosen = scalselect.select(run, budget=20, max_per_image=1, include_rows=[1, 101]).rows
    assert {1, 101} <= set(chosen)
    assert (
        "1 images are shown by more than 1 rows to be included; they are chosen all the same"
        in account(run)["warnings"]
    )


def test_near_copies_are_barred_unless_they_ask_something_else(tmp_path):
    run = copied_run(tmp_path)
    scalselect.select(run, budget=50, deduplicate="near", near_bound=0.9999)
    content = account(run)
    assert content["barred"]["duplicate"] == 50
    assert content["near_copies_of_other_questions"] == 50
    scalselect.select(run, budget=50, deduplicate="near", near_bound=0.9999, near_across_questions=True)
    content, reasons = account(run), scores_of(run)["reason"]
    assert content["barred"]["duplicate"] == 100
    for row in range(100):
        assert {reasons[row], reasons[row + 100]} in (
            {None, f"duplicate_of:{row}"},
            {None, f"duplicate_of:{row + 100}"},
        )


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_image_is_shown_by_so_many_rows_at_most(tmp_path, strategy, most):
    images = [[f"{row % 40}.png", "everywhere.png"][: 1 + (row == 3)] for row in range(ROWS)]
    run = scored_run(tmp_path, clustered_vectors(ROWS), images=images, instruction=clustered_vectors(ROWS, seed=1))
    chosen = scalselect.select(run, budget=35, strategy=strategy, max_per_image=most).rows
    assert len(chosen) == 35
    assert max(Counter(row % 40 for row in chosen).values()) <= most
    refused = [row for row, reason in enumerate(scores_of(run)["reason"]) if reason == "max_per_image"]
    assert account(run)["barred"]["max_per_image"] == len(refused)
    assert not set(refused) & set(chosen)
    with pytest.raises(BudgetError, match=rf"only {40 * most} can be chosen with at most {most} rows an image"):
        scalselect.select(run, budget=40 * most + 1, strategy=strategy, max_per_image=most)


def test_a_budget_that_cannot_be_met_says_what_can(run, capsys):
    assert command("select", run, "--budget", 199) == 1
    told = capsys.readouterr().err
    assert "the budget asks for 199 rows and 198 are eligible" in told
    assert f"scalselect select {run} --budget 198`" in told
    assert command("select", run, "--budget", 100, "--deduplicate", "exact", "--include-rows", "/dev/null") == 0


def test_vectors_alone_have_rows_instead_of_records(tmp_path):
    X = clustered_vectors(ROWS)
    np.save(tmp_path / "X.npy", X)
    run = tmp_path / "own"
    scalselect.score(representations=tmp_path / "X.npy", output=run)
    result = scalselect.select(run, budget="10%,20")
    table = pq.read_table(run / "selected.parquet")
    assert table["row"].to_pylist() == result.rows.tolist()
    assert table.column_names == ["row", "source", "id", "id_type", "leverage_score", "rank"]
    with pytest.raises(OptionError, match=r"which vectors made elsewhere do not have, .*; try `near`"):
        scalselect.select(run, budget="10%", deduplicate="exact")
    with pytest.raises(OptionError, match="max_per_image counts rows by the images they show"):
        scalselect.select(run, budget="10%", max_per_image=1)
    with pytest.raises(OptionError, match="no field `kind` to group by; give their records with --dataset"):
        scalselect.select(run, budget="10%", stratify_by="kind")
    scalselect.select(run, budget="10%", deduplicate="near")


def test_records_can_be_given_for_vectors_made_elsewhere(tmp_path):
    X = clustered_vectors(ROWS)
    beside = scored_run(tmp_path / "records", X)
    np.save(tmp_path / "X.npy", X)
    run = tmp_path / "own"
    scalselect.score(representations=tmp_path / "X.npy", output=run)
    data = tmp_path / "records" / "pool.json"
    assert command("select", run, "--budget", 15, "--dataset", data, "--stratify-by", "source") == 0
    assert written(run / "selected.json") == np.flatnonzero(scores_of(run)["selected"]).tolist()
    assert not (run / "selected.parquet").exists()
    expected = scalselect.select(beside, budget=15, stratify_by="source").rows
    assert written(run / "selected.json") == expected.tolist()
    data.write_text("[" + data.read_text().split("}, {")[0].lstrip("[") + "}]")
    assert command("select", run, "--budget", 15, "--dataset", data) == 2


def test_damaged_vectors_are_named_and_the_choice_before_is_kept(run):
    scalselect.select(run, budget=20)
    before = promised_files(run)
    path = run / "representations" / "shard-0000001.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match=rf"shard 1: {path.name} is [0-9,]+ bytes shorter"):
        scalselect.select(run, budget=30)
    assert {name: before[name] for name in promised_files(run) if "shard-0000001" not in name} == {
        name: content for name, content in promised_files(run).items() if "shard-0000001" not in name
    }


def test_files_of_the_user_beside_the_choice_are_left_alone(run):
    scalselect.select(run, budget=20)
    (run / "selected.backup.json").write_text("[]")
    scalselect.select(run, budget=30)
    assert (run / "selected.backup.json").read_text() == "[]"
