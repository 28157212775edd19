"""Whole runs: real easy-VQA images with the defaults, the id zoo, bad rows, other formats, the Python API."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import scalselect
from build_demo import build_demo
from direct_reference import agreement, load_reference, reference_choice, reference_row, reference_scores
from scalselect.dataset.opening import open_pool
from scalselect.records import Sample
from scalselect.representation_store import RepresentationStore
from small_pools import command, record, scores_of, write_pool

pytestmark = pytest.mark.usefixtures("shared_models_kept")

ROWS = 400


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    build_demo(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def run_dir(demo):
    folder = demo / "run"
    assert (
        command("run", demo / "pool.json", "--model", demo / "checkpoint", "--budget", "16%", "--output", folder) == 0
    )
    return folder


def test_every_row_is_accounted_for(demo, run_dir):
    scores, summary = scores_of(run_dir), json.loads((run_dir / "selection.json").read_text())
    assert scores["row"] == list(range(ROWS))
    rows = summary["rows"]
    assert rows["pool"] == ROWS == rows["scored"] + rows["skipped"] + rows["text_only"]
    assert (rows["skipped"], rows["text_only"]) == (3, 1)
    assert summary["skipped"] == {"image_missing": 1, "image_unreadable": 1, "marker_mismatch": 1}
    for status, reason, score in zip(scores["status"], scores["reason"], scores["leverage_score"], strict=True):
        assert (score is not None) == (status == "scored")
        assert (reason is not None) == (status == "skipped")
    pool = json.loads((demo / "pool.json").read_text())
    assert scores["id"] == [item["id"] if isinstance(item["id"], str) else json.dumps(item["id"]) for item in pool]


def test_budget_scores_and_ranks(run_dir):
    scores, summary = scores_of(run_dir), json.loads((run_dir / "selection.json").read_text())
    values = np.array([np.nan if score is None else score for score in scores["leverage_score"]])
    scored = np.isfinite(values)
    assert sum(scores["selected"]) == summary["rows"]["selected"] == int(scored.sum() * 16 // 100)
    assert np.nansum(values) == pytest.approx(summary["subspace"]["k"], abs=1e-8)
    assert 0 <= np.nanmin(values) <= np.nanmax(values) <= 1
    assert scores["selected"] == [rank is not None and rank <= summary["rows"]["selected"] for rank in scores["rank"]]
    assert values[scored & np.array(scores["selected"])].min() == summary["selected"]["lowest_score"]


def test_scores_are_those_of_a_plain_svd_of_the_stored_vectors(run_dir):
    rows, X = RepresentationStore(run_dir / "representations").representations(0)
    assert X.dtype == np.float32
    scores = scores_of(run_dir)
    direct, _ = reference_scores(X)
    found = np.array([scores["leverage_score"][row] for row in rows])
    np.testing.assert_allclose(found, direct, rtol=0, atol=1e-10)
    chosen = [row for row in range(ROWS) if scores["selected"][row]]
    assert chosen == rows[reference_choice(direct, len(chosen))].tolist()


def test_stored_vectors_agree_with_the_full_model(demo, run_dir):
    model, processor = load_reference(demo / "checkpoint")
    rows, X = RepresentationStore(run_dir / "representations").representations(0)
    known = RepresentationStore(run_dir / "representations").rows(0).to_pylist()
    place = {row: i for i, row in enumerate(rows.tolist())}
    kinds = []
    for sample in open_pool(demo / "pool.json").read(0, 60):
        if not isinstance(sample, Sample) or sample.identity.row not in place:
            continue
        row = sample.identity.row
        reference = reference_row(model, processor, "llava", sample)
        assert known[row]["vision_tokens"] == len(reference.vision_positions)
        assert abs(known[row]["kept_tokens"] - len(reference.kept)) <= 1
        if known[row]["kept_tokens"] == len(reference.kept):
            kinds.append(agreement(reference.kept, X[place[row]], reference))
    assert len(kinds) >= 50
    assert "different" not in kinds


def test_chosen_records_are_copied_byte_for_byte(demo, run_dir):
    source, selected = (demo / "pool.json").read_bytes(), (run_dir / "selected.json").read_bytes()
    pool, scores = open_pool(demo / "pool.json"), scores_of(run_dir)
    chosen = [row for row in range(ROWS) if scores["selected"][row]]
    assert json.loads(selected) == [json.loads(source)[row] for row in chosen]
    for row in chosen:
        assert pool.raw(row) in source
        assert pool.raw(row) in selected


def test_ids_of_every_kind_come_out_untouched(tmp_path, pictures, checkpoints):
    zoo = [
        '"007"',
        "7",
        "7.0",
        "null",
        None,
        '"007"',
        "1234567890" * 4,
        '[1, "x"]',
        '"\u00e4\U0001f600"',
        "true",
        '{"a": 1}',
    ]
    texts = []
    for i, identity in enumerate(zoo):
        text = json.dumps(record(i, pictures[i % 6]))
        texts.append(text.replace(f'"row-{i}"', identity) if identity else text.replace(f'"id": "row-{i}", ', ""))
    data = tmp_path / "zoo.json"
    data.write_text("[" + ",\n ".join(texts) + "]", encoding="utf-8")
    out = tmp_path / "run"
    words = ["run", data, "--model", checkpoints("llava"), "--budget", str(len(zoo)), "--output", out]
    assert command(*words) == 0
    assert (out / "selected.json").read_text(encoding="utf-8") == "[\n" + ",\n".join(texts) + "\n]\n"
    scores = scores_of(out)
    assert scores["id"] == [
        "007",
        "7",
        "7.0",
        "null",
        None,
        "007",
        "1234567890" * 4,
        '[1, "x"]',
        "ä\U0001f600",
        "true",
        '{"a": 1}',
    ]
    assert scores["id_type"] == [
        "string", "number", "number", "null", "absent", "string", "number", "other", "string", "other", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_messages_records_in_json_lines(tmp_path, pictures, checkpoints, family, capsys):
    data = tmp_path / "pool.jsonl"
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": f"<image>Compare <image> number {i}"},
                    {"role": "assistant", "content": "No"},
                    {"role": "user", "content": "Sure?"},
                ],
                "images": [pictures[i % 6].name, pictures[(i + 1) % 6].name],
            }
        )
        for i in range(8)
    ]
    data.write_text("\n".join(lines) + "\nnot json\n")
    out = tmp_path / "run"
    words = ["run", data, "--images", pictures[0].parent, "--model", checkpoints(family), "--budget", "50%"]
    assert command(*words, "--output", out) == 1  # one of nine rows is no JSON: 11 % skipped
    assert "--max-skipped" in capsys.readouterr().err
    assert command(*words, "--output", out, "--max-skipped", "20%") == 0
    captured = capsys.readouterr()
    assert "JSON Lines" in captured.err
    assert "messages" in captured.err
    chosen = (out / "selected.jsonl").read_text().splitlines()
    assert len(chosen) == 4
    assert set(chosen) < set(lines)
    assert scores_of(out)["reason"][8] == "invalid_record"


def test_bad_rows_have_reasons_and_the_others_are_scored(tmp_path, pictures, checkpoints, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    Image.new("RGB", (3, 900)).save(tmp_path / "thin.png")
    good = [record(i, pictures[i % 6]) for i in range(10)]
    bad = {
        "image_missing": record(20, tmp_path / "nowhere.png"),
        "image_unreadable": record(21, broken),
        "image_too_large": record(22, tmp_path / "thin.png"),
        "marker_mismatch": record(23, pictures[0]) | {"image": [str(pictures[0])] * 3},
        "no_usable_turn": {"image": str(pictures[0]), "conversations": []},
        "unknown_role": {"image": str(pictures[0]), "conversations": [{"from": "narrator", "value": "<image>x"}]},
        "unsupported_content": {
            "image": str(pictures[0]),
            "conversations": [
                {"from": "human", "value": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "x"}]}
            ],
        },
        "invalid_record": 17,
        "too_long": record(24, pictures[0], question="word " * 3000, answer="x"),
    }
    bad["too_long"]["conversations"][0]["value"] = "word " * 3000 + "<image>"
    text_only = {"id": "t", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    data = tmp_path / "pool.json"
    data.write_text(json.dumps([*good, *bad.values(), text_only]))
    out = tmp_path / "run"
    words = ["run", data, "--model", checkpoints("qwen2_5_vl"), "--budget", "3", "--output", out]
    assert command(*words, "--max-skipped", "60%", "--max-length", "1500") == 0
    scores = scores_of(out)
    assert scores["reason"][:10] == [None] * 10
    assert scores["reason"][10:19] == list(bad)
    assert scores["status"][19] == "text_only"
    summary = json.loads((out / "selection.json").read_text())
    assert summary["skipped"] == dict.fromkeys(sorted(bad), 1)
    printed = capsys.readouterr().out
    assert "skipped    9" in printed
    assert "text-only  1" in printed
    rows = RepresentationStore(out / "representations").rows(0).to_pylist()
    assert all(row["detail"] for row in rows[10:19])


def test_json_summary_is_for_scripts(demo, run_dir, capsys):
    words = [
        "run",
        demo / "pool.json",
        "--model",
        demo / "checkpoint",
        "--budget",
        "16%",
        "--output",
        run_dir,
        "--json",
    ]
    assert command(*words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["rows"]["selected"] == 63
    assert printed["represented"]["rows"] == ROWS


def test_a_trial_ends_with_an_estimate_for_all(demo, tmp_path, capsys):
    words = ["run", demo / "pool.json", "--model", demo / "checkpoint", "--budget", "10%", "--output", tmp_path / "run"]
    assert command(*words, "--limit", "40") == 0
    printed = capsys.readouterr().out
    assert "the first 40 of 400 rows" in printed
    assert "rows/s" in printed
    assert len(scores_of(tmp_path / "run")["row"]) == 40
    assert command(*words) == 2
    assert "limit: 40 in the run folder, not given in this call" in capsys.readouterr().err


def test_a_budget_above_the_eligible_rows_fails_after_scoring_and_keeps_everything(
    tmp_path, pictures, checkpoints, capsys
):
    data = write_pool(tmp_path, pictures, rows=8)
    records = json.loads(data.read_text())
    records[3]["image"] = "missing.png"
    data.write_text(json.dumps(records))
    out = tmp_path / "run"
    words = ["--model", checkpoints("llava"), "--max-skipped", "20%", "--output", out]
    assert command("run", data, *words, "--budget", "8") == 1
    message = capsys.readouterr().err
    assert "7 are eligible" in message
    assert f"scalselect select {out} --budget 7" in message
    assert "Traceback" not in message
    assert scores_of(out)["selected"] == [None] * 8
    assert command("select", out, "--budget", "7") == 0
    assert sum(scores_of(out)["selected"]) == 7


def test_python_api_takes_records_and_a_loaded_model(tmp_path, pictures, checkpoints):
    records = json.loads(write_pool(tmp_path, pictures, rows=10).read_text())
    model = AutoModelForImageTextToText.from_pretrained(checkpoints("qwen3_vl"))
    processor = AutoProcessor.from_pretrained(checkpoints("qwen3_vl"))
    result = scalselect.run(records, model=model, processor=processor, budget=4, output=tmp_path / "a")
    assert len(result.rows) == 4
    assert result.rows.dtype == np.int64
    assert result.scores.shape == (10,)
    np.testing.assert_allclose(np.sort(result.scores)[-4:], np.sort(result.scores[result.rows]))
    again = scalselect.run(
        tmp_path / "pool.json", model=str(checkpoints("qwen3_vl")), budget="40%", output=tmp_path / "b"
    )
    assert again.rows.tolist() == result.rows.tolist()
    np.testing.assert_allclose(again.scores, result.scores, atol=1e-9)
    with pytest.raises(scalselect.MisuseError, match="pass the same one"):
        scalselect.select(tmp_path / "a", budget=2)
    assert len(scalselect.select(tmp_path / "a", budget=2, dataset=records).rows) == 2
    with pytest.raises(scalselect.MisuseError, match="have changed"):
        scalselect.select(tmp_path / "a", budget=2, dataset=records[1:])


def test_stages_one_by_one_equal_a_run(tmp_path, pictures, checkpoints, capsys):
    data = write_pool(tmp_path, pictures)
    model = ["--model", checkpoints("llava")]
    assert command("run", data, *model, "--output", tmp_path / "whole", "--budget", "25%") == 0
    assert command("represent", data, *model, "--output", tmp_path / "parts") == 0
    assert command("score", tmp_path / "parts") == 0
    assert command("select", tmp_path / "parts", "--budget", "25%") == 0
    assert "Traceback" not in capsys.readouterr().err
    for name in ("scores.parquet", "selected.json", "selection.json", "subspace.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_options_reach_the_representation(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path, pictures)

    def vectors(name, *options):
        out = tmp_path / name
        assert command("represent", data, "--model", checkpoints("llava"), "--output", out, *options) == 0
        return RepresentationStore(out / "representations").representations(0)[1]

    plain = vectors("plain")
    assert np.array_equal(plain, vectors("again"))
    np.testing.assert_allclose(plain, vectors("single", "--batch-size", "1"), atol=1e-4 * np.abs(plain).max())
    for number, options in enumerate(
        [["--attention-mass", "0.5"], ["--instruction-tokens", "non-assistant"], ["--chat-template", "vicuna"]]
    ):
        assert np.abs(plain - vectors(f"other{number}", *options)).max() > 1e-4, options
    config = tmp_path / "options.toml"
    config.write_text("attention-mass = 0.5\n")
    assert np.array_equal(vectors("toml", "--config", config), vectors("half", "--attention-mass", "0.5"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "joint-leverage-sampling"], "give --vectors vision+instruction as well"),
        (["--exclude-rows", "/nowhere.txt"], "exclude_rows cannot be read: /nowhere.txt"),
        (["--include-ids", "/nowhere.txt"], "include_ids cannot be read: /nowhere.txt"),
        (["--stratify-by", "sort"], "no record has a field `sort` to group rows by"),
        (["--stratify-by", "source", "--quotas", "/nowhere.json"], "there is no file /nowhere.json"),
    ],
)
def test_a_choice_that_must_fail_is_refused_before_the_model_is_loaded(tmp_path, pictures, capsys, options, message):
    data = write_pool(tmp_path / "data", pictures, rows=4)
    words = ["run", data, "--model", tmp_path / "no-model", "--budget", 2, "--output", tmp_path / "run"]
    assert command(*words, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_takes_the_options_of_all_three_stages(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path / "data", pictures, rows=24)
    words = ["run", data, "--model", checkpoints("llava"), "--output", tmp_path / "run", "--budget", "25%,50%"]
    words += ["--vectors", "vision+instruction", "--store-dtype", "float16", "--rank", 3, "--normalise-rows", "on"]
    words += ["--strategy", "joint-leverage-sampling", "--seed", 5, "--max-per-image", 2, "--deduplicate", "near"]
    assert command(*words) == 0
    run = tmp_path / "run"
    content, recorded = json.loads((run / "selection.json").read_text()), json.loads((run / "run.json").read_text())
    assert content["subspace"]["k"] == 3
    assert content["subspace"]["normalised_rows"]
    assert [budget["asked"] for budget in content["budgets"]] == ["25%", "50%"]
    assert recorded["select"]["strategy"] == content["strategy"] == "joint-leverage-sampling"
    assert (recorded["represent"]["store_dtype"], recorded["score"]["rank"]) == ("float16", 3)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert command(*words) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
