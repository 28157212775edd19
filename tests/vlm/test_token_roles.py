import pytest
from PIL import Image

from conversations import as_samples, special_token_conversation
from scalselect.errors import SampleError
from scalselect.records import ImagePart, Reason, TextPart, Turn
from scalselect.vlm.checkpoint import effective_chat_template
from scalselect.vlm.token_roles import RenderedConversation, SpecialTokenEscaper, render_conversation

FAMILIES = ["llava", "qwen2_5_vl", "qwen3_vl"]
IMAGE = ImagePart(0)
PICTURE = Image.effect_noise((56, 56), 90).convert("RGB")


def talk(*turns):
    return tuple(
        Turn(role, tuple(part if isinstance(part, ImagePart) else TextPart(part) for part in parts))
        for role, *parts in turns
    )


@pytest.fixture(scope="module")
def processor(checkpoints):
    from transformers import AutoProcessor

    cache = {}

    def load(family):
        if family not in cache:
            cache[family] = AutoProcessor.from_pretrained(checkpoints(family))
        return cache[family]

    return load


def prepared(loaded, family, turns, pictures, **options):
    sample = as_samples([type("C", (), {"turns": turns, "images": 1})()], pictures)[0]
    return loaded(family, **options).preparer.prepare(sample, [PICTURE])


def tokens_at(processor, prepared_sample, positions):
    return processor.tokenizer.decode(prepared_sample.inputs["input_ids"][0][positions]).split()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "turns",
    [
        talk(["user", IMAGE, "Is it No or Yes? No?"], ["assistant", "No"]),
        talk(["user", IMAGE, "red"], ["assistant", "red"], ["user", "red"], ["assistant", "red"]),
        talk(["user", IMAGE, "  a  b \n\n c "], ["assistant", "a b c"]),
        talk(["user", IMAGE, "fin"], ["assistant", "finished"]),
    ],
)
def test_instruction_is_the_content_of_user_turns_and_nothing_else(loaded, processor, pictures, family, turns):
    sample = prepared(loaded, family, turns, pictures)
    texts = [part.text for turn in turns if turn.role == "user" for part in turn.parts if isinstance(part, TextPart)]
    found = tokens_at(processor(family), sample, sample.instruction)
    assert "".join(found) == "".join("".join(texts).split())


@pytest.mark.parametrize("family", FAMILIES)
def test_non_assistant_leaves_out_answers_and_vision_alone(loaded, processor, pictures, family):
    turns = talk(["user", IMAGE, "What is it?"], ["assistant", "Zebra"], ["user", "Sure?"], ["assistant", "Yes"])
    sample = prepared(loaded, family, turns, pictures, instruction_tokens="non-assistant")
    words = " ".join(tokens_at(processor(family), sample, sample.instruction))
    assert "What is it?" in words
    assert "Sure?" in words
    assert "Zebra" not in words
    assert "Yes" not in words
    assert not set(sample.instruction.tolist()) & set(sample.vision.tolist())
    if family == "llava":
        assert "ASSISTANT" in words
    else:
        assert "<|im_start|>assistant" in words
        assert "<|vision_start|>" in words


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_that_spells_a_special_token_stays_text(loaded, processor, pictures, family):
    conversation = special_token_conversation(family)
    sample = as_samples([conversation], pictures)[0]
    pictures_of = [Image.open(image.path).convert("RGB") for image in sample.images]
    found = loaded(family).preparer.prepare(sample, pictures_of)
    assert found.escaped >= 1
    tokenizer = processor(family).tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ids = found.inputs["input_ids"][0]
    assert not special & set(ids[found.instruction].tolist())
    assert (ids == processor(family).image_token_id).sum() == len(found.vision)


def test_the_image_token_in_an_answer_is_defused(loaded, processor, pictures):
    turns = talk(["user", IMAGE, "Say <image> please"], ["assistant", "<image><image>"], ["user", "ok"])
    sample = prepared(loaded, "llava", turns, pictures)
    assert sample.escaped == 3
    assert len(sample.vision) == 36


def test_escaping_prefers_the_longer_token_and_changes_nothing_else():
    escape = SpecialTokenEscaper(["<s>", "<s>x", "", " "])
    assert escape("a <s>x b <s>") == ("a < s>x b < s>", 2)
    assert escape("plain <i>") == ("plain <i>", 0)
    assert SpecialTokenEscaper([])("<s>") == ("<s>", 0)


def test_a_template_that_refuses_makes_a_row_with_its_message(processor):
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(SampleError, match="roles must alternate") as caught:
        render_conversation(
            processor("llava"), talk(["user", "a"]), escape=SpecialTokenEscaper([]), chat_template=template
        )
    assert caught.value.reason == Reason.TEMPLATE_REFUSED


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% for p in m.content %}{{ p.text | upper | length }}{% endfor %}{% endfor %}",
        "{% for m in messages %}{% for p in m.content %}{{ p.text }}{{ p.text }}{% endfor %}{% endfor %}",
        "nothing of it",
    ],
)
def test_a_template_that_rewrites_texts_is_found_out(processor, template):
    with pytest.raises(SampleError) as caught:
        render_conversation(
            processor("llava"), talk(["user", "abc"]), escape=SpecialTokenEscaper([]), chat_template=template
        )
    assert caught.value.reason == Reason.SPANS_LOST


@pytest.mark.parametrize("family", FAMILIES)
def test_images_that_a_template_leaves_out_are_its_fault_not_the_pictures(loaded, pictures, family):
    turns = talk(["user", "Draw a cat"], ["assistant", IMAGE, "Here"], ["user", "Thanks"])
    if family != "qwen3_vl":
        assert len(prepared(loaded, family, turns, pictures).vision) > 0
        return
    with pytest.raises(SampleError, match="shows 0 of 1 images") as caught:
        prepared(loaded, family, turns, pictures)
    assert caught.value.reason == Reason.TEMPLATE_REFUSED


def test_a_template_that_strips_texts_is_followed(processor):
    template = "{% for m in messages %}[{% for p in m.content %}{{ p.text | trim }}{% endfor %}]{% endfor %}"
    rendered = render_conversation(
        processor("llava"),
        talk(["user", "  one two "], ["assistant", " three "]),
        escape=SpecialTokenEscaper([]),
        chat_template=template,
    )
    assert rendered.text == "[one two][three]"
    assert [rendered.text[slice(*span)] for span in rendered.user_spans] == ["one two"]
    assert [rendered.text[slice(*span)] for span in rendered.assistant_spans] == ["three"]


def test_private_use_characters_make_a_row_with_a_reason(processor):
    with pytest.raises(SampleError, match="private-use") as caught:
        render_conversation(
            processor("llava"), talk(["user", "a\U000f0001"]), escape=SpecialTokenEscaper([]), chat_template=None
        )
    assert caught.value.reason == Reason.SPANS_LOST


def test_bundled_vicuna_template_renders_as_llava_v1(processor):
    template = effective_chat_template(processor("llava"), "vicuna")
    rendered = render_conversation(
        processor("llava"),
        talk(["user", IMAGE, "What?"], ["assistant", "A cat."], ["user", "Sure?"], ["assistant", "Yes."]),
        escape=SpecialTokenEscaper([]),
        chat_template=template,
    )
    assert rendered.text == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhat? ASSISTANT: A cat.</s>"
        "USER: Sure? ASSISTANT: Yes.</s>"
    )


def test_bundled_vicuna_template_takes_the_records_system_turn_and_refuses_odd_orders(processor):
    template = effective_chat_template(processor("llava"), "vicuna")

    def text(*turns):
        return render_conversation(
            processor("llava"), talk(*turns), escape=SpecialTokenEscaper([]), chat_template=template
        ).text

    assert text(["system", "Be brief."], ["user", IMAGE, "a", "b"]) == "Be brief. USER: <image>\na b "
    with pytest.raises(SampleError, match="alternate"):
        text(["user", "a"], ["user", "b"])
    with pytest.raises(SampleError, match="alternate"):
        text(["assistant", "a"])


def test_a_processor_may_put_characters_in_front_but_take_none_away():
    rendered = RenderedConversation("USER: Hi", ((6, 8),), (), 0)
    moved = rendered.behind(3)
    assert (moved.text[9:11], moved.user_spans) == ("Hi", ((9, 11),))
    assert rendered.behind(0) == rendered
    with pytest.raises(SampleError, match="spans_lost: the processor takes characters away"):
        rendered.behind(-1)
