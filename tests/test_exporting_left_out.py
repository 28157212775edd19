"""Rows that an export cannot hold whole, or that its trainer learns nothing of, are left out and counted."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scalselect
from scalselect.errors import WorkError
from scored_runs import clustered_vectors
from small_pools import command

ROWS = 20
CALL = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]


def messages(*roles):
    return [{"role": role, "content": f"{role} {number}"} for number, role in enumerate(roles)]


def run_of(folder, odd, *, container="json"):
    """Return a run that chose all of some plain records and the odd ones."""
    plain = [messages("user", "assistant")] * (ROWS - len(odd))
    records = [{"id": f"{row}", "messages": turns} for row, turns in enumerate([*odd, *plain])]
    data = folder / f"pool.{container}"
    if container == "json":
        data.write_text(json.dumps(records))
    else:
        pq.write_table(pa.Table.from_pylist(records), data)
    np.save(folder / "X.npy", clustered_vectors(ROWS))
    scalselect.score(representations=folder / "X.npy", output=folder / "run")
    scalselect.select(folder / "run", budget="100%", dataset=data)
    return folder / "run", data


@pytest.mark.parametrize("form", ["trl", "messages", "llava"])
@pytest.mark.parametrize("content", [None, "I look."])
@pytest.mark.parametrize("container", ["json", "parquet"])
def test_a_call_beside_the_text_is_not_lost_in_silence(tmp_path, form, content, container, capsys):
    turns = [*messages("user"), {"role": "assistant", "content": content, "tool_calls": CALL}]
    run, data = run_of(tmp_path, [turns], container=container)
    exported = scalselect.export(run, to=form, dataset=data)
    assert (exported.records, exported.left_out) == (ROWS - 1, {"tool_calls": 1})
    assert command("export", run, "--to", form, "--dataset", data) == 0
    assert "left out   1 with calls of tools beside the text" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["trl", "messages"])
def test_a_call_that_is_a_text_is_kept(tmp_path, form):
    turns = [*messages("user"), {"role": "function_call", "content": json.dumps(CALL)}]
    run, data = run_of(tmp_path, [turns])
    assert scalselect.export(run, to=form, dataset=data).left_out == {}


def test_nothing_but_calls_is_a_failure_and_leaves_no_file(tmp_path):
    turns = [*messages("user"), {"role": "assistant", "content": None, "tool_calls": CALL}]
    run, data = run_of(tmp_path, [turns] * ROWS)
    for form in ("trl", "messages"):
        with pytest.raises(WorkError, match=r"no row of the subset can be written .*: 20 with calls"):
            scalselect.export(run, to=form, dataset=data)
    assert not list((run / "exported").glob("*.*"))


def test_llava_is_not_given_rows_that_it_learns_nothing_of(tmp_path):
    odd = [
        messages("user", "assistant", "user"),
        messages("user", "user", "assistant"),
        messages("assistant"),
        messages("assistant", "user", "assistant"),
    ]
    run, data = run_of(tmp_path, odd)
    exported = scalselect.export(run, to="llava", dataset=data)
    assert exported.left_out == {"ends_with_user": 1, "roles_not_alternating": 1, "no_user_turn": 1}
    ids = [record["id"] for record in json.loads(exported.files[0].read_text())]
    assert ids == [f"{row}" for row in range(3, ROWS)]
