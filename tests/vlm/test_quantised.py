"""Quantised checkpoints are refused by the name of their method, from the configuration alone."""

import json
import re
import shutil

import pytest

from scalselect.config import RepresentConfig
from scalselect.errors import ModelError
from scalselect.vlm.checkpoint import load_checkpoint
from scalselect.vlm.settings import resolve_settings

METHODS = {
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}


@pytest.fixture
def refusal(checkpoints, tmp_path):
    """Return a function that changes a checkpoint's configuration, takes its weights away and returns the refusal."""

    def refusal(change):
        folder = shutil.copytree(checkpoints("llava"), tmp_path / "quantised")
        facts = json.loads((folder / "config.json").read_text())
        change(facts)
        (folder / "config.json").write_text(json.dumps(facts))
        (folder / "model.safetensors").unlink()
        config = RepresentConfig()
        with pytest.raises(ModelError) as caught:
            load_checkpoint(folder, config, resolve_settings(config, folder, None))
        return str(caught.value)

    return refusal


def message(method):
    return f"model type `llava` is not supported: the checkpoint is quantised ({method}): give the unquantised one"


@pytest.mark.parametrize("method", METHODS)
def test_the_method_is_named(refusal, method):
    assert refusal(lambda facts: facts.update(quantization_config=METHODS[method])) == message(method)


@pytest.mark.parametrize("method", METHODS)
def test_the_method_is_found_with_the_language_model(refusal, method):
    said = refusal(lambda facts: facts["text_config"].update(quantization_config=METHODS[method]))
    assert said == message(method)


def test_older_names(refusal):
    compressed = METHODS["compressed-tensors"]
    assert refusal(lambda facts: facts.update(compression_config=compressed)) == message("compressed-tensors")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_method_that_does_not_name_itself(refusal, bits):
    said = refusal(lambda facts: facts.update(quantization_config={f"load_in_{bits}bit": True}))
    assert said == message("bitsandbytes")


def test_an_unknown_method(refusal):
    assert re.search(r"quantised \(by a method", refusal(lambda facts: facts.update(quantization_config={"bits": 2})))


def test_without_quantisation_weights_are_what_is_missing(refusal):
    assert "weights cannot be loaded" in refusal(lambda facts: facts.pop("quantization_config", None))
