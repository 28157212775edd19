"""The page on reliability: every row of its tables names tests that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
SECTIONS = [
    "Death",
    "Disk and memory",
    "Damage",
    "Change",
    "Two at once",
    "Several workers",
    "Bad samples",
    "Malformed input",
    "Hostile input",
    "Determinism",
]
HEADER = ["fault", "what happens", "what you see", "what to do", "shown by"]
SHOWN_BY = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`(?:, )?")
CELL_BORDER = re.compile(r"(?<!\\)\|")  # a vertical bar in a cell is written with a backslash


def tables(text):
    """Return section -> rows of cells of the table in it, its header included, the line below that left out."""
    found = {}
    for part in text.split("\n## ")[1:]:
        title, body = part.split("\n", 1)
        lines = [line.strip() for line in body.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in CELL_BORDER.split(line)[1:-1]] for line in lines]
        found[title.strip()] = [row for row in rows if set("".join(row)) - set("-:")]
    return found


@functools.cache
def functions_of(path):
    """Return the names of the functions in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def faults_of(row):
    """Return what is wrong with a row of a table, in words."""
    if len(row) != len(HEADER):
        return [f"{len(row)} cells: {row}"]
    wrong = [f"{name} is empty: {row}" for name, cell in zip(HEADER, row, strict=True) if not cell]
    named = SHOWN_BY.findall(row[-1])
    if not named or SHOWN_BY.sub("", row[-1]):
        wrong.append(f"not a list of `tests/path.py::test`: {row[-1]!r}")
    for path, function in named:
        if not (ROOT / path).is_file():
            wrong.append(f"no such file: {path}")
        elif function not in functions_of(path):
            wrong.append(f"no such test: {path}::{function}")
    return wrong


def test_sections_are_these_and_each_has_its_table():
    found = tables(PAGE.read_text(encoding="utf-8"))
    assert list(found) == SECTIONS
    assert [rows[:1] for rows in found.values()] == [[HEADER]] * len(SECTIONS)
    assert all(len(rows) > 1 for rows in found.values())


@pytest.mark.parametrize("section", SECTIONS)
def test_every_row_names_tests_that_exist(section):
    rows = tables(PAGE.read_text(encoding="utf-8"))[section][1:]
    assert [fault for row in rows for fault in faults_of(row)] == []


def test_no_fault_is_told_twice():
    rows = [row for found in tables(PAGE.read_text(encoding="utf-8")).values() for row in found[1:]]
    assert len({(row[0], row[1]) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("shown_by", "told"),
    [
        ("", "shown by is empty"),
        ("tests/test_storage.py::test_hashes", "not a list of"),
        ("`tests/test_storage.py::test_hashes` and others", "not a list of"),
        ("`tests/test_storage.py`", "not a list of"),
        ("`tests/test_no_such.py::test_hashes`", "no such file: tests/test_no_such.py"),
        ("`tests/test_storage.py::test_no_such`", "no such test: tests/test_storage.py::test_no_such"),
        ("`tests/test_storage.py::test_hashes`, `tests/test_storage.py::test_b`", "no such test"),
    ],
)
def test_the_check_can_fail(shown_by, told):
    (_, row) = tables(f"# A\n\n## Death\n\n| {' | '.join(HEADER)} |\n|---|\n| a | b | c \\| d | e | {shown_by} |\n")[
        "Death"
    ]
    assert told in faults_of(row)[0]
    assert faults_of([*row[:4], "`tests/test_storage.py::test_hashes`"]) == []
