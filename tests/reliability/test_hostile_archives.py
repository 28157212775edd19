"""Tars and saved data sets that would like to read or write somewhere else: read in place, and names name nothing."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
import pytest

from scalselect.dataset.containers import open_records
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import open_pool
from scalselect.dataset.selected_writer import write_selected
from scalselect.errors import DatasetError, SampleError
from scalselect.export_work import SubsetExport
from scalselect.records import Sample
from tars import png, record, write_members

NAMES = ("/etc/evil", "../../evil", "a/../../../evil", "CON", "x" * 3000, "a\nb", "\x1b[2J", "nul", "~/evil", "a//b")


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def tar_of(path, name, **fields):
    members = [(f"{name}.json", json.dumps(record(0, **fields)).encode()), (f"{name}.png", png(1))]
    return write_members(path, members)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_members_are_no_places(tmp_path, name):
    pool = open_pool(tar_of(tmp_path / "pool.tar", name))
    (sample,) = pool.read(0, 1)
    assert isinstance(sample, Sample)
    assert pool.embedded_image(sample.images[0]) == png(1)
    out = tmp_path / "run" / "deep"
    out.mkdir(parents=True)
    write_selected(pool, [0], out)
    export = SubsetExport(JoinedPool([pool]), [0])
    export.write_messages(out / "messages.jsonl")
    export.write_trl(out / "trl.parquet", embed_images=True)
    assert listing(tmp_path) == [
        "pool.tar",
        "run",
        "run/deep",
        "run/deep/messages-images",
        "run/deep/messages-images/0000000-0.png",
        "run/deep/messages.jsonl",
        "run/deep/selected.tar",
        "run/deep/trl.parquet",
    ]
    assert not Path("/etc/evil.json").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("target", ["/etc/hostname", "../secret.png", "/dev/zero"])
def test_links_and_devices_are_not_followed(tmp_path, kind, target):
    (tmp_path / "secret.png").write_bytes(png(9))
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname, link.devmajor, link.devminor = kind, target, 1, 5
    good = [("b.json", json.dumps(record(0)).encode()), ("b.png", png(1))]
    members = [("a.json", json.dumps(record(0)).encode()), (link, b""), *good]
    pool = open_pool(write_members(tmp_path / "pool.tar", members))
    row, other = pool.read(0, 2)
    assert pool.embedded_image(other.images[0]) == png(1)
    assert row.reason in ("invalid_record", "marker_mismatch")


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [1 << 33, 1 << 40, 8 << 60])
def test_sizes_that_are_no_truth_are_refused_at_once(tmp_path, size):
    path = tmp_path / "pool.tar"
    path.write_bytes(header("a.json", size) + bytes(1024))
    with pytest.raises(DatasetError):
        open_pool(path)


@pytest.mark.parametrize(
    "fields", [{"size": "99999999999999"}, {"size": "-5"}, {"size": "x"}, {"path": "../../../evil"}]
)
def test_fields_that_say_otherwise_gain_nothing(tmp_path, fields):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("a.json", json.dumps(record(0)).encode()), ("a.png", png(1))):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(data), dict(fields)
            if "size" in fields:  # tarfile writes the true one behind ours
                member.pax_headers["GNU.sparse.realsize"] = fields["size"]
                member.pax_headers["GNU.sparse.size"] = fields["size"]
            archive.addfile(member, io.BytesIO(data))
    (tmp_path / "pool.tar").write_bytes(content.getvalue())
    before = listing(tmp_path)
    try:
        pool = open_pool(tmp_path / "pool.tar")
        for row in pool.read(0, len(pool)):
            for image in row.images if isinstance(row, Sample) else ():
                pool.embedded_image(image)
    except (DatasetError, SampleError):
        pass
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["../other/data.arrow", "/data.arrow", "a/../../x.arrow"])
def test_state_of_a_saved_data_set_names_files_of_its_folder_alone(tmp_path, name):
    for folder in ("pool", "other"):
        datasets.Dataset.from_dict({"id": ["1"], "text": ["x"]}).save_to_disk(tmp_path / folder)
    state = json.loads((tmp_path / "pool" / "state.json").read_text())
    state["_data_files"] = [*state["_data_files"], {"filename": name}]
    (tmp_path / "pool" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DatasetError, match="names a file outside of its folder"):
        open_records(tmp_path / "pool")


@pytest.mark.parametrize("name", [*NAMES, "nul\0byte", ".", "..", ""])
def test_ids_and_names_of_images_become_no_places(tmp_path, name):
    from base64 import b64encode

    image = {"bytes": b64encode(png(3)).decode(), "path": name or None}
    records = [{"id": name, "source": name, "image": image, **record(0)}]
    data = tmp_path / "pool.json"
    data.write_text(json.dumps(records))
    pool = open_pool(data)
    out = tmp_path / "run" / "deep"
    out.mkdir(parents=True)
    write_selected(pool, [0], out)
    export = SubsetExport(JoinedPool([pool]), [0])
    export.write_messages(out / "messages.jsonl")
    export.write_llava(out / "llava.json")
    export.write_trl(out / "trl.parquet", embed_images=True)
    names = {Path(file).name for file in listing(tmp_path)}
    assert names == {
        "0000000-0.png",
        "deep",
        "llava-images",
        "llava.json",
        "messages-images",
        "messages.jsonl",
        "pool.json",
        "run",
        "selected.json",
        "trl.parquet",
    }
