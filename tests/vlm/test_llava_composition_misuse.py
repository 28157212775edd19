"""Every misuse of `compose-llava` ends with exit code 2, one message, and nothing written."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from llava_parts import build_parts, save_clip, save_vicuna
from small_pools import command

EMBEDDING = "model.embed_tokens.weight"


class Malicious:
    """Unpickled, it would make a file; kept as text here so that tests stay picklable."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return parts as single safetensors files, which are easy to change."""
    parts = build_parts(tmp_path_factory.mktemp("parts"))
    save_vicuna(parts, "safetensors")
    save_clip(parts, "tower")
    return parts


@pytest.fixture
def place(built, tmp_path):
    """Return copies of the parts that a test may spoil, and a function that expects the refusal."""
    return Place(tmp_path, built)


class Place:
    def __init__(self, folder, built):
        self.folder, self.built = folder, built
        self.language = folder / "vicuna"
        self.vision = folder / "clip"
        self.projector = folder / "mm_projector.bin"
        shutil.copytree(built.language_model, self.language)
        shutil.copytree(built.vision_tower, self.vision)
        shutil.copy(built.projector, self.projector)

    def words(self, *more, output=None, **other):
        parts = {"language_model": self.language, "vision_tower": self.vision, "projector": self.projector} | other
        return [*self.built.words(output or self.folder / "llava", **parts), *more]

    def config(self, folder, **facts):
        found = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(found | facts))

    def weights(self, folder, change):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def save_projector(self, change):
        tensors = dict(self.built.mm_projector)
        change(tensors)
        torch.save(tensors, self.projector)

    def files(self):
        return {path: path.read_bytes() if path.is_file() else None for path in self.folder.rglob("*")}


def assert_refused(place, words, capsys, *fragments):
    before = place.files()
    capsys.readouterr()
    code = command(*words)
    out, error = capsys.readouterr()
    assert code == 2, error
    assert out == ""
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1, error
    for fragment in fragments:
        assert fragment.replace("{}", str(place.folder)) in error
    assert place.files() == before


def remove(name):
    return lambda tensors: tensors.pop(name)


def replace(name, value):
    return lambda tensors: tensors.update({name: value})


def remove_file(place, name):
    (place.folder / name).unlink()


CASES = {
    "no language model": (
        lambda place: place.words(language_model=place.folder / "vicuma"),
        ["language model folder does not exist: {}/vicuma (did you mean `vicuna`?)"],
    ),
    "no vision tower": (
        lambda place: place.words(vision_tower=place.folder / "no"),
        ["vision tower folder does not exist: {}/no"],
    ),
    "no projector": (
        lambda place: place.words(projector=place.folder / "mm_projector.bim"),
        ["projector file does not exist: {}/mm_projector.bim (did you mean `mm_projector.bin`?)"],
    ),
    "projector is a folder": (
        lambda place: place.words(projector=place.folder / "clip"),
        ["projector is a folder, the file mm_projector.bin is wanted: {}/clip"],
    ),
    "output in use": (
        lambda place: place.words(output=place.folder / "clip"),
        ["output folder is not empty: {}/clip; give a new one"],
    ),
    "output is a file": (
        lambda place: place.words(output=place.projector),
        ["output is a file, a folder is wanted: {}/mm_projector.bin"],
    ),
    "no layer": (lambda place: place.words("--first-layers", "0"), ["first_layers must lie between 1 and 3", ": 0"]),
    "more layers": (lambda place: place.words("--first-layers", "4"), ["between 1 and 3 for this language model: 4"]),
    "parts exchanged": (
        lambda place: place.words(language_model=place.vision, vision_tower=place.language),
        ["language model is no Llama (as Vicuna is) but of type `clip_vision_model`: {}/clip"],
    ),
    "vision tower is none": (
        lambda place: place.words(vision_tower=place.language),
        ["vision tower is no CLIP but of type `llama`: {}/vicuna"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_words_that_cannot_be_right(place, capsys, name):
    words, fragments = CASES[name]
    assert_refused(place, words(place), capsys, *fragments)


SPOILED = {
    "another architecture": (
        lambda place: place.config(place.language, model_type="mistral"),
        ["language model is no Llama (as Vicuna is) but of type `mistral`: {}/vicuna"],
    ),
    "quantised": (
        lambda place: place.config(place.language, quantization_config={"quant_method": "gptq"}),
        ["language model is quantised: {}/vicuna"],
    ),
    "no configuration": (lambda place: remove_file(place, "clip/config.json"), ["has no config.json: {}/clip"]),
    "no image processor": (
        lambda place: remove_file(place, "clip/preprocessor_config.json"),
        ["vision tower's image processor cannot be loaded: {}/clip", "preprocessor_config.json is needed"],
    ),
    "another picture size": (
        lambda place: place.config(place.vision, image_size=336),
        ["image processor does not fit the vision tower: it makes pictures of (84, 84), 336 x 336 pixels are wanted"],
    ),
    "no tokenizer": (
        lambda place: (remove_file(place, "vicuna/tokenizer.json"), remove_file(place, "vicuna/tokenizer_config.json")),
        ["language model's tokenizer cannot be loaded: {}/vicuna"],
    ),
    "tokenizer of another model": (
        lambda place: place.config(place.language, vocab_size=500),
        ["tokenizer does not belong to the language model: it has 545 tokens, the embedding 500 rows"],
    ),
    "no weights": (
        lambda place: remove_file(place, "vicuna/model.safetensors"),
        ["folder holds no weights: {}/vicuna (looked for model.safetensors, model.safetensors.index.json, "],
    ),
    "missing tensor of the language model": (
        lambda place: place.weights(place.language, remove("model.layers.1.mlp.up_proj.weight")),
        ["language model is incomplete: {}/vicuna", "1 tensors missing: `model.layers.1.mlp.up_proj.weight`"],
    ),
    "missing tensor of the vision tower": (
        lambda place: place.weights(place.vision, remove("vision_model.pre_layrnorm.bias")),
        ["vision tower is incomplete: {}/clip", "`pre_layrnorm.bias`"],
    ),
    "missing tensor of the projector": (
        lambda place: place.save_projector(remove("model.mm_projector.2.bias")),
        ["projector is incomplete: {}/mm_projector.bin (1 tensors missing: `model.mm_projector.2.bias`)"],
    ),
    "projector of one layer": (
        lambda place: torch.save({"model.mm_projector.weight": torch.zeros(64, 48)}, place.projector),
        ["projector is incomplete: {}/mm_projector.bin (4 tensors missing: `model.mm_projector.0.bias`"],
    ),
    "more than a projector": (
        lambda place: place.save_projector(replace("model.image_newline", torch.zeros(64))),
        ["projector has tensors that its architecture does not know", "(`model.image_newline`)"],
    ),
    "unknown tensor of the language model": (
        lambda place: place.weights(place.language, replace("model.layers.0.adapter.weight", torch.zeros(2))),
        ["language model has tensors that its architecture does not know", "(`model.layers.0.adapter.weight`)"],
    ),
    "projector of another vision tower": (
        lambda place: place.save_projector(replace("model.mm_projector.0.weight", torch.zeros(64, 32))),
        [
            "projector does not fit: `model.mm_projector.0.weight` is [64, 32], wanted is [64, 48]",
            "the vision tower's features have 48 numbers, the language model's 64",
        ],
    ),
    "projector of another language model": (
        lambda place: place.save_projector(replace("model.mm_projector.2.bias", torch.zeros(80))),
        ["projector does not fit: `model.mm_projector.2.bias` is [80], wanted is [64]"],
    ),
    "embedding of another size": (
        lambda place: place.weights(place.language, replace(EMBEDDING, torch.zeros(600, 64))),
        [f"language model does not fit: `{EMBEDDING}` is [600, 64], wanted is [545, 64]: {{}}/vicuna"],
    ),
    "numbers that are whole": (
        lambda place: place.weights(place.language, replace(EMBEDDING, torch.zeros(545, 64, dtype=torch.int8))),
        [f"tensor `{EMBEDDING}` holds no plain floating-point numbers but I8: {{}}/vicuna"],
    ),
    "torn weights": (
        lambda place: (place.language / "model.safetensors").write_bytes(b"torn"),
        ["file of weights cannot be read: {}/vicuna/model.safetensors"],
    ),
    "torn projector": (
        lambda place: place.projector.write_bytes(b"torn"),
        ["file of weights cannot be read: {}/mm_projector.bin"],
    ),
    "projector that is no dictionary": (
        lambda place: torch.save([torch.zeros(2)], place.projector),
        ["file is no dictionary of tensors: {}/mm_projector.bin"],
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_parts_that_do_not_make_a_llava(place, capsys, name):
    spoil, fragments = SPOILED[name]
    spoil(place)
    assert_refused(place, place.words(), capsys, *fragments)


@pytest.mark.parametrize("part", ["projector", "language model", "vision tower"])
@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_that_holds_more_than_tensors_is_not_run(place, capsys, part, old):
    file = {
        "projector": place.projector,
        "language model": place.language / "pytorch_model.bin",
        "vision tower": place.vision / "pytorch_model.bin",
    }[part]
    (file.parent / "model.safetensors").unlink(missing_ok=True)
    trap = place.folder / "trap"
    torch.save({"model.mm_projector.0.weight": Malicious(trap)}, file, _use_new_zipfile_serialization=not old)
    assert_refused(place, place.words(), capsys, f"nothing else is unpickled: {file}")
    assert not trap.exists()
    torch.load(file, weights_only=False)  # the trap is one
    assert trap.exists()


def test_shards_and_their_index(place, built, capsys):
    folder = place.folder / "sharded"
    parts = build_parts(folder)
    words = place.words(language_model=parts.language_model)
    index = parts.language_model / "pytorch_model.bin.index.json"
    content = index.read_text()
    index.write_text(content[:20])
    assert_refused(place, words, capsys, f"index of weights cannot be read: {index}")
    index.write_text(json.dumps({"weight_map": json.loads(content)["weight_map"] | {EMBEDDING: "other.bin"}}))
    assert_refused(place, words, capsys, f"file of weights does not exist: {parts.language_model}/other.bin")
    wrong = {"weight_map": json.loads(content)["weight_map"] | {EMBEDDING: "pytorch_model-00002-of-00002.bin"}}
    index.write_text(json.dumps(wrong))
    assert_refused(place, words, capsys, f"file does not hold the tensor `{EMBEDDING}` that its index tells of")
    index.write_text(content)
    assert command(*words) == 0


def test_a_sentencepiece_model_alone_is_explained(place, capsys, monkeypatch):
    import transformers.utils.import_utils as available

    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place.language / name).unlink()
    (place.language / "tokenizer.model").write_bytes(b"\x0a\x00")
    monkeypatch.setattr(available, "is_sentencepiece_available", lambda: False)
    words = ["tokenizer cannot be loaded: {}/vicuna (it is a tokenizer.model alone)", "sentencepiece and protobuf"]
    assert_refused(place, place.words(), capsys, *words)


def test_a_whole_model_is_told_from_a_part(place, checkpoints, capsys):
    words = place.words(language_model=checkpoints("llava"))
    assert_refused(place, words, capsys, "of type `llava`", "it is a whole vision-language model, which --model takes")


def test_missing_options_are_refused(place, capsys):
    words = [word for word in place.words() if word not in {"--projector", str(place.projector)}]
    before = place.files()
    assert command(*words) == 2
    assert "--projector" in capsys.readouterr().err
    assert command("compose-llava", "--vision-towr", "x") == 2
    assert "did you mean `--vision-tower`" in capsys.readouterr().err
    assert place.files() == before


def test_layers_that_are_left_out_need_not_be_there(place):
    def only_the_first(tensors):
        for name in [name for name in tensors if ".layers.1." in name or ".layers.2." in name]:
            del tensors[name]

    place.weights(place.language, only_the_first)
    assert command(*place.words()) == 2
    assert command(*place.words("--first-layers", "1")) == 0
