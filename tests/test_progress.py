"""Progress goes to stderr, never to stdout: plain lines into files and pipes, a bar on a terminal."""

from __future__ import annotations

import io
import sys
import warnings
from types import SimpleNamespace

import pytest

from scalselect import progress
from scalselect.errors import ScalselectWarning
from scalselect.progress import Silent, Stderr, readable_seconds


class Clock:
    """Stands still unless told otherwise."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def test_plain_lines_where_stderr_is_no_terminal(clock, capsys):
    told = Stderr()
    told.say("pool: 100 rows")
    told.warn("the model is untested")
    told.start(total=4000, done=1000, skipped=0)
    for second in range(1, 26):
        clock.now = 1000 + second
        told.row("skipped" if second == 3 else "scored")
    told.stop()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "pool: 100 rows",
        "warning: the model is untested",
        "represented 1,010 of 4,000 rows, 1.0 rows/s, 50 min left, 1 skipped",
        "represented 1,020 of 4,000 rows, 1.0 rows/s, 50 min left, 1 skipped",
        "represented 1,025 of 4,000 rows, 1.0 rows/s, 50 min left, 1 skipped",
    ]


def test_rows_done_before_do_not_count_as_speed(clock, capsys):
    told = Stderr()
    told.start(total=1000, done=990, skipped=0)
    for _ in range(5):
        clock.now += 2
        told.row("text_only")
    told.stop()
    assert capsys.readouterr().err.splitlines()[-1] == (
        "represented 995 of 1,000 rows, 0.5 rows/s, 10 s left, 0 skipped"
    )


def test_nothing_done_nothing_told(clock, capsys):
    told = Stderr()
    told.start(total=10, done=10, skipped=0)
    clock.now += 60
    told.stop()
    assert capsys.readouterr() == ("", "")


def test_counting_begins_anew(clock, capsys):
    told = Stderr()
    for _ in range(2):
        told.start(total=1, done=0, skipped=0)
        clock.now += 1
        told.row("skipped")
        told.stop()
    line = "represented 1 of 1 rows, 1.0 rows/s, 1 skipped"
    assert capsys.readouterr().err.splitlines() == [line, line]


def test_no_time_at_all_is_no_division_by_zero(clock, capsys):
    told = Stderr()
    told.start(total=2, done=0, skipped=0)
    told.row("scored")
    told.stop()
    assert "represented 1 of 2 rows" in capsys.readouterr().err


def test_a_bar_where_stderr_is_a_terminal(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.tqdm, "monitor_interval", 0)  # no thread of tqdm's own
    told = Stderr()
    told.start(total=3, done=1, skipped=0)
    told.say("a sentence in between")
    told.row("skipped")
    told.row("scored")
    told.stop()
    shown = terminal.getvalue()
    assert "1/3" in shown
    assert "row" in shown
    assert "1 skipped" in shown
    assert "a sentence in between\n" in shown
    assert shown.endswith(", 1 skipped\n")
    assert "represented 3 of 3 rows" in shown
    assert capsys.readouterr().out == ""


def test_silent_tells_warnings_only(capsys):
    told = Silent()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told.say("pool: 100 rows")
        told.start(10, 0, 0)
        told.row("scored")
        told.stop()
    assert caught == []
    assert capsys.readouterr() == ("", "")
    with pytest.warns(ScalselectWarning, match="the model is untested"):
        told.warn("the model is untested")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (8.2, "8 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (3 * 3600 + 5 * 60, "3 h 05 min"),
        (3 * 3600 - 1, "3 h 00 min"),
        (1000 * 3600, "1000 h 00 min"),
    ],
)
def test_durations_as_a_person_says_them(seconds, words):
    assert readable_seconds(seconds) == words


def test_shards_of_workers_count_at_once_and_workers_are_shown(clock, capsys):
    told = Stderr()
    told.workers(3, 4)
    told.start(total=4000, done=1000, skipped=5)
    clock.now += 100
    for _ in range(3):
        told.rows({"scored": 490, "skipped": 10})
    told.workers(4, 4)
    told.stop()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "represented 1,500 of 4,000 rows, 5.0 rows/s, 15 skipped, 3 of 4 workers"  # too early for a time
    assert last == "represented 2,500 of 4,000 rows, 15.0 rows/s, 2 min left, 35 skipped, 4 of 4 workers"
    told.start(total=1, done=0, skipped=0)
    told.row("scored")
    told.stop()
    assert "workers" not in capsys.readouterr().err


def test_the_speed_does_not_jump_with_bursts(clock, capsys):
    told = Stderr()
    told.workers(8, 8)
    told.start(total=800_000, done=0, skipped=0)
    for _ in range(20):  # rounds, in which all hand in their shards within a moment
        clock.now += 100
        for _ in range(8):
            clock.now += 0.01
            told.rows({"scored": 1000})
    lines = capsys.readouterr().err.splitlines()
    rates = [float(line.split(" rows/s")[0].rpartition(" ")[2]) for line in lines[1:]]
    assert len(rates) == 19
    assert all(79 <= rate <= 81 for rate in rates)


@pytest.mark.parametrize("total", [1, 625_000, 100_000_000])
def test_the_bar_fits_80_columns(clock, monkeypatch, total):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.tqdm, "monitor_interval", 0)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _stream: (80, 24))
    told = Stderr()
    told.workers(8, 8)
    told.start(total=total, done=0, skipped=0)
    clock.now += 4000
    for _ in range(8):
        told.rows({"scored": total // 20, "skipped": total // 1000})
    told.workers(7, 8)
    shown = terminal.getvalue().rpartition("\r")[2].removesuffix("\x1b[A")
    assert len(shown) <= 80
    assert shown.rstrip().endswith("7 of 8 workers")
    assert "| 0/" in terminal.getvalue()
    told.stop()
