import pytest
from PIL import Image
from transformers import AutoProcessor

from conversations import as_samples
from scalselect.errors import SampleError
from scalselect.records import ImagePart, Reason, TextPart, Turn
from scalselect.vlm.retraced_text import retraced_replacements

PICTURE = Image.effect_noise((96, 56), 90).convert("RGB")
FACTS = ("span", "new_span", "replacement")
TEXTS = [
    "User:<image>What?<end_of_utterance>\n",
    "User: Compare <image> with<image><image>, <image>\nand <image>",
    "<image><image>",
    "User:<image><end_of_utterance>\nAssistant: A shape.<end_of_utterance>\n",
]


@pytest.fixture(scope="module")
def processor(checkpoints):
    return AutoProcessor.from_pretrained(checkpoints("idefics2"))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("split", [True, False])
def test_what_is_retraced_is_what_the_processor_wrote(processor, text, split):
    processor.image_processor.do_image_splitting = split
    ids = processor(text=[text], images=[PICTURE] * text.count("<image>"))["input_ids"][0]
    written = processor.tokenizer.decode(ids)  # a byte-level tokenizer gives every character back
    replacements = retraced_replacements(processor, text, ids, add_special_tokens=True)
    restored = written
    for item in reversed(replacements):
        assert text[slice(*item["span"])] == "<image>"
        assert written[slice(*item["new_span"])] == item["replacement"]
        restored = restored[: item["new_span"][0]] + "<image>" + restored[item["new_span"][1] :]
    assert len(replacements) == text.count("<image>")
    assert restored == text


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_copies_of_the_placeholder_are_what_others_tell(checkpoints, family):
    other = AutoProcessor.from_pretrained(checkpoints(family))
    start, end = ("", "\n") if family == "llava" else ("<|vision_start|>", "<|vision_end|>")
    image = start + other.image_token + end
    text = f"USER: {image}What?\nA shape. USER: And {image} this one?"
    made = other(text=[text], images=[PICTURE] * 2, return_text_replacement_offsets=True)
    told = [{name: item[name] for name in FACTS} for item in made["text_replacement_offsets"][0]]
    assert retraced_replacements(other, text, made["input_ids"][0], add_special_tokens=True) == told


def test_other_tokens_are_a_row_with_a_reason(processor):
    ids = processor(text=[TEXTS[0]], images=[PICTURE])["input_ids"][0]
    with pytest.raises(SampleError, match="Idefics2Processor does not tell") as caught:
        retraced_replacements(processor, TEXTS[0], [*ids, ids[0]], add_special_tokens=True)
    assert caught.value.reason == Reason.SPANS_LOST


def test_images_that_stand_side_by_side_cannot_be_told_apart(checkpoints):
    other = AutoProcessor.from_pretrained(checkpoints("llava"))
    ids = other(text=["<image><image>"], images=[PICTURE] * 2)["input_ids"][0]
    with pytest.raises(SampleError, match="LlavaProcessor does not tell"):
        retraced_replacements(other, "<image><image>", ids, add_special_tokens=True)


def test_a_marker_that_a_text_spells_out_stays_text(loaded, pictures, processor):
    words = "Is <fake_token_around_image>a word?"
    turns = (Turn("user", (ImagePart(0), TextPart(words))), Turn("assistant", (TextPart("No"),)))
    sample = as_samples([type("Talk", (), {"turns": turns, "images": 1})()], pictures)[0]
    prepared = loaded("idefics2").preparer.prepare(sample, [PICTURE])
    told = processor.tokenizer.decode(prepared.inputs["input_ids"][0][prepared.instruction])
    assert "".join(told.split()) == "".join(words.split())
    assert prepared.escaped == 1
