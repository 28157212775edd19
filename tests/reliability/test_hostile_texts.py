"""Ids, texts and names that would command a terminal: shown by no command as they are, and harmless in every file."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect import progress
from scalselect.cli import main
from scalselect.dataset.containers import name_of
from scalselect.printable import printable, printable_line
from scalselect.training_parts import code
from small_pools import command, scores_of

HOSTILE = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[1;1H",
    "\x9b31m",
    "\u202etxt.exe\u202c",
    "\u2066ab\u2069",
    "over\rwritten",
    "line\nerror: forged",
    "\u2028para\u2029",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(1)",
    "<script>alert(1)</script>",
    "```\nrm -rf ~\n```",
    "`id` $(id) ${HOME}",
    "{{ ''.__class__.__mro__ }}{% for i in range(9) %}x{% endfor %}",
    "!!python/object/apply:os.system ['id']",
    "../../../../etc/passwd",
    "a/b\\c",
    "CON",
    "nul\0byte",
    "x" * 5000,
    "\x7f\x08\x08hidden",
    "\U000e0041tag",
    "%s %n {0} \\u001b",
)


def harmful(text):
    """Return the characters of a text that no command may print."""
    bad = {"Cc", "Cs", "Zl", "Zp"}
    orders = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c"
    return {char for char in text if char != "\n" and (unicodedata.category(char) in bad or char in orders)}


@given(st.text(st.characters(), max_size=40))
def test_what_is_shown_commands_nothing_and_json_stays_itself(text):
    assert not harmful(printable(text))
    assert "\n" not in printable_line(text)
    kept = json.loads(printable(json.dumps({text: [text]}, ensure_ascii=False)))
    assert kept == {text: [text]}
    assert printable(printable(text)) == printable(text)


def test_ordinary_text_is_left_as_it_is():
    text = "Größe 大小 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🔬 a\u00a0b `x` <y> \\u001b"
    assert printable(text) == text


def hostile_records(pictures):
    records = []
    for number, text in enumerate(HOSTILE):
        turns = [{"from": "human", "value": f"<image>\n{text} {number}"}, {"from": "gpt", "value": text}]
        records.append({"id": text, "image": str(pictures[number % 6]), "kind": text, "conversations": turns})
        broken = {"id": text, "image": text, "kind": text, "conversations": turns}
        records += [broken, {"id": text, "kind": text, "conversations": [{"from": text, "value": text}]}]
        records.append({"id": [text], "image": {text: text}, "conversations": turns, text: text})
    records.append({"id": "half", "image": "\ud83d", "conversations": [{"from": "gpt", "value": "\udc80"}]})
    return records


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory, checkpoints, pictures):
    folder = tmp_path_factory.mktemp("po\x1b[2J\u202e `id` ool")
    data = folder / "da\x1b]0;x\x07ta\n$(id).json"
    data.write_text(json.dumps(hostile_records(pictures)))
    words = ["--model", str(checkpoints("llava")), "--max-skipped", "100%", "--stratify-by", "kind", "--budget", "50%"]
    return data, folder / "run", ["run", f"pool={data}", "--output", str(folder / "run"), *words]


def test_no_command_prints_what_commands_a_terminal(hostile_run, pictures, tmp_path, capfd):
    data, run, words = hostile_run
    more = data.with_name("more\x9b.json")
    more.write_text(json.dumps(hostile_records(pictures)[:20]))
    calls = [
        (0, words),
        (0, [*words, "--json"]),
        (0, ["score", run, "--energy", "0.8"]),
        (0, ["select", run, "--budget", "3,5", "--stratify-by", "kind"]),
        (0, ["select", run, "--budget", "3", "--json", "--stratify-by", "kind"]),
        (0, ["compare", run, run]),
        (0, ["compare", run, run, "--json"]),
        (0, ["export", run, "--to", "trl"]),
        (0, ["export", run, "--to", "messages", "--json"]),
        (1, ["check", data, "--like", "llamafactory"]),
        (1, ["check", data, "--like", "trl", "--decode", "off", "--json"]),
        (0, ["extend", run, more, "--max-skipped", "100%"]),
        (2, ["select", run, "--budget", "\x1b[1m"]),
        (2, ["select", run, "--bud\x9bget", "3"]),
        (2, ["check", tmp_path / "none\x1b[2J.json"]),
        (2, ["run", data, "--images", "no\u202ene", *words[2:]]),
        (2, ["score", tmp_path / "no\r\x1b[Krun"]),
    ]
    for exit_code, call in calls:
        assert (command(*call), call) == (exit_code, call)
        shown = capfd.readouterr()
        assert not harmful(shown.out + shown.err), call
        assert "Traceback" not in shown.err
        if "--json" in call:
            json.loads(shown.out)
    for file in (run / "selection.json", run / "run.json", run / "how_to_train.md", run / "diagnostics.json"):
        assert not harmful(file.read_text())


def test_ids_and_texts_are_kept_as_they_are_and_become_no_names(hostile_run):
    data, run, words = hostile_run
    assert command(*words) == 0
    records = json.loads(data.read_text())
    scores = scores_of(run)
    read = [row["id"] for row in records[: 4 * len(HOSTILE) : 4]]
    assert scores["id"][: 4 * len(HOSTILE) : 4] == read == list(HOSTILE)
    assert scores["stratum"][0] == HOSTILE[0]
    assert set(json.loads((run / "selection.json").read_text())["strata"]) <= set(HOSTILE)
    for to in ("trl", "messages", "llava"):
        assert command("export", run, "--to", to) == 0
    names = {part for path in run.rglob("*") for part in path.relative_to(run).parts}
    assert [name for name in names if not re.fullmatch(r"\.?[\w.%-]{1,60}", name)] == []
    assert {path.resolve().is_relative_to(run) for path in run.rglob("*")} == {True}


def test_commands_that_are_told_can_be_given_to_a_shell(hostile_run):
    _, run, words = hostile_run
    assert command(*words) == 0
    guide = (run / "how_to_train.md").read_text()
    lines = [line for line in guide.splitlines() if line.startswith("scalselect export")]
    assert lines
    for line in lines:
        assert shlex.split(line)[2] == printable(str(run))


def test_a_block_of_code_is_closed_by_nothing_inside_it():
    assert code("bash", "a\n```\nb\n`````") == "``````bash\na\n```\nb\n`````\n``````"


def test_progress_and_warnings_are_lines_of_their_own(capsys):
    stderr = progress.Stderr()
    stderr.say("waiting: \x1b[2Jme\nerror: forged")
    stderr.warn("\x9b1m")
    assert capsys.readouterr().err == "waiting: \\u001b[2Jme\\u000aerror: forged\nwarning: \\u009b1m\n"
    with pytest.warns(UserWarning, match=r"\\u001bx"):
        progress.Silent().warn("\x1bx")


def test_warnings_of_libraries_are_made_fit_to_be_shown(monkeypatch):
    told = []

    def warns(_namespace):
        warned = UserWarning("tag \x1b[2J\nerror: forged")
        told.append(warnings.formatwarning(warned, UserWarning, "file.py", 1, line=""))
        return 0

    monkeypatch.setitem(main.__globals__["_COMMANDS"], "score", warns)
    before = warnings.formatwarning
    assert main(["score", "x"]) == 0
    assert told == ["warning: tag \\u001b[2J\\u000aerror: forged\n"]
    assert warnings.formatwarning is before


def test_output_is_written_where_the_terminal_knows_few_letters(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    from scalselect.cli import _print

    _print("half \ud83d")
    sys.stdout.seek(0)
    assert sys.stdout.read() == "half \\ud83d\n"


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/d/more\x9b.json", "more_u009b"),
        ("/d/a\\..\\b.json", "a_.._b"),
        ("/d/\u202eab (1).json", "_u202eab (1)"),
        ("/d/..", "data"),
        ("/d/...json", "data"),
    ],
)
def test_names_of_data_sets_are_fit_for_files(location, name):
    assert name_of(location) == name
