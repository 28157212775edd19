"""A run does not go on where images of rows represented before have changed: sizes by default, contents when asked."""

import json
import shutil
from collections import Counter

import pytest

from scalselect import image_checks
from scalselect.dataset.opening import open_pool
from scalselect.progress import Silent
from scalselect.run_folder import RunFolder
from scalselect.segments import segments_of
from small_pools import command, promised_files, write_pool


@pytest.fixture
def run(tmp_path, finished):
    """Return a copy of a finished run with its own images, and the words of the command that made it."""
    folder = shutil.copytree(finished, tmp_path / "all")
    words = json.loads((folder / "words.json").read_text())
    return folder, [*words, "--images", folder / "images", "--output", folder / "run"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pictures, checkpoints):
    """Return a folder with images, data of 17 rows, a finished run of them in four shards, and the command's words."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "images").mkdir()
    names = [shutil.copy(picture, folder / "images").rpartition("/")[2] for picture in map(str, pictures)]
    data = write_pool(folder / "data", names, rows=17)
    words = ["run", str(data), "--model", str(checkpoints("llava")), "--budget", "50%", "--shard-size", "5"]
    assert command(*words, "--images", folder / "images", "--output", folder / "run") == 0
    (folder / "words.json").write_text(json.dumps(words))
    return folder


@pytest.fixture
def moved(run):
    """Return the run as if it had begun where it lies now."""
    folder, _ = run
    run_json = folder / "run" / "run.json"
    content = json.loads(run_json.read_text())
    del content["seal"]  # edited on purpose
    content["represent"]["images"] = str(folder / "images")
    run_json.write_text(json.dumps(content))
    return run


def image_of(folder, row):
    return folder / "images" / json.loads(next(folder.glob("data/*.json")).read_text())[row]["image"]


def test_an_unchanged_run_goes_on(moved, capsys):
    folder, words = moved
    before = promised_files(folder / "run")
    assert command(*words) == 0
    assert "images:" not in capsys.readouterr().err
    assert command(*words, "--verify-images") == 0
    assert "images: those of all 17 rows that show any are what was read" in capsys.readouterr().err
    assert promised_files(folder / "run") == before


@pytest.mark.parametrize("gone", [True, False])
def test_another_size_is_refused_before_the_model_is_loaded(moved, capsys, monkeypatch, gone):
    folder, words = moved
    path = image_of(folder, 2)
    size = path.stat().st_size
    (folder / "run" / "representations" / "shard-0000003.json").unlink()
    if gone:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"1234")
    monkeypatch.setattr("scalselect.shard_worker.load_checkpoint", None)
    capsys.readouterr()
    assert command(*words) == 2
    message = capsys.readouterr().err
    now = "gone" if gone else f"{size + 4:,} bytes"
    assert f"row 2, {path.name}: {size:,} bytes then, {now} now" in message
    assert "restore the images, or begin again in another folder" in message
    assert "1 image has changed since" in message  # though several rows show it
    assert "of those of 15 rows looked at" in message  # not those of the shard that is not published


def test_another_content_of_the_same_size_is_found_when_asked(moved, capsys):
    folder, words = moved
    path = image_of(folder, 2)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert command(*words) == 0  # as the documentation says: sizes alone
    capsys.readouterr()
    assert command(*words, "--verify-images") == 2
    message = capsys.readouterr().err
    assert f"row 2, {path.name}: sha256 " in message
    assert message.count(f"{path.name}: sha256") == 3  # rows 2, 8 and 14
    path.unlink()
    assert command(*words, "--verify-images") == 2
    assert "not to be read (No such file" in capsys.readouterr().err


def test_extend_looks_at_the_images_of_the_run(moved, tmp_path, pictures, capsys):
    folder, _ = moved
    later = write_pool(tmp_path / "later", [str(path) for path in pictures[::-1]], rows=3)
    path = image_of(folder, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + b"1234")
    capsys.readouterr()
    assert command("extend", folder / "run", later) == 2
    assert f"row 2, {path.name}: " in capsys.readouterr().err
    path.write_bytes(whole)
    assert command("extend", folder / "run", later) == 0
    content = bytearray(whole)
    content[-1] ^= 1
    path.write_bytes(content)
    assert command("extend", folder / "run", later, "--verify-images") == 2
    assert "sha256" in capsys.readouterr().err


def test_a_bounded_number_of_rows_is_looked_at(moved, monkeypatch):
    """Over many seeds every row has the same chance; of a shard without a drawn row nothing is read."""
    folder, words = moved
    run = RunFolder(folder / "run")
    named = [(segments_of(run.require())[0], open_pool(words[1], images=str(folder / "images")))]
    monkeypatch.setattr(image_checks, "ROWS_CHECKED", 2)
    original, counts = image_checks.random.Random, Counter()
    for seed in range(300):
        monkeypatch.setattr(image_checks.random, "Random", lambda _, seed=seed: original(seed))
        drawn = image_checks._drawn(run.store, named)
        assert sum(map(len, drawn.values())) == 2
        counts.update((shard, place) for shard, places in drawn.items() for place in places)
    assert sorted(counts) == [(row // 5, row % 5) for row in range(17)]
    assert max(counts.values()) < 3 * min(counts.values())
    read = []
    monkeypatch.setattr(image_checks, "_of_other_size", lambda images: read.extend(images) or [])
    monkeypatch.setattr(
        run.store,
        "rows",
        lambda shard, *columns: read.append(shard) or type(run.store).rows(run.store, shard, *columns),
    )
    image_checks.check_images(run.store, named, Silent(), every=False)
    shards, images = (
        [item for item in read if isinstance(item, int)],
        [item for item in read if not isinstance(item, int)],
    )
    assert shards == sorted(drawn)
    assert [image.row for image in images] == [5 * shard + place for shard in shards for place in drawn[shard]]


def test_images_on_the_web_are_fetched_when_asked_only(monkeypatch, capsys):
    asked = []
    image = image_checks._Image(3, "https://host/a.png", "https://host/a.png", 5, "0" * 64)
    monkeypatch.setattr(image_checks, "read_image_file", lambda path: asked.append(path) or b"other")
    assert image_checks._of_other_size([image]) == []
    assert asked == []
    (told,) = image_checks._of_other_content([image, image])[:1]
    assert told.startswith("row 3, https://host/a.png: sha256 000")
    assert asked == ["https://host/a.png"]
