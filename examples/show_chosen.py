"""Show the rows of a run with the highest leverage: ``python examples/show_chosen.py RUN_DIR``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

SHOWN = 5


def show(run_dir: Path) -> None:
    """Print the first chosen rows by rank: score, image, question and answer."""
    scores = pq.read_table(run_dir / "scores.parquet")
    chosen = scores.filter(pc.equal(scores["selected"], True))  # noqa: FBT003  a column against a value
    records = json.loads((run_dir / "selected.json").read_text(encoding="utf-8"))
    places = {row: place for place, row in enumerate(chosen["row"].to_pylist())}
    print(f"\nThe {SHOWN} chosen rows of highest leverage:")
    for row in chosen.sort_by("rank").slice(0, SHOWN).to_pylist():
        record = records[places[row["row"]]]
        question, answer = (turn["value"].replace("<image>", "").strip() for turn in record["conversations"][:2])
        print(f"  row {row['row']:>5}  leverage {row['leverage_score']:.4f}  {record['image']}  {question} {answer}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    show(parser.parse_args().run_dir)
