"""For tests of models: rows of the full models, rehearsed checkpoints, checkpoints in many files, and a small pool."""

import shutil

import pytest


@pytest.fixture(scope="session")
def sharded(checkpoints, built_once):
    """Return a function family -> folder of its tiny checkpoint in many files of weights."""
    from transformers import AutoModelForImageTextToText

    def build(folder):
        shutil.copytree(checkpoints(folder.name), folder)
        (folder / "model.safetensors").unlink()
        model = AutoModelForImageTextToText.from_pretrained(checkpoints(folder.name))
        model.save_pretrained(folder, max_shard_size="30KB")

    return lambda family: built_once(f"sharded/{family}", build)


@pytest.fixture(scope="session")
def pool(pictures, tmp_path_factory):
    from small_pools import write_pool

    return write_pool(tmp_path_factory.mktemp("pool"), pictures, rows=4)


@pytest.fixture(scope="session")
def reference(checkpoints):
    """Return a function (family, sample, layer=0, **options) -> the `ReferenceRow` of the full model.

    Model and passes are remembered until another family is asked for.
    """
    from direct_reference import load_reference, row_of, whole_pass

    known = {}

    def row(family, sample, layer=0, **options):
        if family not in known:
            known.clear()
            known[family] = (*load_reference(checkpoints(family)), {})
        model, processor, passes = known[family]
        content = (sample.turns, sample.images, layer)
        if content not in passes:
            passes[content] = whole_pass(model, processor, family, sample, layer)
        return row_of(passes[content], **options)

    return row


@pytest.fixture(scope="session")
def rehearsed(loaded):
    """Return a function (family, **options) -> a `Checkpoint` that knows what its samples may share, cached."""
    from scalselect.config import RepresentConfig
    from scalselect.vlm.rehearsal import rehearse

    cache = {}

    def rehearse_once(family, **options):
        key = family, RepresentConfig(**options)
        if key not in cache:
            cache[key] = rehearse(loaded(family, **options), key[1])
        return cache[key]

    return rehearse_once
