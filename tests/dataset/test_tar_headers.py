"""Members are those that tarfile lists, whether it reads their headers or not."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset import tar_headers
from scalselect.dataset.tar_headers import members_of

NAMES = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=8) | st.sampled_from(
    ["a/b.json", "x" * 99, "x" * 100, "x" * 101, "d/" * 60 + "x", "d/" * 90 + "日本", "../a", "a.json/"]
)
MEMBERS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "type": st.sampled_from([tarfile.REGTYPE] * 5 + [tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]),
        "mtime": st.integers(0, 2**33) | st.floats(0, 2**31),
        "uid": st.integers(0, 2**22),
        "uname": st.sampled_from(["", "root", "ä"]),
        "content": st.binary(max_size=3) | st.sampled_from([b"x" * 511, b"x" * 512, b"x" * 513, b"x" * 5000]),
        "pax_headers": st.dictionaries(st.sampled_from(["comment", "atime", "path"]), st.sampled_from(["1.5", "b/c"])),
    }
)


def written(members, tar_format, shared):
    stream = io.BytesIO()
    shared = {"comment": "for all"} if shared else {}
    with tarfile.open(fileobj=stream, mode="w", format=tar_format, pax_headers=shared) as archive:
        archive.addfile(tarfile.TarInfo("first"))  # tarfile refuses headers for all without any
        for fields in members:
            member = tarfile.TarInfo(fields["name"])
            content = fields["content"] if fields["type"] in tarfile.REGULAR_TYPES else b""
            member.size = len(content)
            for name in ("type", "mtime", "uid", "uname", "pax_headers"):
                setattr(member, name, fields[name])
            if tar_format != tarfile.PAX_FORMAT:
                member.mtime = int(member.mtime)
            try:
                archive.addfile(member, io.BytesIO(content))
            except ValueError:  # the format has no room for the name
                continue
    return stream.getvalue()


@given(st.lists(MEMBERS, max_size=6), st.sampled_from([0, 1, 2]), st.booleans(), st.sampled_from([1, 3, 1000]))
def test_members_are_those_of_tarfile(tmp_path_factory, members, tar_format, shared, at_once):
    path = tmp_path_factory.mktemp("tar") / "pool.tar"
    content = written(members, tar_format, shared)
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, path.open("rb", buffering=0) as stream:
        patch.setattr(tar_headers, "_CHECKED_AT_ONCE", at_once)
        found = list(members_of(stream, len(content)))
    with tarfile.open(path) as archive:
        listed = archive.getmembers()
        end = archive.offset
    assert [(member.name, member.begin, member.content, member.size) for member in found] == [
        (member.name, member.offset, member.offset_data, member.size) for member in listed
    ]
    kinds = ["file" if member.isreg() else "link" if member.issym() else "other" for member in listed]
    assert [member.kind for member in found] == kinds
    assert [member.stop for member in found] == [*(member.offset for member in listed[1:]), end][: len(found)]


@pytest.mark.parametrize("plain", [True, False])
def test_headers_of_webdataset_are_plain(tmp_path, monkeypatch, plain):
    times = [1.5 + number for number in range(5)]
    fields = {"type": tarfile.REGTYPE, "uid": 0, "uname": "bigdata", "content": b"x" * 700}
    more = {"pax_headers": {} if plain else {"comment": "x"}}
    content = written([{"name": f"{time}.json", "mtime": time, **fields, **more} for time in times], 2, shared=False)
    (tmp_path / "pool.tar").write_bytes(content)
    asked = []
    by_tarfile = tar_headers._member_by_tarfile
    monkeypatch.setattr(tar_headers, "_member_by_tarfile", lambda *given: asked.append(given) or by_tarfile(*given))
    with (tmp_path / "pool.tar").open("rb") as stream:
        assert len(list(members_of(stream, len(content)))) == 6
    assert len(asked) == (1 if plain else 6)  # the end is none


def test_sums_are_checked_to_the_last_header(tmp_path):
    fields = {"type": tarfile.REGTYPE, "uid": 0, "uname": "", "content": b"x", "mtime": 0, "pax_headers": {}}
    content = bytearray(written([{"name": f"{number}.json", **fields} for number in range(3)], 0, shared=False))
    content[2560] += 1
    (tmp_path / "pool.tar").write_bytes(content)
    with (tmp_path / "pool.tar").open("rb") as stream, pytest.raises(tarfile.ReadError, match="at byte 2560"):
        list(members_of(stream, len(content)))
