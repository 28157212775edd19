"""What a tool returned is shown to the model, but it is nobody's instruction and nobody's answer."""

import pytest
from PIL import Image

from scalselect.errors import SampleError
from scalselect.records import ImagePart, ImageReference, Reason, RowIdentity, Sample, TextPart, Turn
from scalselect.vlm.prefix_lm import question_and_answer
from scalselect.vlm.token_roles import SpecialTokenEscaper, render_conversation

PICTURE = Image.effect_noise((56, 56), 90).convert("RGB")
TURNS = (
    Turn("user", (ImagePart(0), TextPart("Where is the zebra?"))),
    Turn("assistant", (TextPart("look up"),)),
    Turn("tool", (TextPart("Zebra found in Rome"),)),
    Turn("assistant", (TextPart("Rome it is"),)),
)
SHOWN = "{% for m in messages %}{% for p in m.content %}{{ p.text or '<image>' }};{% endfor %}{% endfor %}"
DROPPED = "{% for m in messages if m.role != 'tool' %}{% for p in m.content %}{{ p.text }};{% endfor %}{% endfor %}"


def instruction(loaded, family, definition):
    sample = Sample(
        identity=RowIdentity(row=0, source="x", id=None, id_type="absent"),
        turns=TURNS,
        images=(ImageReference("a.png", "a.png"),),
        images_in_front=False,
        text_sha256="",
    )
    checkpoint = loaded(family, instruction_tokens=definition)
    found = checkpoint.preparer.prepare(sample, [PICTURE])
    tokenizer = checkpoint.preparer._processor.tokenizer
    return tokenizer.decode(found.inputs["input_ids"][0][found.instruction])


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_only_the_user_instructs(loaded, family):
    assert "".join(instruction(loaded, family, "user").split()) == "Whereisthezebra?"


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_non_assistant_takes_in_what_a_tool_returned(loaded, family):
    words = instruction(loaded, family, "non-assistant")
    assert "Zebra found in Rome" in words
    assert "Where is the zebra?" in words
    assert "look up" not in words
    assert "Rome it is" not in words


class Processor:
    def apply_chat_template(self, messages, *, chat_template, **_):
        import jinja2

        return jinja2.Template(chat_template).render(messages=messages)


def rendered(template):
    return render_conversation(Processor(), TURNS, escape=SpecialTokenEscaper([]), chat_template=template)


def test_a_tools_text_belongs_to_no_span():
    conversation = rendered(SHOWN)
    texts = [conversation.text[start:stop] for start, stop in (*conversation.user_spans, *conversation.assistant_spans)]
    assert texts == ["Where is the zebra?", "look up", "Rome it is"]
    assert "Zebra found in Rome" in conversation.text


def test_a_template_that_drops_turns_of_a_tool_loses_the_row():
    with pytest.raises(SampleError) as caught:
        rendered(DROPPED)
    assert caught.value.reason == Reason.SPANS_LOST


def test_models_of_one_question_and_answer_refuse_turns_of_a_tool():
    with pytest.raises(SampleError, match="not user, assistant, tool, assistant") as caught:
        question_and_answer(TURNS)
    assert caught.value.reason == Reason.TEMPLATE_REFUSED
