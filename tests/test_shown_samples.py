"""Conversations and small pictures of the rows that a report shows."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from scalselect import shown_samples
from scalselect.dataset.opening import open_pool
from scalselect.image_files import PictureView
from scalselect.shown_samples import MOST_CHARACTERS, MOST_PICTURES, SIDE, read_shown_samples

AS_STORED = PictureView()
RED_ABOVE_BLUE = np.concatenate([np.full((40, 60, 3), (255, 0, 0)), np.full((40, 60, 3), (0, 0, 255))]).astype(np.uint8)


def pool_of(folder, records, **options):
    path = folder / "pool.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return open_pool(path, **options)


def record(images, question="<image>\nWhat is it?", answer="A shape."):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": "a", "image": images, "conversations": turns}


def noise(side=200, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def opened(picture):
    return Image.open(io.BytesIO(picture.thumbnail)).convert("RGB")


def one(pool, row=0, view=AS_STORED):
    return read_shown_samples(pool, [row], view)[row]


def test_a_sample_shows_its_turns_with_marks_for_images_and_a_small_picture(tmp_path):
    Image.fromarray(RED_ABOVE_BLUE).resize((600, 800)).save(tmp_path / "a.png")
    sample = one(pool_of(tmp_path, [record("a.png")]))
    assert [(turn.role, turn.text) for turn in sample.turns] == [
        ("user", "[image 1] What is it?"),
        ("assistant", "A shape."),
    ]
    (picture,) = sample.pictures
    assert (picture.width, picture.height) == opened(picture).size == (SIDE * 3 // 4, SIDE)
    assert picture.name == "a.png"
    assert picture.fault is None
    assert sample.fault is None
    assert opened(picture).getpixel((70, 20))[0] > 200


def test_pictures_are_seen_as_the_run_saw_them(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(RED_ABOVE_BLUE).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pool = pool_of(tmp_path, [record("turned.jpg")])
    as_stored = opened(one(pool).pictures[0])
    turned = opened(one(pool, view=PictureView(exif="apply")).pictures[0])
    assert as_stored.size == (60, 80)
    assert turned.size == (80, 60)
    assert turned.getpixel((70, 30))[0] > 200  # what was above lies on the right


def test_limits_of_size_of_the_run_do_not_enlarge_thumbnails(tmp_path):
    noise(50).save(tmp_path / "a.png")
    view = PictureView(min_pixels=10_000, max_pixels=20_000)
    (picture,) = one(pool_of(tmp_path, [record("a.png")]), view=view).pictures
    assert (picture.width, picture.height) == (50, 50)


def test_what_cannot_be_read_is_told_in_words(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    pool = pool_of(tmp_path, [record(["gone.png"]), record(["broken.png"]), record("a.png", "<image><image>")])
    shown = read_shown_samples(pool, [0, 1, 2], PictureView())
    assert shown[0].pictures[0].thumbnail is None
    assert shown[0].pictures[0].fault == "image missing: No such file or directory"
    assert shown[1].pictures[0].fault == "image unreadable: no picture in a format that can be read"
    assert shown[2].fault.startswith("marker mismatch: ")
    (turn,) = shown[2].turns
    assert turn.role == "record"
    assert json.loads(turn.text) == record("a.png", "<image><image>")


def test_a_record_that_cannot_be_used_is_shown_as_it_was_written_and_cut(tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(
        b'{"id": "\\u001b[31m<b>\x1b", broken\n'
        + json.dumps(record("a.png", "<image>" * 3 + "x" * 5_000)).encode()
        + b"\nnull\n"
    )
    shown = read_shown_samples(open_pool(tmp_path / "pool.jsonl"), [0, 1, 2], PictureView())
    assert shown[0].turns[0].text == '{"id": "\\u001b[31m<b>\\u001b", broken'
    assert shown[1].turns[0].text.endswith("xxx [cut]")
    assert len(shown[1].turns[0].text) == 2_000 + len(" [cut]")
    assert shown[2].turns == ()
    assert shown[2].fault.endswith(" Its text cannot be read from the data.")


def test_failures_of_the_machine_are_words_as_well(tmp_path, monkeypatch):
    def out_of_memory(*_args, **_options):
        raise MemoryError

    noise().save(tmp_path / "a.png")
    monkeypatch.setattr(shown_samples, "decode_image", out_of_memory)
    assert one(pool_of(tmp_path, [record("a.png")])).pictures[0].fault == "memory ran out"


def test_web_addresses_are_left_alone_unless_the_run_was_allowed_to_fetch_them(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shown_samples, "read_image_file", lambda path, **_options: asked.append(path))
    shown = one(pool_of(tmp_path, [record("http://example.com/a.png")]))
    assert asked == []
    assert "not fetched without --allow-remote-images" in shown.fault


def test_pictures_from_elsewhere_are_fetched_for_so_many_seconds(tmp_path, monkeypatch):
    content = io.BytesIO()
    noise().save(content, "PNG")
    monkeypatch.setattr(shown_samples, "_REMOTE_SECONDS", 1e-9)
    asked = []

    def read(path, **_options):
        asked.append(path)
        return content.getvalue()

    monkeypatch.setattr(shown_samples, "read_image_file", read)
    records = [record(f"http://example.com/{number}.png") for number in range(3)]
    pool = pool_of(tmp_path, records, allow_remote_images=True)
    shown = read_shown_samples(pool, range(3), PictureView())
    found = [shown[row].pictures[0] for row in range(3)]
    assert asked == ["http://example.com/0.png"]
    assert found[0].thumbnail is not None
    assert found[1].fault == found[2].fault == "not fetched: the 0 seconds for pictures from elsewhere were over"


def test_embedded_pictures_are_shown(tmp_path):
    content = io.BytesIO()
    noise(64).save(content, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    (picture,) = one(pool_of(tmp_path, [record(url)])).pictures
    assert (picture.width, picture.height) == (64, 64)
    assert picture.name == "images[0]"


def test_some_pictures_of_many_are_shown_and_the_rest_counted(tmp_path):
    noise(20).save(tmp_path / "a.png")
    sample = one(pool_of(tmp_path, [record(["a.png"] * 7, "<image>" * 7 + " which?")]))
    assert len(sample.pictures) == MOST_PICTURES
    assert sample.more_pictures == 3


def test_long_conversations_are_cut_with_a_word(tmp_path):
    noise(20).save(tmp_path / "a.png")
    long = record("a.png", "<image>\n" + "x" * 1_500, "y" * 1_500)
    long["conversations"] += [{"from": "human", "value": "And?"}, {"from": "gpt", "value": "No."}]
    turns = one(pool_of(tmp_path, [long])).turns
    assert len(turns) == 2
    kept = MOST_CHARACTERS - len("[image 1] ") - 1_500
    assert turns[1].text == "y" * kept + f" [cut: {1_500 - kept:,} more characters and 2 more turns]"


def test_all_texts_together_stay_within_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(shown_samples, "ALL_TEXTS", 20_000)
    noise(20).save(tmp_path / "a.png")
    pool = pool_of(tmp_path, [record("a.png", "<image>\n" + "字" * 1_000) for _ in range(20)])
    shown = read_shown_samples(pool, range(20), PictureView())
    texts = [turn.text for sample in shown.values() for turn in sample.turns]
    assert sum(len(text.encode()) for text in texts) < 20_000 + 20 * 60  # the words that tell of the cut
    assert texts[0].startswith("[image 1] 字字")


def test_all_thumbnails_together_stay_within_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(shown_samples, "ALL_THUMBNAILS", 30_000)
    for number in range(12):
        noise(seed=number).save(tmp_path / f"{number}.png")
    pool = pool_of(tmp_path, [record(f"{number}.png") for number in range(12)])
    pictures = [sample.pictures[0] for sample in read_shown_samples(pool, range(12), PictureView()).values()]
    assert sum(len(picture.thumbnail) for picture in pictures) <= 30_000
    assert max(picture.width for picture in pictures) < SIDE


def test_where_no_room_is_left_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shown_samples, "ALL_THUMBNAILS", 10)
    noise().save(tmp_path / "a.png")
    assert one(pool_of(tmp_path, [record("a.png")])).pictures[0].fault == "no room is left for a thumbnail on this page"


def test_a_picture_that_several_rows_show_is_read_once(tmp_path, monkeypatch):
    noise(20).save(tmp_path / "a.png")
    read = []
    original = shown_samples.read_image_file

    def counted(path, **options):
        read.append(path)
        return original(path, **options)

    monkeypatch.setattr(shown_samples, "read_image_file", counted)
    shown = read_shown_samples(pool_of(tmp_path, [record("a.png")] * 3), range(3), PictureView())
    assert len(read) == 1
    assert shown[0].pictures == shown[2].pictures


def test_texts_that_command_a_terminal_or_turn_a_line_are_spelled_out(tmp_path):
    noise(20).save(tmp_path / "a.png")
    turns = one(pool_of(tmp_path, [record("a.png", "<image>\na\u202eb\u001b[2Jc\td\r\ne")])).turns
    assert turns[0].text == "[image 1] a\\u202eb\\u001b[2Jc    d\ne"


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_same_rows_give_the_same_samples(tmp_path, monkeypatch, order):
    monkeypatch.setattr(shown_samples, "ALL_THUMBNAILS", 15_000)
    for number in range(3):
        noise(seed=number).save(tmp_path / f"{number}.png")
    pool = pool_of(tmp_path, [record(f"{number}.png") for number in range(3)])
    assert read_shown_samples(pool, order, PictureView()) == read_shown_samples(pool, range(3), PictureView())
