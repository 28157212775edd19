"""What cannot be read is refused with its true cause, as far through the public entry as the cause allows."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Regex, normalizers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutputWithPast

from families.family import text_config
from scalselect.config import RepresentConfig
from scalselect.errors import ModelError, OptionError
from scalselect.vlm.checkpoint import load_checkpoint, model_restored
from scalselect.vlm.refusals import image_token_id, refuse_unsupported
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.settings import resolve_settings
from small_pools import command, write_pool


def load(path, processor=None, **options):
    config = RepresentConfig(**options)
    checkpoint = load_checkpoint(path, config, resolve_settings(config, path, None), processor=processor)
    rehearse(checkpoint, config)
    return checkpoint


@pytest.fixture
def only_config(tmp_path):
    """Return a function (family, **changes) -> a folder with a configuration and nothing else."""

    def written(family, **changes):
        if family not in CONFIG_MAPPING:
            pytest.skip(f"this version of transformers has no {family}")
        facts = CONFIG_MAPPING[family]().to_dict() | changes
        (tmp_path / "config.json").write_text(json.dumps({**facts, "model_type": family}, default=str))
        return tmp_path

    return written


NO_BACK_END = "its attention cannot be exchanged"
LINEAR = "its decoder layer 0 has no softmax attention: linear_attention; the first layer that can be read is --layer 3"


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("blip", NO_BACK_END),
        ("blip-2", "queries of a Q-Former in front of the finished text"),
        ("chameleon", "no `vocabulary_map` with an entry `<image>`"),
        ("dots3_note", "over the tokens that an indexer picks: indexed_attention; .* --layer 2"),
        ("emu3", "no `vocabulary_map` with an entry `<image>`"),
        ("evolla", "it reads proteins, not images"),
        ("florence2", "it is an encoder-decoder model"),
        ("gemma3n", "per-layer fields"),
        ("git", NO_BACK_END),
        ("hy_v4_vl", "indexed_attention; no layer of it can be read"),
        ("idefics", "cross-attention layers, so no token of the sequence is a vision token"),
        ("inkling2", "convolved or recurrent states: hybrid_sliding; no layer of it can be read"),
        ("inkling_mm_model", "convolved or recurrent states: hybrid_sliding; no layer of it can be read"),
        ("instructblip", "queries of a Q-Former in front of the finished text"),
        ("instructblipvideo", "it takes videos only"),
        ("kosmos-2", "a mask .`image_embeds_position_mask`. and no image token"),
        ("kosmos-2.5", "a mask .`image_embeds_position_mask`. and no image token"),
        ("lfm3_vl", "a convolution and no attention: conv; the first layer that can be read is --layer 2"),
        ("llama", "it is no image-text-to-text model .did you mean `llama4`.*; tested families: "),
        ("minicpm_ocr", LINEAR),
        ("minicpmv4_6", LINEAR),
        ("minicpmv4_7", LINEAR),
        ("mistral4", "it is a language model alone, without a vision tower"),
        ("mllama", "vision enters only through cross-attention layers, so layer 0 never sees an image"),
        ("nemotron_h_omni", "no model of it without a head"),
        ("pi0", "it denoises robot actions"),
        ("pix2struct", "it is an encoder-decoder model"),
        ("qwen2_5_omni", "its thinker alone reads images"),
        ("qwen3_5", LINEAR),
        ("qwen3_5_moe", LINEAR),
        ("shieldgemma2", "takes no conversation"),
        ("unlimited_ocr", "full over the prompt and sliding after it: reference_sliding_attention"),
    ],
)
def test_the_cause_is_named_before_weights_are_looked_for(only_config, family, words):
    with pytest.raises(ModelError, match=f"^model type `{family}` is not supported: .*{words}"):
        load(only_config(family))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_encoder_decoder": True}, "it is an encoder-decoder model"),
        ({"quantization_config": {"quant_method": "awq"}}, r"the checkpoint is quantised \(awq\): give the unquant"),
        ({"quantization_config": {"bits": 4}}, r"the checkpoint is quantised \(by a method without a name\)"),
        ({"text_config": {"model_type": "qwen2", "layer_types": ["moe"] * 2, "num_hidden_layers": 2}}, "no attention"),
        (
            {"text_config": {"model_type": "qwen2", "layer_types": ["window_attention"] * 2, "num_hidden_layers": 2}},
            "its decoder layer 0 has an attention that was not tested: window_attention; no layer of it can be read",
        ),
    ],
)
def test_the_cause_of_a_single_checkpoint_is_named(only_config, changes, words):
    with pytest.raises(ModelError, match=f"^model type `llava` is not supported: .*{words}"):
        load(only_config("llava", **changes))


def test_a_layer_that_can_be_read_is_taken_where_the_first_cannot():
    config = CONFIG_MAPPING["qwen3_5"]()
    refuse_unsupported(config, layer=3)
    with pytest.raises(ModelError, match="its decoder layer 4 has no softmax attention"):
        refuse_unsupported(config, layer=4)


def test_a_layer_before_the_image_features_enter_is_refused(only_config):
    folder = only_config("granite4_vision", deepstack_layer_map=[[-2, 3], [-3, 5]], spatial_target_layers=[4, 6])
    with pytest.raises(ModelError, match="its image features enter before decoder layer 3: give --layer 3 or a later"):
        load(folder, layer=2)
    with pytest.raises(ModelError, match="processor cannot be loaded"):
        load(folder, layer=3)


@pytest.mark.skipif(find_spec("timm") is not None, reason="the library that is to be missing is installed")
def test_a_library_the_model_needs_is_named(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints("llava"), tmp_path / "fast_vlm")
    CONFIG_MAPPING["fast_vlm"]().save_pretrained(folder)
    with pytest.raises(ModelError, match=r"model weights cannot be loaded: .*requires the timm library"):
        load(folder)


def test_a_configuration_without_image_token_is_refused(only_config):
    folder = only_config("minicpmv4_6")
    with pytest.raises(ModelError, match=r"names no image token, so vision tokens cannot be told$"):
        load(folder, layer=3)


def test_a_configuration_of_wrong_types_is_refused(only_config):
    with pytest.raises(ModelError, match=r"model cannot be opened: .*image_token_index"):
        load(only_config("llava", image_token_index="many"))


@pytest.mark.parametrize("family", ["chameleon", "emu3"])
def test_the_image_token_may_stand_in_a_vocabulary_map(family):
    config = CONFIG_MAPPING[family](vocabulary_map={"<image>": 8, "IMGIMGBSZ": 4})
    assert image_token_id(config) == 8
    assert "untested" in refuse_unsupported(config)[0]


def test_an_untested_family_of_known_structure_is_let_through_with_a_warning():
    assert "untested" in refuse_unsupported(CONFIG_MAPPING["cosmos3_omni"]())[0]


def test_the_command_names_the_cause(only_config, pictures, tmp_path, capsys):
    pool = write_pool(tmp_path / "data", pictures, 3)
    words = ["run", pool, "--images", pictures[0].parent, "--model", only_config("git"), "--budget", 1]
    assert command(*words, "--output", tmp_path / "out") == 2
    assert f"error: model type `git` is not supported: {NO_BACK_END}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def llava_over(checkpoints, tmp_path):
    """Return a function (model_type, **changes) -> a tiny LLaVA with another language model."""

    def built(model_type, **changes):
        folder = shutil.copytree(checkpoints("llava"), tmp_path / model_type)
        old = LlavaConfig.from_pretrained(folder)
        tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
        old.text_config = CONFIG_MAPPING[model_type](
            **{k: v for k, v in text_config(tokenizer, model_type, **changes).items() if k != "model_type"}
        )
        model = LlavaForConditionalGeneration(old)
        kept = load_file(folder / "model.safetensors")
        model.load_state_dict({k: v for k, v in kept.items() if "language_model" not in k}, strict=False)
        model.save_pretrained(folder)
        return folder

    return built


def test_a_decoder_of_other_layers_is_refused(llava_over):
    folder = llava_over("gpt2", n_inner=None)
    with pytest.raises(
        ModelError, match=r"LlavaModel has no `layers\[0\]\.self_attn`.*plain softmax-attention decoder"
    ):
        load(folder)


def test_a_window_that_hides_the_image_is_refused(llava_over):
    folder = llava_over("mistral", head_dim=16, sliding_window=1)
    with pytest.raises(ModelError, match="the instruction pays no attention to the image in this decoder layer"):
        load(folder)


@pytest.fixture
def model_and_processor(checkpoints):
    path = checkpoints("llava")
    return AutoModelForImageTextToText.from_pretrained(path), AutoProcessor.from_pretrained(path)


@pytest.mark.parametrize("calls", [0, 2])
def test_the_registered_attention_must_run_once(model_and_processor, calls):
    model, processor = model_and_processor
    layer = model.get_decoder().layers[0]
    forward = layer.self_attn.forward

    def called(hidden_states, **arguments):
        results = [forward(hidden_states, **arguments) for _ in range(calls)]
        return results[-1] if results else (hidden_states, None)

    layer.self_attn.forward = called
    words = f"the attention of decoder layer 0 of LlavaForConditionalGeneration ran {calls} times .* exactly once"
    with pytest.raises(ModelError, match=words):
        load(model, processor)


def test_a_decoder_that_leaves_its_layer_out_is_refused(model_and_processor):
    model, processor = model_and_processor
    model.get_decoder().forward = lambda **_arguments: BaseModelOutputWithPast(torch.zeros(1, 1, 64))
    with pytest.raises(ModelError, match="did not run its decoder layer 0"):
        load(model, processor)


def test_a_layer_that_is_not_there_is_refused(checkpoints, model_and_processor):
    words = "layer must lie between 0 and 2 for this model: 3"
    with pytest.raises(OptionError, match=words):
        load(checkpoints("llava"), layer=3)
    with pytest.raises(OptionError, match=words):
        load(*model_and_processor, layer=3)


def test_deepstack_features_that_are_not_there_are_refused(checkpoints):
    words = "deepstack `include` has no effect: this model adds no vision features after decoder layer "
    with pytest.raises(OptionError, match=words + "0"):
        load(checkpoints("llava"), deepstack="include")
    with pytest.raises(OptionError, match=words + "2"):
        load(checkpoints("qwen3_vl"), deepstack="include", layer=2)


def test_a_tokenizer_without_offsets_is_refused(model_and_processor):
    class Slow:
        is_fast = False

    class Processor:
        tokenizer, image_processor = Slow(), object()

    with pytest.raises(ModelError, match="the tokenizer of LlavaForConditionalGeneration tells no character offsets"):
        load(model_and_processor[0], Processor())


@pytest.fixture
def template(tmp_path):
    def written(text):
        (tmp_path / "template.jinja").write_text(text)
        return str(tmp_path / "template.jinja")

    return written


def test_a_template_that_refuses_the_plain_question_is_refused(checkpoints, template):
    words = "the checkpoint cannot take a plain question about one picture: no questions here"
    with pytest.raises(ModelError, match=words):
        load(checkpoints("llava"), chat_template=template('{{ raise_exception("no questions here") }}'))


def test_a_template_that_drops_texts_is_refused(checkpoints, template):
    silent = template('{% for turn in messages if turn.role == "user" %}{{ "<image>" }}{% endfor %}')
    with pytest.raises(ModelError, match="about one picture: the chat template rewrites the texts"):
        load(checkpoints("llava"), chat_template=silent)


def test_a_tokenizer_that_drops_texts_is_refused(model_and_processor):
    model, processor = model_and_processor
    processor.tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("[A-Za-z?. ]"), "")
    words = "no instruction token was found in a plain question: the tokenizer keeps nothing of the user's text"
    with pytest.raises(ModelError, match=words):
        load(model, processor)


def test_a_processor_of_another_model_is_refused(checkpoints, model_and_processor):
    model, _ = model_and_processor
    with (
        model_restored(model),
        pytest.raises(ModelError, match=r"cannot take a plain question about one picture: .*image token"),
    ):
        load(model, AutoProcessor.from_pretrained(checkpoints("qwen3_vl")))


def test_a_processor_that_returns_nothing_of_use_is_refused(model_and_processor, monkeypatch):
    model, processor = model_and_processor
    monkeypatch.setattr(type(processor), "__call__", lambda _self, **_arguments: {})
    with pytest.raises(ModelError, match="plain question about one picture: KeyError: 'input_ids'"):
        load(model, processor)
