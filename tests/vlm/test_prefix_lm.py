"""PaliGemma: image and instruction see each other, the answer is a suffix that nothing of them sees."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from conversations import Conversation, as_samples, single_questions
from direct_reference import agreement, load_reference, reference_row
from families.gemma import build_paligemma
from scalselect.config import RepresentConfig
from scalselect.errors import SampleError
from scalselect.records import ImagePart, Reason, TextPart, Turn
from scalselect.representation_store import RepresentationStore
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings
from small_pools import command, write_pool

# PaliGemma 2: capped scores, and windows in every other layer, layer 0 the first; the prefix is seen whole even so.
PALIGEMMA_2 = {"query_pre_attn_scalar": 4, "attn_logit_softcapping": 8.0, "sliding_window": 12}
QUESTION = Turn("user", (ImagePart(0), TextPart("What is in the picture?")))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        "paligemma": build_paligemma(tmp_path_factory.mktemp("paligemma")),
        "paligemma 2": build_paligemma(tmp_path_factory.mktemp("paligemma-2"), "gemma2", **PALIGEMMA_2),
    }


def load(path, **options):
    config = RepresentConfig(**options)
    return load_checkpoint(path, config, resolve_settings(config, path, None))


def sample_of(pictures, *turns):
    return as_samples([Conversation("test", turns)], pictures)[0]


def prepare(checkpoint, samples):
    return [
        checkpoint.preparer.prepare(sample, [Image.open(image.path).convert("RGB") for image in sample.images])
        for sample in samples
    ]


@pytest.mark.parametrize("model", ["paligemma", "paligemma 2"])
@pytest.mark.parametrize("instruction_tokens", ["user", "non-assistant"])
@pytest.mark.parametrize("layer", [0, 1])
def test_rows_agree(folders, pictures, model, instruction_tokens, layer):
    samples = as_samples(single_questions(), pictures)
    whole, processor = load_reference(folders[model])
    options = {"instruction_tokens": instruction_tokens, "layer": layer}
    expected = [reference_row(whole, processor, "paligemma", sample, **options) for sample in samples]
    checkpoint = load(folders[model], **options)
    prepared = prepare(checkpoint, samples)
    for one, reference in zip(prepared, expected, strict=True):
        assert one.instruction.tolist() == reference.instruction_positions.tolist()
        assert one.tokens == len(reference.input_ids)
    for batch, side in [(1, "right"), (4, "left"), (4, "right")]:
        found = []
        for start in range(0, len(prepared), batch):
            found += represent_samples(checkpoint, prepared[start : start + batch], Pooling(), padding_side=side)[0]
        kinds = [agreement(row.kept, row.vector, reference) for row, reference in zip(found, expected, strict=True)]
        assert "different" not in kinds
        assert kinds.count("flipped") <= 0.1 * len(kinds)


def test_the_answer_changes_nothing(folders, pictures):
    answers = [(), (Turn("assistant", (TextPart("A cat."),)),), (Turn("assistant", (TextPart("Two shapes. " * 9),)),)]
    checkpoint = load(folders["paligemma"], instruction_tokens="non-assistant")
    prepared = prepare(checkpoint, [sample_of(pictures, QUESTION, *answer) for answer in answers])
    first = prepared[0]
    for one in prepared:
        assert one.inputs.keys() == first.inputs.keys()
        assert all(torch.equal(one.inputs[name], first.inputs[name]) for name in first.inputs)
        assert torch.equal(one.instruction, first.instruction)
    assert prepared[2].tokens > prepared[1].tokens > first.tokens == first.length


def test_the_question_changes_the_rows_of_vision_tokens(folders, pictures):
    """So hidden states of an image are not shared between rows, and the question is run even where all are averaged."""
    samples = [
        sample_of(pictures, Turn("user", (ImagePart(0), TextPart(text))))
        for text in ("What is this?", "Is it red, no?")
    ]
    whole, processor = load_reference(folders["paligemma"])
    expected = [reference_row(whole, processor, "paligemma", sample) for sample in samples]
    assert abs(expected[0].hidden - expected[1].hidden).max() > 1e-3 * abs(expected[0].hidden).max()
    checkpoint = load(folders["paligemma"], pooling="all")
    found, _ = represent_samples(checkpoint, prepare(checkpoint, samples), Pooling(attention_mass=None))
    for row, reference in zip(found, expected, strict=True):
        assert abs(row.vector - reference.hidden.mean(axis=0)).max() <= 1e-4 * abs(reference.hidden).max()


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        (
            (QUESTION, Turn("assistant", (TextPart("No."),)), Turn("user", (TextPart("Why?"),))),
            "there are 2 user turns",
        ),
        ((Turn("assistant", (TextPart("Hi."),)), QUESTION), "not assistant, user"),
        ((Turn("system", (TextPart("Be brief."),)), QUESTION), "no place for a turn of system"),
        ((QUESTION, Turn("assistant", (TextPart("See"), ImagePart(1)))), "shows 1 of 2 images"),
    ],
)
def test_what_is_more_than_a_question_is_skipped_and_says_why(folders, pictures, turns, words):
    with pytest.raises(SampleError, match=words) as caught:
        prepare(load(folders["paligemma"]), [sample_of(pictures, *turns)])
    assert caught.value.reason == Reason.TEMPLATE_REFUSED


def test_a_template_that_is_given_renders_the_prefix(folders, pictures, tmp_path):
    template = tmp_path / "prompt.jinja"
    template.write_text(
        "{%- for turn in messages -%}{%- for part in turn.content -%}"
        "{%- if part.type == 'image' -%}<image>{%- elif turn.role == 'system' -%}{{ part.text }} {% else -%}"
        "answer en {{ part.text }}{%- endif -%}{%- endfor -%}{%- endfor -%}"
    )
    checkpoint = load(folders["paligemma"], chat_template=str(template))
    tokenizer = checkpoint.preparer._processor.tokenizer
    system, answer = Turn("system", (TextPart("Be brief."),)), Turn("assistant", (TextPart("A cat."),))
    one = prepare(checkpoint, [sample_of(pictures, system, QUESTION, answer)])[0]
    ids = one.inputs["input_ids"][0]
    assert tokenizer.decode(ids) == ("Be brief. " + "<image>" * 16 + "<bos>answer en What is in the picture?\n")
    assert tokenizer.decode(ids[one.instruction]).strip() == "What is in the picture?"
    rehearse(checkpoint, RepresentConfig())
    own = load(folders["paligemma"])
    assert own.fingerprint["chat_template"] != checkpoint.fingerprint["chat_template"]


def test_a_rehearsal_passes_without_a_template_of_the_checkpoint(folders):
    for folder in folders.values():
        assert not list(folder.glob("*.jinja"))
        rehearse(load(folder), RepresentConfig())


def test_special_tokens_are_escaped_in_question_and_answer(folders, pictures):
    turns = (
        Turn("user", (ImagePart(0), TextPart("What is <eos>?"))),
        Turn("assistant", (TextPart("An <image> and <eos>."),)),
    )
    one = prepare(load(folders["paligemma"]), [sample_of(pictures, *turns)])[0]
    assert one.escaped == 3
    assert len(one.vision) == 16


def test_a_length_limit_cuts_the_answer_first_and_then_the_prefix(folders, pictures):
    sample = sample_of(pictures, QUESTION, Turn("assistant", (TextPart("A cat."),)))
    whole = prepare(load(folders["paligemma"]), [sample])[0]
    cut = prepare(load(folders["paligemma"], max_length=whole.length), [sample])[0]
    assert cut.truncated
    assert torch.equal(cut.inputs["input_ids"], whole.inputs["input_ids"])
    shorter = prepare(load(folders["paligemma"], max_length=whole.length - 2), [sample])[0]
    assert shorter.length == whole.length - 2
    with pytest.raises(SampleError, match="whole instruction") as caught:
        prepare(load(folders["paligemma"], max_length=17), [sample])
    assert caught.value.reason == Reason.TOO_LONG


def test_a_prefix_taken_for_causal_text_is_noticed(folders, pictures):
    """The comparison above can fail: a suffix is causal."""
    sample = as_samples(single_questions(), pictures)[0]
    whole, processor = load_reference(folders["paligemma"])
    checkpoint = load(folders["paligemma"])
    prepared = prepare(checkpoint, [sample])[0]
    inputs = {**prepared.inputs, "token_type_ids": torch.ones_like(prepared.inputs["token_type_ids"])}
    row = represent_samples(checkpoint, [dataclasses.replace(prepared, inputs=inputs)], Pooling())[0][0]
    assert agreement(row.kept, row.vector, reference_row(whole, processor, "paligemma", sample)) == "different"


def test_a_run_skips_what_is_more_than_a_question(folders, pictures, tmp_path):
    asked, answered = {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A shape."}
    data = write_pool(tmp_path, pictures, rows=6)
    records = json.loads(data.read_text())
    records[2]["conversations"] = [asked, answered, {"from": "human", "value": "Why?"}, answered]
    data.write_text(json.dumps(records))
    words = ["represent", data, "--model", folders["paligemma 2"], "--output", tmp_path / "run", "--max-skipped", "50%"]
    assert command(*words) == 0
    rows = RepresentationStore(tmp_path / "run" / "representations").rows(0).to_pydict()
    assert rows["status"] == ["scored", "scored", "skipped", "scored", "scored", "scored"]
    assert rows["reason"][2] == Reason.TEMPLATE_REFUSED
    assert rows["detail"][2] == "this model takes one question and its answer; there are 2 user turns"
