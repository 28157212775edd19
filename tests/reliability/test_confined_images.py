"""Images confined to the image folder: what leads out of it is told and not read, at every door of the package."""

from __future__ import annotations

import json
import os

import pytest

import scalselect
from object_store import upload
from scalselect import local_images
from scalselect.dataset.opening import open_pool
from scalselect.errors import SampleError, WorkError
from scalselect.image_files import image_exists, open_image
from small_pools import command, record, scores_of, write_pool

INSIDE = ("a.png", "sub/../a.png", "sub/b.png", "link-inside", "{root}/a.png", "../{name}/a.png")
OUTSIDE = (
    "../secret.png",
    "{above}/secret.png",
    "link-outside",
    "out/secret.png",
    "sub/../../secret.png",
    "../none.png",
)


@pytest.fixture
def laid_out(tmp_path, pictures):
    """Return the image folder: two pictures, one beside the folder, and links to both."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    for path in (root / "a.png", root / "sub" / "b.png", tmp_path / "secret.png"):
        path.write_bytes(pictures[0].read_bytes())
    (root / "link-inside").symlink_to("sub/b.png")
    (root / "link-outside").symlink_to("../secret.png")
    (root / "out").symlink_to(tmp_path)
    return root


def named(names, root):
    return [name.format(root=root, name=root.name, above=root.parent) for name in names]


def pool_of(root, *names, **options):
    records = [record(number, name) for number, name in enumerate(named(names, root))]
    return open_pool(records, images=root, **options)


def outcomes(pool):
    told = []
    for sample in pool.read(0, len(pool)):
        (image,) = sample.images
        try:
            open_image(image.path, within=image.within)
            told.append("read")
        except SampleError as error:
            told.append(str(error.reason))
    return told


def test_only_what_lies_in_the_folder_is_read(laid_out):
    confined = pool_of(laid_out, *INSIDE, *OUTSIDE, confine_images=True)
    assert outcomes(confined) == ["read"] * len(INSIDE) + ["image_outside"] * len(OUTSIDE)
    free = pool_of(laid_out, *INSIDE, *OUTSIDE)
    assert outcomes(free) == ["read"] * (len(INSIDE) + len(OUTSIDE) - 1) + ["image_missing"]


def test_folder_that_is_a_link_is_followed_first(laid_out, tmp_path):
    (tmp_path / "called").symlink_to(laid_out)
    pool = open_pool([record(0, "a.png"), record(1, "../secret.png")], images=tmp_path / "called", confine_images=True)
    assert outcomes(pool) == ["read", "image_outside"]


def test_neighbour_whose_name_begins_alike_is_outside(laid_out, pictures):
    beside = laid_out.with_name("images-2")
    beside.mkdir()
    (beside / "a.png").write_bytes(pictures[0].read_bytes())
    assert outcomes(pool_of(laid_out, "../images-2/a.png", confine_images=True)) == ["image_outside"]


def test_folder_exchanged_for_a_link_between_look_and_opening_is_noticed(laid_out, tmp_path, monkeypatch):
    (tmp_path / "b.png").write_bytes((laid_out / "a.png").read_bytes())
    look = local_images._checked_place

    def exchange(path, within):
        place = look(path, within)
        (laid_out / "sub").rename(laid_out / "old")
        (laid_out / "sub").symlink_to(tmp_path)
        return place

    monkeypatch.setattr(local_images, "_checked_place", exchange)
    with pytest.raises(SampleError, match="outside the image folder"):
        open_image(f"{laid_out}/sub/b.png", within=str(laid_out))


@pytest.mark.parametrize(
    ("location", "within", "told"),
    [
        ("s3://b/images/../other/a.png", "s3://b/images", "image_outside"),
        ("s3://b/images-2/a.png", "s3://b/images", "image_outside"),
        ("s3://other/images/a.png", "s3://b/images", "image_outside"),
        ("gs://b/images/a.png", "s3://b/images", "image_outside"),
        ("hf://datasets/o/n@c/a.png", "hf://datasets/o/m@c", "image_outside"),
        ("s3://b/images/a.png", "/images", "image_outside"),
        ("/images/a.png", "s3://b/images", "image_outside"),
        ("x://b/a.png", "s3://b", "image_missing"),
    ],
)
def test_locations_outside_are_refused_before_a_store_is_asked(location, within, told):
    for look in (open_image, image_exists) if told == "image_outside" else (open_image,):
        with pytest.raises(SampleError) as caught:
            look(location, within=within)
        assert caught.value.reason == told


def test_run_check_and_export_skip_what_is_outside(laid_out, checkpoints, tmp_path, capsys):
    data = laid_out / "pool.json"
    names = ["a.png"] * 6 + named(OUTSIDE[:4], laid_out)
    data.write_text(json.dumps([record(number, name) for number, name in enumerate(names)]))
    words = ("--model", checkpoints("llava"), "--budget", "50%", "--max-skipped", "90%")
    assert command("run", data, *words, "--output", tmp_path / "run", "--confine-images") == 0
    scores = scores_of(tmp_path / "run")
    assert scores["reason"] == [None] * 6 + ["image_outside"] * 4
    assert json.loads((tmp_path / "run" / "run.json").read_text())["represent"]["confine_images"] is True
    assert command("run", data, *words, "--output", tmp_path / "run") == 2  # the option is a key of the run
    assert "confine_images: True in the run folder" in capsys.readouterr().err
    new = laid_out / "new.json"
    new.write_text(json.dumps([record(number, name) for number, name in enumerate(["a.png", "link-outside"], 10)]))
    assert command("extend", tmp_path / "run", new, "--max-skipped", "90%") == 0
    assert scores_of(tmp_path / "run")["reason"][10:] == [None, "image_outside"]
    for decode in ("on", "off"):
        capsys.readouterr()
        assert command("check", data, "--confine-images", "--decode", decode, "--json") == 1
        told = json.loads(capsys.readouterr().out)
        assert [(kind["kind"], kind["problems"]) for kind in told["kinds"]] == [("image_outside", 4)]
        assert command("check", data, "--decode", decode) == 0


def test_export_copies_and_names_nothing_from_outside(laid_out, checkpoints, tmp_path):
    data = laid_out / "pool.json"
    data.write_text(json.dumps([record(number, "a.png") for number in range(6)]))
    words = ("--model", checkpoints("llava"), "--budget", "3", "--confine-images")
    assert command("run", data, *words, "--output", tmp_path / "run") == 0
    exports = [{"to": "trl", "embed_images": True}, {"to": "trl"}, {"to": "messages"}, {"to": "llava"}]
    for options in exports:
        assert scalselect.export(tmp_path / "run", **options).records == 3
    (laid_out / "a.png").unlink()
    (laid_out / "a.png").symlink_to("../secret.png")
    for options in exports:
        with pytest.raises(WorkError, match=r"a\.png \(.*outside the image folder"):
            scalselect.export(tmp_path / "run", **options)


def test_data_of_a_store_are_confined_unless_told_otherwise(bucket, checkpoints, pictures, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes(pictures[0].read_bytes())
    (folder / "pool.json").write_text(json.dumps([record(n, "a.png") for n in range(4)] + [record(4, pictures[1])]))
    upload(folder, f"{bucket}/data")
    remote = f"{bucket}/data/pool.json"
    assert open_pool(remote).confined
    assert not open_pool(remote, confine_images=False).confined
    assert not open_pool(folder / "pool.json").confined
    words = ("--model", checkpoints("llava"), "--budget", "2", "--max-skipped", "90%", "--output")
    assert command("run", remote, *words, tmp_path / "run") == 0
    assert scores_of(tmp_path / "run")["reason"] == [None] * 4 + ["image_outside"]
    assert command("run", remote, *words, tmp_path / "free", "--no-confine-images") == 0
    assert scores_of(tmp_path / "free")["reason"] == [None] * 5
    pools = [open_pool(folder / "pool.json")]  # the data have moved: still confined, as when the run was made
    from scalselect.pool_of_run import pool_of_run

    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert pool_of_run(run, None, opened=pools).confined


def test_bytes_in_the_data_are_not_concerned(tmp_path, pictures):
    import base64

    url = "data:image/png;base64," + base64.b64encode(pictures[0].read_bytes()).decode()
    pool = open_pool([record(0, url)], images=tmp_path, confine_images=True)
    (sample,) = pool.read(0, 1)
    assert pool.embedded_image(sample.images[0]) == pictures[0].read_bytes()
    null = [{**record(1, ""), "image": {"bytes": None, "path": str(pictures[0])}}]
    (sample,) = open_pool(null, images=tmp_path, confine_images=True).read(0, 1)
    assert sample.images[0].within == os.path.realpath(tmp_path)


def test_first_look_for_images_does_not_take_outside_for_missing(tmp_path, pictures):
    pool = open_pool(write_pool(tmp_path / "data", pictures), confine_images=True)
    assert pool.images_found() == (None, 12)
