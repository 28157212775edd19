"""A LLaVA composed of its published parts is the LLaVA that the same parts make in memory."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import scalselect
from conversations import as_samples, sample_conversations
from llava_parts import MEAN, SIDE, assembled, build_parts, save_clip, save_vicuna
from scalselect.config import RepresentConfig
from scalselect.representation_store import RepresentationStore
from scalselect.vlm import llava_composition
from scalselect.vlm.checkpoint import load_checkpoint, model_restored, vicuna_template
from scalselect.vlm.representation import Pooling, represent_samples
from scalselect.vlm.settings import resolve_settings
from small_pools import command, scores_of, write_pool

VISION_TOKENS = 36


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return build_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def composed(parts, tmp_path_factory):
    return compose(parts, tmp_path_factory.mktemp("composed") / "llava")


def compose(parts, output, **more):
    scalselect.compose_llava(
        language_model=parts.language_model,
        vision_tower=parts.vision_tower,
        projector=parts.projector,
        output=output,
        **more,
    )
    return output


def stored(folder):
    """Return every tensor of a checkpoint by name."""
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as content:
            found |= {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    return found


def same_tensors(one, other):
    one, other = stored(one), stored(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def vectors(checkpoint, pictures):
    samples = [sample for sample in as_samples(sample_conversations(), pictures) if len(sample.images) == 1]
    samples = [sample for sample in samples if sample.turns[0].role != "system"]
    prepared = [
        checkpoint.preparer.prepare(sample, [Image.open(image.path).convert("RGB") for image in sample.images])
        for sample in samples
    ]
    return np.stack([row.vector for row in represent_samples(checkpoint, prepared, Pooling())[0]])


def load(model, processor=None):
    config = RepresentConfig()
    return load_checkpoint(model, config, resolve_settings(config, model, None), processor=processor)


def test_it_is_the_llava_assembled_in_memory(parts, composed, pictures):
    processor = AutoProcessor.from_pretrained(composed)
    model, loading = AutoModelForImageTextToText.from_pretrained(
        composed, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    memory = assembled(parts, processor.tokenizer)
    words = [{"type": "image"}, {"type": "text", "text": "What is in the picture?"}]
    text = processor.apply_chat_template([{"role": "user", "content": words}], add_generation_prompt=True)
    inputs = processor(text=[text], images=[Image.open(pictures[1])], return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == VISION_TOKENS
    with torch.no_grad():
        found = model.eval()(**inputs, output_hidden_states=True)
        expected = memory(**inputs, output_hidden_states=True)
    for layer in range(4):
        assert torch.equal(found.hidden_states[layer], expected.hidden_states[layer])
    old = parts.llama.config.vocab_size
    assert torch.equal(found.logits[..., :old], expected.logits[..., :old])
    with model_restored(memory):
        memory.config.scalselect_image_fit = "pad"
        assert np.array_equal(vectors(load(composed), pictures), vectors(load(memory, processor), pictures))


def test_processor_and_configuration(parts, composed):
    processor, config = AutoProcessor.from_pretrained(composed), json.loads((composed / "config.json").read_text())
    tokenizer, old = processor.tokenizer, parts.llama.config.vocab_size
    assert type(processor).__name__ == "LlavaProcessor"
    assert processor.chat_template == vicuna_template()
    assert (processor.image_token, processor.image_token_id) == ("<image>", old)
    assert tokenizer.pad_token == "<pad>"
    assert tokenizer("a<image>b").input_ids.count(old) == 1
    image_processor = processor.image_processor
    assert (list(image_processor.image_mean), image_processor.size.shortest_edge) == (MEAN, SIDE)
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert (config["image_token_index"], config["image_seq_length"]) == (old, VISION_TOKENS)
    assert (config["vision_feature_layer"], config["vision_feature_select_strategy"]) == (-2, "default")
    assert config["scalselect_image_fit"] == "pad"
    assert config["text_config"]["vocab_size"] % 64 == 0
    assert config["text_config"]["pad_token_id"] == tokenizer.pad_token_id == old + 1
    written = "".join(path.read_text() for path in composed.iterdir() if path.suffix in {".json", ".jinja"})
    assert str(parts.language_model.parent) not in written


def test_tensors_are_copied_and_new_rows_are_the_mean(parts, composed):
    tensors, old = stored(composed), parts.llama.config.vocab_size
    for name, value in parts.llama.state_dict().items():
        found = tensors.pop(f"language_model.{name}")
        assert torch.equal(found[: len(value)], value)
        if name in {"model.embed_tokens.weight", "lm_head.weight"}:
            assert found.shape[0] == 64 * (-(-(old + 2) // 64)) > old
            torch.testing.assert_close(found[old:], value.mean(dim=0).expand_as(found[old:]))
    tower = parts.clip.vision_model.state_dict()
    for name, value in tower.items():
        assert torch.equal(tensors.pop(f"vision_tower.vision_model.{name}"), value)
    assert sorted(tensors) == [
        f"multi_modal_projector.linear_{i}.{kind}" for i in (1, 2) for kind in ("bias", "weight")
    ]


@pytest.mark.parametrize("layout", ["bin", "old bin", "safetensors", "sharded safetensors"])
def test_every_layout_of_the_language_model(tmp_path, composed, layout):
    other = build_parts(tmp_path)
    save_vicuna(other, layout)
    assert same_tensors(compose(other, tmp_path / "llava"), composed)


@pytest.mark.parametrize("layout", ["tower", "tower without prefix"])
def test_every_layout_of_the_vision_tower(tmp_path, composed, layout):
    other = build_parts(tmp_path)
    save_clip(other, layout)
    assert same_tensors(compose(other, tmp_path / "llava"), composed)


def test_a_projector_in_safetensors(tmp_path, parts, composed):
    save_file(parts.mm_projector, tmp_path / "projector.safetensors")
    output = tmp_path / "llava"
    words = parts.words(output, projector=tmp_path / "projector.safetensors")
    assert command(*words) == 0
    assert same_tensors(output, composed)


def test_one_layer_gives_the_same_representations(tmp_path, parts, composed, pictures):
    one = compose(parts, tmp_path / "one", first_layers=1)
    assert json.loads((one / "config.json").read_text())["text_config"]["num_hidden_layers"] == 1
    names = stored(one).keys()
    assert names < stored(composed).keys()
    assert {name.split(".")[3] for name in names if "language_model.model.layers" in name} == {"0"}
    model, loading = AutoModelForImageTextToText.from_pretrained(one, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys"))
    assert len(model.get_decoder().layers) == 1
    assert np.array_equal(vectors(load(one), pictures), vectors(load(composed), pictures))


def test_files_of_bounded_size_with_an_index(tmp_path, parts, composed, pictures, monkeypatch):
    monkeypatch.setattr(llava_composition, "FILE_BYTES", 200_000)
    output = compose(parts, tmp_path / "llava")
    files = sorted(output.glob("*.safetensors"))
    index = json.loads((output / "model.safetensors.index.json").read_text())
    tensors = stored(output)
    assert len(files) > 2
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    for file in files:
        with safe_open(file, "pt") as content:
            sizes = [content.get_tensor(name).nbytes for name in content.keys()]  # noqa: SIM118
            assert sum(sizes) <= 200_000 or len(sizes) == 1
            assert {index["weight_map"][name] for name in content.keys()} == {file.name}  # noqa: SIM118
    assert same_tensors(output, composed)
    assert np.array_equal(vectors(load(output), pictures), vectors(load(composed), pictures))


def test_number_types_stay_as_stored(tmp_path):
    parts = build_parts(tmp_path, dtype=torch.float16)
    output = compose(parts, tmp_path / "llava")
    kinds = {name.split(".")[0]: tensor.dtype for name, tensor in stored(output).items()}
    assert kinds == {
        "language_model": torch.float16,
        "vision_tower": torch.float32,
        "multi_modal_projector": torch.float32,
    }
    assert json.loads((output / "config.json").read_text())["dtype"] == "float16"
    model = AutoModelForImageTextToText.from_pretrained(output)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def test_a_tied_output_layer_stays_tied(tmp_path):
    parts = build_parts(tmp_path, tied=True)
    output = compose(parts, tmp_path / "llava")
    assert "language_model.lm_head.weight" not in stored(output)
    model, loading = AutoModelForImageTextToText.from_pretrained(output, output_loading_info=True)
    assert not loading["missing_keys"]
    assert model.lm_head.weight is model.get_input_embeddings().weight
    memory = assembled(parts, AutoProcessor.from_pretrained(output).tokenizer)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        found, expected = model.eval()(input_ids=ids).logits, memory(input_ids=ids).logits
    old = parts.llama.config.vocab_size
    assert torch.equal(found[..., :old], expected[..., :old])


def test_from_the_command_line_to_chosen_rows(tmp_path, parts, pictures, capsys):
    (tmp_path / "llava").mkdir()  # an empty folder is as good as none
    assert command(*parts.words(tmp_path / "llava"), "--first-layers", "1", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["decoder_layers"], facts["language_model_layers"]) == (1, 3)
    assert facts["parameter_bytes"] == sum(tensor.nbytes for tensor in stored(tmp_path / "llava").values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llava"]
    data = write_pool(tmp_path / "data", pictures)
    words = ["run", data, "--model", tmp_path / "llava", "--budget", "25%", "--output", tmp_path / "run"]
    assert command(*words) == 0
    assert sum(scores_of(tmp_path / "run")["selected"]) == 3
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["represent"]
    assert recorded["image_fit"] == "pad"
    padded = RepresentationStore(tmp_path / "run" / "representations").representations(0)[1]
    words = ["represent", data, "--model", tmp_path / "llava", "--output", tmp_path / "cropped"]
    assert command(*words, "--image-fit", "processor") == 0
    cropped = RepresentationStore(tmp_path / "cropped" / "representations").representations(0)[1]
    assert np.abs(padded - cropped).max() > 1e-3


def test_the_summary_tells_what_was_made(tmp_path, parts, capsys):
    assert command(*parts.words(tmp_path / "llava"), "--first-layers", "2") == 0
    shown = capsys.readouterr().out
    assert "LLaVA with 2 of 3 decoder layers" in shown
    words = " ".join(shown.split())
    assert f"written {tmp_path / 'llava'} next scalselect run DATASET --model {tmp_path / 'llava'} --budget" in words


def test_a_failed_write_leaves_nothing(tmp_path, parts, monkeypatch, capsys):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(llava_composition, "write_tensors", full)
    assert command(*parts.words(tmp_path / "llava")) == 1
    error = capsys.readouterr().err
    assert f"error: checkpoint cannot be written: {tmp_path / 'llava'} (No space left on device)" in error
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path, parts, monkeypatch, capsys):
    def interrupted(folder, *_arguments, **_options):
        (folder / "model.safetensors").write_bytes(b"begun")
        raise KeyboardInterrupt

    monkeypatch.setattr(llava_composition, "write_tensors", interrupted)
    assert command(*parts.words(tmp_path / "llava")) == 130
    assert "interrupted; nothing was written. The same command begins anew:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_parts_are_not_changed(tmp_path):
    parts = build_parts(tmp_path / "parts")
    kept = shutil.copytree(tmp_path / "parts", tmp_path / "copy")
    compose(parts, tmp_path / "llava")
    for path in kept.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "parts" / path.relative_to(kept)).read_bytes()
