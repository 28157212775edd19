"""Small pools on disk for tests of whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from scalselect.cli import main


def record(number, picture, *, question="What is in the picture?", answer="A shape.", **fields):
    return {
        "id": f"row-{number}",
        "image": str(picture),
        "conversations": [
            {"from": "human", "value": f"<image>\n{question} ({number})"},
            {"from": "gpt", "value": answer},
        ],
        **fields,
    }


def write_pool(folder, pictures, rows=12, **fields):
    """Write a LLaVA JSON array of good rows and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pool.json"
    words = ["red", "blue circle", "left of the square", "how many"]
    records = [
        record(i, pictures[i % len(pictures)], question=f"Is it {words[i % 4]}?" * (1 + i % 3), **fields)
        for i in range(rows)
    ]
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def command(*words):
    """Run the command line in process and return its exit code; argparse's own exit counts as one."""
    try:
        return main([str(word) for word in words])
    except SystemExit as exited:
        return exited.code


def scores_of(run_dir):
    """Return the columns of scores.parquet as lists."""
    return pq.read_table(Path(run_dir) / "scores.parquet").to_pydict()


def promised_files(run_dir):
    """Return name -> bytes of everything that must be equal whatever happened on the way."""
    run_dir = Path(run_dir)
    names = [path for path in run_dir.rglob("*") if path.is_file()]
    promised = {}
    for path in names:
        if path.name == "run.json" or (path.parent.name == "representations" and path.suffix == ".json"):
            continue  # times and dates
        if path.parent.name == ".claims":
            continue  # of processes that were killed
        if path.name in {"how_to_train.md", "report.html"}:
            continue  # where the folder lies
        promised[str(path.relative_to(run_dir))] = path.read_bytes()
    return promised
