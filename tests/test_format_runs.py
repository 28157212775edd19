"""Whole runs on every record format: the same conversations get the same scores, however they are written."""

import base64
import json

import pytest

from small_pools import command, scores_of

pytestmark = pytest.mark.usefixtures("shared_models_kept")

ROWS = 6


@pytest.fixture(scope="module")
def asked(pictures):
    """Return a system prompt, earlier question and answer, question, answer and picture for each row."""
    return [
        (f"Rule {n}.", f"Is it {n}?", "No.", f"Which of {n} shapes?", f"Shape {n}.", pictures[n % len(pictures)])
        for n in range(ROWS)
    ]


def turn(role, content):
    return {"role": role, "content": content}


def url(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def llava(system, earlier, reply, question, answer, path):
    said = (("system", system), ("human", f"<image>\n{earlier}"), ("gpt", reply), ("human", question), ("gpt", answer))
    return {"image": str(path), "conversations": [{"from": role, "value": text} for role, text in said]}


def messages_with_data_urls(system, earlier, reply, question, answer, path):
    first = [
        {"type": "image_url", "image_url": {"url": url(path)}, "text": None},
        {"type": "text", "text": earlier, "image_url": None},
    ]
    return {
        "messages": [
            turn("system", system),
            turn("user", first),
            turn("assistant", reply),
            turn("user", [{"type": "text", "value": question}]),
            turn("assistant", answer),
        ]
    }


def messages_with_bytes(system, earlier, reply, question, answer, path):
    content = base64.b64encode(path.read_bytes()).decode()
    turns = [("user", f"<image>{earlier}"), ("assistant", reply), ("user", question), ("assistant", answer)]
    return {
        "system": system,
        "messages": [turn(*each) for each in turns],
        "images": [{"bytes": content, "path": path.name}],
        "channel": "x",
    }


def alpaca(system, earlier, reply, question, answer, path):
    history = [[f"<image>{earlier}", reply]]
    return {"instruction": question, "output": answer, "system": system, "history": history, "images": [str(path)]}


def query_response(system, earlier, reply, question, answer, path):
    history = [[f"<image>{earlier}", reply]]
    return {"query": question, "response": answer, "system": system, "history": history, "images": str(path)}


def prompt_completion(system, earlier, reply, question, answer, path):
    first = [{"type": "image"}, {"type": "text", "text": earlier}]
    prompt = [turn("system", system), turn("user", first), turn("assistant", reply), turn("user", question)]
    return {"prompt": prompt, "completion": [turn("assistant", answer)], "images": [str(path)]}


def run(tmp_path, checkpoints, records, name):
    data, out = tmp_path / f"{name}.json", tmp_path / name
    data.write_text(json.dumps(records))
    words = ["run", data, "--model", checkpoints("qwen2_5_vl"), "--budget", "2", "--output", out]
    assert command(*words) == 0
    chosen = [row for row, selected in enumerate(scores_of(out)["selected"]) if selected]
    assert json.loads((out / "selected.json").read_text()) == [records[row] for row in chosen]
    return scores_of(out)


def test_every_format_gives_the_same_scores(tmp_path, checkpoints, asked):
    formats = [llava, messages_with_data_urls, messages_with_bytes, alpaca, query_response, prompt_completion]
    first = None
    for written in formats:
        scores = run(tmp_path, checkpoints, [written(*row) for row in asked], written.__name__)
        assert scores["status"] == ["scored"] * ROWS
        first = first or scores
        assert scores["leverage_score"] == first["leverage_score"], written.__name__
        assert scores["selected"] == first["selected"]


def test_broken_bytes_and_turns_of_tools_in_a_run(tmp_path, checkpoints, asked):
    records = [messages_with_bytes(*row) for row in asked]
    records[1]["images"][0]["bytes"] = "no base64!"
    records[2]["messages"].insert(3, turn("tool", "Found 3."))
    records[3]["messages"][0]["content"] = [{"type": "video", "video": "x.mp4"}]
    data, out = tmp_path / "pool.json", tmp_path / "run"
    data.write_text(json.dumps(records))
    words = ["run", data, "--model", checkpoints("qwen2_5_vl"), "--budget", "2", "--output", out]
    assert command(*words, "--max-skipped", "50%") == 0
    scores = scores_of(out)
    found = [None, "image_unreadable", None, "unsupported_content", None, None]
    assert scores["reason"] == found
    assert scores["status"] == ["skipped" if reason else "scored" for reason in found]
