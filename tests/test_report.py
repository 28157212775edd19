"""The page of a run folder: what it says in every state of a run, and that its numbers are those of the records."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import scalselect
from report_pages import array_of, check_page, data_of, scripts_of, section_of
from scalselect.errors import DatasetError, RunFolderError, WorkError
from scalselect.report_page.number_words import percent
from scalselect.report_page.shown_rows import passed_over
from scalselect.run_folder import RunFolder
from scored_runs import FACTS, clustered_vectors, line_of, scored_run
from small_pools import command, record, write_pool

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script><!--\u2028\ud800&amp;'


def page_of(run, **options):
    return scalselect.report(run, **options).read_bytes().decode()


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run of 200 rows: three skipped, two text-only, some barred, two budgets, two strata."""
    folder = tmp_path_factory.mktemp("chosen")
    vectors = clustered_vectors(200)
    texts = [f"question {row // 2}" if row < 20 else f"question {row}" for row in range(200)]
    images = [[f"{row // 2}.png"] if row < 20 else [f"{row}.png"] for row in range(200)]
    for row in (150, 151):
        images[row] = []
    run = scored_run(folder, vectors, images=images, texts=texts, unusable={30, 31, 199}, text_only={150, 151})
    scalselect.select(run, budget="16%,30", deduplicate="exact", stratify_by="source", text_only="keep")
    return run


@pytest.fixture(scope="module")
def page(chosen):
    return page_of(chosen)


def test_it_is_one_page_that_fetches_nothing(page):
    found = check_page(page)
    assert [attrs["id"] for attrs in found.all("section")] == [
        "happened",
        "spectrum",
        "leverage",
        "map",
        "samples",
        "balance",
        "reproduce",
    ]
    assert found.all("html") == [{"lang": "en"}]
    assert len(page.encode()) < 300_000


def test_what_happened_counts_every_row(chosen, page):
    table = pq.read_table(chosen / "scores.parquet")
    fates = data_of(page)["happened"]["fates"]
    assert sum(rows for _, _, rows in fates) == 200
    by_kind = {kind: sum(rows for of, _, rows in fates if of == kind) for kind, _, _ in fates}
    assert by_kind["chosen"] == pc.sum(table["selected"]).as_py()
    assert by_kind["skipped"] == 3
    assert by_kind["barred"] == sum(
        reason.startswith("duplicate_of") for reason in table["reason"].drop_null().to_pylist()
    )
    assert ["skipped", "image_missing", 3] in fates
    assert "text-only" not in by_kind  # both were chosen on top
    text = check_page(section_of(page, "happened")).text
    subspace = json.loads((chosen / "selection.json").read_text())["subspace"]
    assert f"The dominant subspace is the {subspace['k']} directions, out of 24 dimensions, in which" in text
    assert f"these hold {100 * subspace['energy']:.0f} %. The method is ScalSelect (arXiv 2602.11636). Each row" in text
    assert "Rows count from 0, ranks from 1." in text
    assert "Begun" in text
    assert "model: given in Python" in page
    selection = json.loads((chosen / "selection.json").read_text())
    rows = selection["rows"]
    assert rows["scored"] - rows["candidates"] == by_kind["barred"] > 0
    share = f"{100 * selection['budget']['rows'] / rows['candidates']:.0f}\u202f%"
    could = f"{share} of the {rows['candidates']} that could be; {by_kind['barred']} with a score were barred."
    assert f"{selection['budget']['rows']} of 200 rows were chosen, {could}".replace("\u202f", " ") in text.replace(
        "\u202f", " "
    )
    assert f"With 2 text-only rows on top, {selection['rows']['selected']} are to be trained on." in text
    assert "30 rows asked, 30 rows chosen" in text


def test_numbers_are_those_of_the_scores(chosen, page):
    table = pq.read_table(chosen / "scores.parquet")
    scored = table.filter(pc.is_valid(table["leverage_score"]))
    falling = np.sort(scored["leverage_score"].to_numpy())[::-1]
    found = data_of(page)["leverage"]
    ranks, held, scores = (array_of(found[name]) for name in ("ranks", "held", "scores"))
    assert found["rows"] == len(falling) == 195
    assert (ranks[0], ranks[-1]) == (1, 195)
    np.testing.assert_array_equal(scores, falling[ranks - 1])
    np.testing.assert_allclose(held, np.cumsum(falling)[ranks - 1] / falling.sum(), rtol=1e-12)
    for budget in json.loads((chosen / "selection.json").read_text())["budgets"]:
        assert budget["rows"] in ranks
    edges, counts, some = (array_of(found[name]) for name in ("edges", "counts", "chosen"))
    np.testing.assert_array_equal(counts, np.histogram(falling, edges)[0])
    picked = scored.filter(scored["selected"])["leverage_score"].to_numpy()
    np.testing.assert_array_equal(some, np.histogram(picked, edges)[0])
    assert passed_over(table)  # for the quotas of the strata, so that the lowest chosen score cuts nothing
    assert "lowest chosen" not in page
    values = array_of(data_of(page)["spectrum"]["singular_values"])
    np.testing.assert_array_equal(values, scalselect.score(chosen).spectrum[: len(values)])
    spectrum = json.loads((chosen / "diagnostics.json").read_text())["spectrum"]
    cumulative = array_of(data_of(page)["spectrum"]["cumulative"])
    np.testing.assert_allclose(cumulative, spectrum["cumulative_energy"][: len(values)], rtol=1e-12)
    assert cumulative[spectrum["k"] - 1] == pytest.approx(spectrum["energy"])


def test_balance_is_that_of_the_diagnostics(chosen, page):
    measured = json.loads((chosen / "diagnostics.json").read_text())["balance"]
    found = data_of(page)["balance"]
    assert set(found) == {"stratum", "length", "turns", "images", "answer", "answer_type"}  # there is one data set
    for item in measured["stratum"]["over"]:
        assert found["stratum"][item["value"]] == item["chosen"]
    text = check_page(section_of(page, "balance")).text
    assert "The only value has the same share" in text  # all answers are yes


def test_the_same_records_give_the_same_bytes(chosen, page, tmp_path):
    assert scalselect.report(chosen, output=tmp_path / "again.html").read_bytes() == page.encode()
    assert scalselect.report(chosen) == chosen / "report.html"


def test_a_run_without_a_selection(tmp_path):
    run = scored_run(tmp_path, clustered_vectors(60))
    page = check_page(text := page_of(run))
    assert "60 of 60 rows were scored, and nothing was chosen yet" in page.text
    assert "scored, nothing chosen yet" in page.text
    assert "What is known of pool.json" in page.text
    assert "Nothing was chosen yet, so there is nothing to hold against the pool" in page.text
    assert "The best 15 % of the rows hold" in page.text
    assert array_of(data_of(text)["leverage"]["chosen"]).sum() == 0
    assert "scalselect score" in section_of(text, "reproduce")


def test_a_run_before_scoring(tmp_path):
    run = scored_run(tmp_path, clustered_vectors(60), unusable={3}, score=False)
    page = check_page(text := page_of(run))
    assert [attrs["id"] for attrs in page.all("section")] == ["happened", "samples", "reproduce"]
    words = (
        "Nothing was scored yet: of 60 rows, 59 were represented and 1 was skipped; scalselect score is the next step."
    )
    assert words in page.text
    assert "represented, not scored yet" in page.text
    assert "nothing chosen yet" not in page.text
    assert "Highest scores" not in page.text
    assert "Some rows: represented, not scored yet (59)" in page.text
    cards = data_of(text)["samples"]["cards"]
    assert [card["row"] for card in cards if card["group"] == "highest"] == [row for row in range(60) if row != 3]
    assert ["others", None, 59] in data_of(text)["happened"]["fates"]


def test_all_rows_skipped(tmp_path):
    run = scored_run(tmp_path, clustered_vectors(20), unusable=set(range(20)), score=False)
    page = check_page(page_of(run))
    assert "Nothing was scored yet: of 20 rows, 20 were skipped, so there is nothing to score." in page.text
    assert "100 %" in page.text


@pytest.mark.parametrize(
    ("vectors", "options", "words"),
    [
        (
            clustered_vectors(9),
            {"unusable": set(range(1, 9))},
            "1 was represented and 8 were skipped. A score compares",
        ),
        (clustered_vectors(9), {"text_only": set(range(9))}, "9 were text-only, so there is nothing to score."),
        (np.ones((120, 4), dtype=np.float32), {}, "120 were represented. All of their vectors are equal"),
    ],
)
def test_no_next_step_is_named_where_it_can_only_fail(tmp_path, vectors, options, words):
    page = check_page(page_of(run := scored_run(tmp_path, vectors, score=False, **options)))
    assert words in page.text
    assert "is the next step" not in page.text
    with pytest.raises(WorkError):
        scalselect.score(run)


def test_several_budgets_of_a_choice_that_is_not_by_score_alone(tmp_path):
    """The curve says what the best rows would hold, and the page what the rows of each budget do hold."""
    run = scored_run(tmp_path, clustered_vectors(200))
    scalselect.select(run, budget="40%,20", strategy="coverage")
    page = check_page(text := page_of(run))
    scores = pq.read_table(run / "scores.parquet")
    falling = np.sort(scores["leverage_score"].to_numpy())[::-1]
    first = scores.filter(scores["selected"])["leverage_score"].to_numpy()
    second = pq.read_table(run / "selections" / "20" / "rows.parquet")["leverage_score"].to_numpy()
    of_first, of_second, best, best_of_second = (
        percent(some.sum() / falling.sum()).replace("\u202f", " ")
        for some in (first, second, falling[:80], falling[:20])
    )
    told = page.text.replace("\u202f", " ")
    assert best != of_first
    assert f"the best 40 % hold {best}" in told
    assert f"the best 20 rows hold {best_of_second}" in told
    assert f"The chosen rows, which are not simply the best, hold {of_first}." in told
    assert f"the rows chosen, for 40 %: {of_first} held; for 20 rows: {of_second} held" in told
    assert "2 budgets were asked for: 40 % and 20 rows. What is said above" in told
    assert "about the first, 40 %" in told
    assert "dashed" not in section_of(text, "leverage")
    (run / "selections" / "20" / "rows.parquet").unlink()
    told = page_of(run).replace("\u202f", " ")
    assert f"the rows chosen, for 40 %: {of_first} held</p>" in told


def test_a_trial_says_so(tmp_path):
    run = RunFolder(scored_run(tmp_path, clustered_vectors(60)))
    content = run.require()
    represent = {**content["represent"], "limit": 60, "data_records": 4000}
    run.update(represent=represent)
    page = check_page(page_of(run.path))
    assert "A trial: what is known of the first 60 of 4,000 rows of pool.json" in page.text
    assert "A trial of the first 60 of 4,000 rows. 60 of 60 rows were scored" in page.text
    assert "left out 3,940 rows of 4,000" in page.text


def test_vectors_made_elsewhere(tmp_path):
    np.save(tmp_path / "vectors.npy", clustered_vectors(80))
    run = tmp_path / "run"
    scalselect.score(representations=tmp_path / "vectors.npy", output=run)
    check_page(page_of(run))
    scalselect.select(run, budget=8)
    page = check_page(text := page_of(run))
    assert "8 of 80 rows were chosen, 10 % of those that could be" in page.text
    assert "vectors made elsewhere" in page.text
    assert "Each row is a vector that was made elsewhere. Rows count from 0, ranks from 1." in page.text
    assert "Nothing is known of these rows that could be balanced" in page.text
    assert "scalselect score --representations vectors.npy" in section_of(text, "reproduce")
    assert "How to train" not in text


def test_rows_that_are_all_nearly_alike(tmp_path):
    """Scores that are equal, a spectrum of one value, a budget of everything."""
    vectors = np.repeat(np.array([[1.0, 0.0], [-1.0, 0.0]], dtype=np.float32), 10, axis=0)
    run = scored_run(tmp_path, vectors)
    scalselect.select(run, budget="100%")
    page = check_page(text := page_of(run))
    assert "20 of 20 rows were chosen, 100 % of those that could be. They hold 100 % of the leverage." in page.text
    assert "Nothing is left beyond dimension 1" in page.text
    assert array_of(data_of(text)["leverage"]["counts"]).sum() == 20


def test_hostile_texts_stay_text(tmp_path):
    records = [{"id": HOSTILE.replace("\ud800", ""), "source": f"<b>{HOSTILE[:60]}{row % 3}"} for row in range(40)]
    run = scored_run(tmp_path / "<i>&'\"", clustered_vectors(40), records=records)
    scalselect.select(run, budget=10, stratify_by="source")
    page = check_page(text := page_of(run))
    assert "<b>" not in text
    assert "<img" not in text
    assert "alert(" not in "".join(scripts_of(text))
    assert '<b>"><img src=x onerror=alert(1)></script>' in page.text


def test_several_data_sets_and_one_with_a_comma(tmp_path, pictures, checkpoints):
    for name in ("first", "sec ond"):
        rows = [record(i, pictures[i % 3], question="Is it red?" * (1 + i % 3)) for i in range(6)]
        (tmp_path / f"{name}.json").write_text(json.dumps([{**row, "id": f"{name}-{i}"} for i, row in enumerate(rows)]))
    words = ["--model", checkpoints("llava"), "--output", tmp_path / "run", "--budget", "50%"]
    assert command("run", tmp_path / "first.json", f"b={tmp_path / 'sec ond.json'}", *words) == 0
    page = check_page(text := page_of(tmp_path / "run"))
    assert "What was chosen from first and b" in page.text
    assert set(data_of(text)["balance"]["source"]) <= {"first", "b"}
    assert f"first={tmp_path}/first.json" in page.text
    assert f"'b={tmp_path}/sec ond.json" in page.text
    assert "LLaMA-Factory" in section_of(text, "reproduce")


def test_data_that_are_gone_are_no_fault_and_named_ones_must_be_right(chosen, page, tmp_path):
    run = shutil.copytree(chosen, tmp_path / "run")
    content = (chosen.parent / "pool.json").read_bytes()
    (tmp_path / "moved.json").write_bytes(content)
    try:
        (chosen.parent / "pool.json").unlink()
        assert "were chosen" in page_of(run)
        assert "were chosen" in page_of(run, dataset=tmp_path / "moved.json")
        (tmp_path / "other.json").write_text("[]" if not content else content.decode().replace("yes", "no", 1))
        with pytest.raises(DatasetError, match="changed"):
            page_of(run, dataset=tmp_path / "other.json")
    finally:
        (chosen.parent / "pool.json").write_bytes(content)


def test_records_that_do_not_belong_together_are_refused(chosen, tmp_path):
    run = shutil.copytree(chosen, tmp_path / "run")
    (run / "diagnostics.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"not what was written with the choice: .*diagnostics\.json"):
        page_of(run)
    shutil.copy(chosen / "diagnostics.json", run)
    shutil.copytree(chosen / "representations", tmp_path / "kept")
    table = RunFolder(run).store.rows(0)
    changed = [line_of(row, None, [f"{row}.png"], "other words", unusable=False) for row in table["row"].to_pylist()]
    RunFolder(run).store.publish(0, range(50), changed, clustered_vectors(50, seed=9), FACTS)
    with pytest.raises(RunFolderError, match="the scores were not made from the representations"):
        page_of(run)
    shutil.rmtree(run / "representations")
    shutil.move(tmp_path / "kept", run / "representations")
    report = run / "representations" / "shard-0000001.json"
    report.rename(tmp_path / "aside.json")
    with pytest.raises(RunFolderError, match="1 of 4 shards are not represented yet"):
        page_of(run)
    with pytest.raises(RunFolderError, match="not a run folder"):
        page_of(tmp_path)


def test_the_command(chosen, tmp_path, capsys):
    target = tmp_path / "new" / "page.html"
    assert command("report", chosen, "--output", target, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(target), "bytes": target.stat().st_size}
    assert command("report", chosen) == 0
    assert str(chosen / "report.html") in capsys.readouterr().out.replace("\n" + " " * 11, "")
    assert command("report", tmp_path) == 2


def test_another_choice_removes_the_page(tmp_path):
    run = scored_run(tmp_path, clustered_vectors(60))
    scalselect.select(run, budget=6)
    page_of(run)
    scalselect.select(run, budget=6)
    assert (run / "report.html").exists()
    scalselect.select(run, budget=7)
    assert not (run / "report.html").exists()


def mark_in(run):
    return re.search(r'name="scalselect-records" content="([0-9a-f]{64})"', (run / "report.html").read_text())[1]


@pytest.mark.usefixtures("shared_models_kept")
def test_a_run_writes_its_page_once(tmp_path, pictures, checkpoints, capsys):
    data = write_pool(tmp_path, pictures)
    words = ["run", data, "--model", checkpoints("llava"), "--output", tmp_path / "run", "--budget", "50%"]
    assert command(*words) == 0
    assert "report.html" in capsys.readouterr().out
    page = tmp_path / "run" / "report.html"
    first, bytes_of_first = page.stat().st_mtime_ns, page.read_bytes()
    assert b"UklGR" in bytes_of_first
    assert command(*words) == 0
    assert page.stat().st_mtime_ns == first
    data.rename(tmp_path / "aside.json")
    without = scalselect.report(tmp_path / "run").read_bytes()
    assert b"UklGR" not in without
    assert b"the data of the run are gone" in without
    (tmp_path / "aside.json").rename(data)
    assert command(*words) == 0
    assert page.read_bytes() == bytes_of_first
    assert command(*words[:-1], "25%") == 0
    assert mark_in(tmp_path / "run").encode() not in bytes_of_first


@pytest.mark.usefixtures("shared_models_kept")
def test_a_page_that_cannot_be_written_ends_no_run(tmp_path, pictures, checkpoints, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scalselect.report_work.report_bytes", full)
    words = ["run", write_pool(tmp_path, pictures), "--model", checkpoints("llava"), "--output", tmp_path / "run"]
    assert command(*words, "--budget", "50%") == 0
    told = capsys.readouterr()
    assert "warning: report.html was not written: " in told.err
    assert f"`scalselect report {tmp_path}/run` tries again" in told.err
    assert "report.html" not in told.out
    assert (tmp_path / "run" / "selection.json").exists()


@pytest.mark.parametrize("name", ["run.json", "scores.parquet", "representations"])
def test_nothing_but_a_page_is_replaced_by_one(chosen, tmp_path, capsys, name):
    run = shutil.copytree(chosen, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert command("report", run, "--output", run / name) == 2
    assert f"{run / name} (give" in capsys.readouterr().err
    assert command("report", run, run, "--output", run / name) == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_page_and_an_empty_file_are_replaced(chosen, tmp_path):
    place = tmp_path / "page.html"
    place.touch()
    for _ in range(2):
        assert scalselect.report(chosen, output=place) == place
        assert place.read_bytes().startswith(b"<!doctype html>")


@pytest.mark.parametrize("named", [False, True])
def test_pictures_come_back_where_data_have_moved(tmp_path, pictures, checkpoints, named):
    """Beside the data file they are found by themselves, elsewhere where the call says so."""
    data = write_pool(tmp_path / "old", pictures, rows=12)
    records = json.loads(data.read_bytes())
    for place in records:
        place["image"] = place["image"].rpartition("/")[2]
    images = tmp_path / ("pictures" if named else "old")
    images.mkdir(exist_ok=True)
    for picture in pictures:
        shutil.copy(picture, images)
    data.write_text(json.dumps(records))
    options = ["--images", images] if named else []
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "50%", *options, "--output", tmp_path / "run"]
    assert command(*words) == 0
    whole = (tmp_path / "run" / "report.html").read_bytes().decode()
    shutil.move(data.parent, tmp_path / "new")
    if named:
        shutil.move(images, tmp_path / "elsewhere")
    moved = f"pool={tmp_path / 'new' / 'pool.json'}" + (f",images={tmp_path / 'elsewhere'}" if named else "")
    assert command("report", tmp_path / "run", "--dataset", moved) == 0
    shown, before = (
        data_of(page)["samples"] for page in ((tmp_path / "run" / "report.html").read_bytes().decode(), whole)
    )
    assert shown == before
    assert shown["pictures"]
