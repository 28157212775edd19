"""The page of two run folders: its numbers are those of scores.parquet, and it is written whatever the data became."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import scalselect
from compared_pages import Page
from scalselect import comparison_report
from scalselect.comparison_report import comparison_page
from scalselect.errors import DatasetError, RunFolderError
from scored_runs import clustered_vectors, scored_run
from small_pools import command

ROWS = 160
VECTORS = clustered_vectors(ROWS)
OTHER = VECTORS + clustered_vectors(ROWS, seed=1) * 0.4


@pytest.fixture(scope="module")
def runs(tmp_path_factory, pictures):
    """Return two selected runs of the same data, which lie with their pictures beside the first."""
    folder = tmp_path_factory.mktemp("compared")
    names = [f"{row % 6}.png" for row in range(ROWS)]
    for number in range(6):
        (folder / "a").mkdir(exist_ok=True)
        shutil.copy(pictures[number], folder / "a" / f"{number}.png")
    a = scored_run(folder / "a", VECTORS, images=[[name] for name in names], unusable=(5,))
    b = scored_run(folder / "b", OTHER, images=[[name] for name in names], unusable=(6,))
    scalselect.select(a, budget=30, exclude_rows=[0, 1])
    scalselect.select(b, budget="20%")
    return a, b


def columns(run):
    return pq.read_table(run / "scores.parquet").to_pydict()


def chosen(run):
    return {row for row, selected in enumerate(columns(run)["selected"]) if selected}


@pytest.fixture
def page(runs, tmp_path):
    return Page(comparison_page(*runs, output=tmp_path / "page.html").read_bytes())


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("/x/one", "/x/two", ("one", "two")),
        ("/x/one/run", "/x/two/run", ("one/run", "two/run")),
        ("/one/x/run", "/two/x/run", ("one/x/run", "two/x/run")),
        ("/run", "/run", ("/run", "/run")),
    ],
)
def test_runs_are_told_apart_by_the_ends_of_their_paths(a, b, told):
    assert comparison_report._names_apart(Path(a), Path(b)) == told


def test_sets_are_those_of_the_tables(runs, page):
    a, b = map(chosen, runs)
    choice, samples = page.data["comparison-choice"], page.data["comparison-samples"]
    assert (choice["rows_a"], choice["rows_b"], choice["shared"]) == (len(a), len(b), len(a & b))
    assert a - b
    assert b - a
    for run, name, alone in ((runs[0], "only_a", a - b), (runs[1], "only_b", b - a)):
        ranks = columns(run)["rank"]
        assert samples[name] == sorted(alone, key=lambda row, ranks=ranks: ranks[row])


def test_common_best_rows_are_those_of_the_tables(runs, page):
    tables = [columns(run) for run in runs]
    both = [row for row in range(ROWS) if all(table["status"][row] == "scored" for table in tables)]
    assert page.data["comparison-runs"]["scored_in_both"] == len(both) == ROWS - 2
    orders = [sorted(both, key=lambda row, table=table: table["rank"][row]) for table in tables]
    ranks = page.data["comparison-ranks"]
    best, shared = (np.frombuffer(base64.b64decode(ranks[name]["bytes"]), "<u4") for name in ("best", "shared"))
    for number, common in zip(best.tolist(), shared.tolist(), strict=True):
        assert common == len(set(orders[0][:number]) & set(orders[1][:number]))
    for item in ranks["top"]:
        assert item["shared"] == len(set(orders[0][: item["rows"]]) & set(orders[1][: item["rows"]]))


def test_cards_tell_scores_ranks_and_reasons(runs, page):
    tables = [columns(run) for run in runs]
    cards = {int(card["data-row"]): card["text"] for card in page.of_class("li", "compared-card")}
    assert set(cards) == chosen(runs[0]) ^ chosen(runs[1])
    for row, text in cards.items():
        for letter, table in zip("AB", tables, strict=True):
            if table["rank"][row] is not None:
                assert f"{letter}: rank {table['rank'][row]}, score {table['leverage_score'][row]:.4g}" in text
        assert f"row {row}, id row-{row}" in text
        assert f"question {row}" in text
    assert len(page.all("img")) == len(cards)
    for picture in page.all("img"):
        assert base64.b64decode(picture["src"].removeprefix("data:image/webp;base64,"))[8:12] == b"WEBP"


def test_a_row_that_the_other_run_could_not_choose_says_why(runs, tmp_path):
    a = shutil.copytree(runs[0], tmp_path / "a")
    b = shutil.copytree(runs[1], tmp_path / "b")
    best = columns(b)["rank"].index(1)
    scalselect.select(a, budget=30, exclude_rows=[best])
    scalselect.select(b, budget=40)
    shown = Page(comparison_page(a, b).read_bytes())
    first = next(card for card in shown.of_class("li", "compared-card") if card["data-row"] == str(best))
    assert "barred: excluded by request" in first["text"]


def test_at_most_fifty_rows_of_each_are_shown(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_report, "MOST_OF_A_RUN", 3)
    shown = Page(comparison_page(*runs, output=tmp_path / "page.html").read_bytes())
    alone = len(chosen(runs[0]) - chosen(runs[1]))
    assert len(shown.data["comparison-samples"]["only_a"]) == 3
    assert shown.all("h3")[0]["text"] == f"A alone chose {alone} rows"
    assert len(shown.of_class("li", "compared-card")) == 6


def test_it_lies_in_the_first_folder_and_changes_nothing_else(runs, tmp_path):
    a, b = shutil.copytree(runs[0], tmp_path / "a"), shutil.copytree(runs[1], tmp_path / "some run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    path = comparison_page(a, str(b))
    assert path == a / "report_with_some run.html"
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {path}
    assert comparison_page(a, b).read_bytes() == after[path]  # the same records, the same bytes


def test_another_choice_in_the_first_run_removes_it(runs, tmp_path):
    a, b = shutil.copytree(runs[0], tmp_path / "a"), shutil.copytree(runs[1], tmp_path / "b")
    page = comparison_page(a, b)
    (a / "report_with_notes.txt").touch()
    scalselect.select(b, budget=11)
    assert page.exists()
    scalselect.select(a, budget=11)
    assert not page.exists()
    assert (a / "report_with_notes.txt").exists()


def test_the_name_is_that_of_the_folder_however_it_is_spelled(runs, tmp_path, monkeypatch):
    a = shutil.copytree(runs[0], tmp_path / "a")
    monkeypatch.chdir(shutil.copytree(runs[1], tmp_path / "other"))
    assert comparison_page(a, ".").name == "report_with_other.html"
    long = shutil.copytree(runs[1], tmp_path / ("é" * 120))
    assert comparison_page(a, long).name == f"report_with_{'é' * 90}.html"


def test_data_that_are_gone_leave_a_page_without_pictures(runs, tmp_path):
    data = runs[0].parent / "pool.json"
    data.rename(tmp_path / "moved.json")
    try:
        shown = Page(comparison_page(*runs, output=tmp_path / "without.html").read_bytes())
        told = next(note["text"] for note in shown.of_class("p", "note") if "not shown" in note["text"])
        assert "The data of the run are gone" in told
        assert shown.all("img") == []
        assert len(shown.of_class("li", "compared-card")) > 0
        with_data = comparison_page(*runs, dataset=tmp_path / "moved.json", output=tmp_path / "with.html")
        cards = Page(with_data.read_bytes()).of_class("li", "compared-card")
        assert all("question" in card["text"] for card in cards)
    finally:
        (tmp_path / "moved.json").rename(data)


def test_other_data_are_refused_and_nothing_is_written(runs, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('[{"conversations": [{"from": "human", "value": "?"}]}]', encoding="utf-8")
    with pytest.raises(DatasetError):
        comparison_page(*runs, dataset=other, output=tmp_path / "page.html")
    fewer = scored_run(tmp_path / "fewer", VECTORS[:60])
    with pytest.raises(RunFolderError, match="not of the same data"):
        comparison_page(runs[0], fewer, output=tmp_path / "page.html")
    with pytest.raises(RunFolderError, match="no scores yet"):
        comparison_page(runs[0], scored_run(tmp_path / "unscored", VECTORS, score=False), output=tmp_path / "page.html")
    with pytest.raises(RunFolderError, match="not a run folder"):
        comparison_page(runs[0], tmp_path, output=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_runs_without_a_choice_have_a_page(runs, tmp_path):
    scored = scored_run(tmp_path / "scored", VECTORS, images=[[f"{row % 6}.png"] for row in range(ROWS)], unusable=(5,))
    shown = Page(comparison_page(runs[0], scored, output=tmp_path / "page.html").read_bytes())
    told = "Chosen rows are not compared: nothing was selected in B."
    assert told in [paragraph["text"] for paragraph in shown.all("p")]
    assert "nothing yet" in [cell["text"] for cell in shown.all("td")]


def test_it_says_what_it_does(runs, tmp_path):
    said = []

    class Listening(comparison_report.Silent):
        def say(self, line):
            said.append(line)

    comparison_page(*runs, output=tmp_path / "page.html", progress=Listening())
    assert said == ["comparing the two runs"]


def test_the_command_and_the_function(runs, tmp_path, capsys):
    paths = [tmp_path / "one.html", tmp_path / "two.html"]
    assert command("report", *runs, "--output", paths[0], "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(paths[0]), "bytes": paths[0].stat().st_size}
    assert scalselect.report(*runs, output=paths[1]) == paths[1]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert Page(paths[0].read_bytes()).first("title")["text"].startswith("Two runs of ")
    assert command("report", runs[0], tmp_path / "none") == 2
    assert "not a run folder" in capsys.readouterr().err


def test_no_torch_is_loaded(runs, tmp_path):
    code = (
        "import sys\nfrom scalselect.comparison_report import comparison_page\n"
        "comparison_page(*sys.argv[1:3], output=sys.argv[3])\n"
        "print(sorted({'torch', 'transformers', 'ray', 'matplotlib'} & set(sys.modules)))\n"
    )
    words = [sys.executable, "-c", code, *map(str, runs), str(tmp_path / "page.html")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"
