"""A text that no tokenizer should be given costs its own row, before it is rendered."""

import json

import pytest

from small_pools import command, record, scores_of


@pytest.mark.parametrize(("characters", "reason"), [(10_000_001, "too_long"), (20_000, None)])
def test_enormous_text_is_a_row_with_a_reason(tmp_path, pictures, checkpoints, characters, reason):
    records = [record(n, pictures[n]) for n in range(3)]
    records[1]["conversations"][1]["value"] = "a" * characters
    (tmp_path / "pool.json").write_text(json.dumps(records))
    words = ["--model", checkpoints("qwen2_5_vl"), "--budget", 1, "--output", tmp_path / "run", "--max-skipped", "100%"]
    assert command("run", tmp_path / "pool.json", *words, "--max-length", 300) == 0
    assert scores_of(tmp_path / "run")["reason"] == [None, reason, None]
