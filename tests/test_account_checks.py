"""The sums that every run checks: they hold of right numbers, and each notices a wrong one."""

import copy
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect import select_work, shard_work
from scalselect.account_checks import check_account, check_not_told_twice, check_reports, check_scores, check_shard
from scalselect.errors import WorkError
from scalselect.records import Reason, RowIdentity, RowRecord
from scalselect.shard_report import ShardReport
from small_pools import command, write_pool

STATUSES = st.lists(st.sampled_from(["scored", "skipped", "text_only"]), min_size=1, max_size=40)


def records_of(statuses, first=0):
    return [
        RowRecord(
            identity=RowIdentity(row, "pool", None, "absent"),
            status=status,
            reason=Reason.IMAGE_MISSING if status == "skipped" else None,
        )
        for row, status in enumerate(statuses, first)
    ]


def report_of(shard, start, statuses):
    counts = Counter(statuses)
    reasons = {"image_missing": counts["skipped"]} if counts["skipped"] else {}
    return ShardReport(
        shard=shard,
        start=start,
        stop=start + len(statuses),
        counts=dict(counts),
        reasons=reasons,
        seconds={},
        device="cpu",
        split_batches=0,
        reuse={},
        versions={},
        files={},
    )


def reports_of(statuses, size):
    return [
        report_of(shard, start, statuses[start : start + size])
        for shard, start in enumerate(range(0, len(statuses), size))
    ]


def scores_of_statuses(statuses):
    scored = np.array([status == "scored" for status in statuses])
    ranks = np.zeros(len(statuses), dtype=np.int64)
    ranks[scored] = np.random.default_rng(0).permutation(scored.sum()) + 1
    return pa.table(
        {
            "row": np.arange(len(statuses)),
            "status": statuses,
            "leverage_score": pa.array(np.ones(len(statuses)), mask=~scored),
            "rank": pa.array(ranks, mask=~scored),
        }
    )


@given(STATUSES, st.integers(1, 12), st.data())
def test_right_numbers_pass_and_one_row_too_few_or_too_many_does_not(statuses, size, data):
    records, scored, rows = records_of(statuses), statuses.count("scored"), range(len(statuses))
    check_shard(rows, records, scored)
    check_reports(reversed(reports_of(statuses, size)), rows)
    check_scores(scores_of_statuses(statuses))
    place = data.draw(st.integers(0, len(statuses) - 1))
    for wrong in (records[:place] + records[place + 1 :], [*records, records[place]]):
        with pytest.raises(WorkError, match="does not add up"):
            check_shard(rows, wrong, sum(record.status == "scored" for record in wrong))
    reports = reports_of(statuses, size)
    for some in (reports[:-1], [*reports, reports[place // size]]):
        with pytest.raises(WorkError, match="does not add up"):
            check_reports(some, rows)
    table = scores_of_statuses(statuses)
    for taken in ([*range(place), *range(place + 1, len(statuses))], [*range(len(statuses)), place]):
        if taken and taken != list(range(len(taken))):
            with pytest.raises(WorkError, match="does not add up"):
                check_scores(table.take(taken))


@pytest.mark.parametrize(
    ("change", "vectors", "words"),
    [
        (lambda records: records, 3, "2 scored rows and 3 representations"),
        (lambda records: [replace(records[0], reason=Reason.TOO_LONG), *records[1:]], 2, "row 0 is scored with reason"),
        (lambda records: [*records[:2], replace(records[2], reason=None)], 2, "row 2 is skipped with reason None"),
        (lambda records: [*records[1:], records[0]], 2, "3 rows has records of 3"),
    ],
)
def test_each_fault_of_a_shard_is_noticed(change, vectors, words):
    with pytest.raises(WorkError, match=words):
        check_shard(range(3), change(records_of(["scored", "scored", "skipped"])), vectors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda report: replace(report, counts={"scored": 2}), "counts 2 rows"),
        (lambda report: replace(report, reasons={}), "has reasons"),
        (lambda report: replace(report, start=4), "follows row 3"),
        (lambda report: replace(report, stop=7, counts={**report.counts, "scored": 3}), "end at row 7"),
    ],
)
def test_each_fault_of_a_report_is_noticed(change, words):
    first, second = reports_of(["scored", "skipped", "scored"] * 2, 3)
    with pytest.raises(WorkError, match=words):
        check_reports([first, change(second)], range(6))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("row", [0, 2, 1], "each of its rows once"),
        ("status", ["scored", "skipped", "lost"], "statuses of 3 rows"),
        ("leverage_score", [1.0, None, 2.0], "have a leverage_score"),
        ("rank", [1, None, None], "have a rank"),
        ("rank", [1, 3, None], "not 1 to 2"),
    ],
)
def test_each_fault_of_a_table_of_scores_is_noticed(name, values, words):
    table = scores_of_statuses(["scored", "scored", "skipped"])
    table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    with pytest.raises(WorkError, match=words):
        check_scores(table)


@pytest.fixture(scope="module")
def told(tmp_path_factory, pictures, checkpoints):
    """Return the account of a run with rows of every kind, and its table."""
    folder = tmp_path_factory.mktemp("account")
    data = write_pool(folder, pictures, rows=20)
    records = json.loads(data.read_text())
    records[3]["image"] = "gone.png"
    records[4] = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}
    records[5] = dict(records[4])
    records[11] = dict(records[17])
    data.write_text(json.dumps(records))
    (folder / "unwanted.txt").write_text("0\n4\n")
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "4", "--output", folder / "run"]
    words += ["--max-per-image", "1", "--deduplicate", "exact", "--exclude-rows", folder / "unwanted.txt"]
    assert command(*words, "--text-only", "keep", "--max-skipped", "50%") == 0
    account = json.loads((folder / "run" / "selection.json").read_text())
    return account, pq.read_table(folder / "run" / "scores.parquet")


def test_the_account_of_a_run_adds_up_and_each_wrong_number_is_noticed(told):
    account, table = told
    assert account["barred"]["excluded"] == account["barred"]["duplicate"] == account["skipped"]["image_missing"] == 1
    assert account["text_only"]["excluded"] == account["text_only"]["chosen"] == 1
    check_account(account, table)
    numbers = [("rows", name) for name in account["rows"]] + [("barred", name) for name in account["barred"]]
    numbers += [("skipped", "image_missing"), ("budget", "rows")]
    numbers += [("text_only", name) for name in ("rows", "excluded", "chosen")]
    for group, name in numbers:
        for by in (-1, 1):
            wrong = copy.deepcopy(account)
            wrong[group][name] += by
            with pytest.raises(WorkError, match="does not add up"):
                check_account(wrong, table)
    for values in ([False] * 20, [True] * 20):
        column = table.schema.get_field_index("selected")
        with pytest.raises(WorkError, match="does not add up"):
            check_account(account, table.set_column(column, "selected", pa.array(values)))


def test_a_run_that_loses_a_row_ends_with_that(tmp_path, pictures, checkpoints, monkeypatch, capsys):
    data = write_pool(tmp_path, pictures, rows=6)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "2", "--output", tmp_path / "run"]
    original = shard_work.ShardWork._finish

    def forgetful(self, state, record):
        if record.identity.row != 2:
            original(self, state, record)

    monkeypatch.setattr(shard_work.ShardWork, "_finish", forgetful)
    assert command(*words) == 1
    assert "missing rows: [2]" in capsys.readouterr().err
    monkeypatch.undo()
    account_of = select_work.account_of

    def miscounting(*arguments):
        account = account_of(*arguments)
        account["rows"]["eligible"] -= 1
        return account

    monkeypatch.setattr(select_work, "account_of", miscounting)
    assert command(*words) == 1
    assert "internal account does not add up" in capsys.readouterr().err
    assert not (tmp_path / "run" / "selection.json").exists()


def test_a_row_is_finished_once():
    [record] = records_of(["scored"])
    check_not_told_twice(record, {})
    with pytest.raises(WorkError, match="row 0 was finished twice"):
        check_not_told_twice(record, {0: record})
