"""Members of a tar make the samples that webdataset makes; what it would split or drop without a word is a fault."""

import io
import tarfile

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.tar_index import begins_as_tar, index_tar
from scalselect.errors import DatasetError
from tars import read_back, samples, write_members, write_tar


def index_of(path):
    with path.open("rb") as stream:
        return index_tar(stream, path.stat().st_size, path)


def names_of(index):
    return [[index.name(member) for member in index.members_of(sample)] for sample in range(len(index))]


NAMES = ["a.json", "a.png", "a.0.png", "a.1.PNG", "b.json", "b.x.jpg", "d/a.json", "./a.json", "d/", "e.d/a.json"]
ODD = ["README", "__meta__", "__meta__/a.json", ".hidden.json", "d/.a.json", "a.", "x/__y__.json", "日本.json", "a.b/c"]


@given(st.lists(st.sampled_from(NAMES + ODD), max_size=8))
def test_samples_are_those_of_webdataset(tmp_path_factory, names):
    path = write_members(tmp_path_factory.mktemp("tar") / "pool.tar", [(name, name.encode()) for name in names])
    index = index_of(path)
    found = names_of(index)
    content = path.read_bytes()
    for sample in range(len(index)):
        for member in index.members_of(sample):
            start = index.contents[member]
            assert content[start : start + index.sizes[member]].decode() == index.name(member)
    if any("has two members" in fault for fault in index.faults.values()):
        with pytest.raises(ValueError, match="duplicate file name"):
            read_back(path)
        return
    theirs = read_back(path)
    assert [sorted(value.decode() for key, value in sample.items() if key != "__key__") for sample in theirs] == [
        sorted(sample) for sample in found
    ]
    keys = [sample["__key__"] for sample in theirs]
    assert sorted(index.faults) == [row for row, key in enumerate(keys) if keys.count(key) > 1]


def test_key_that_comes_again_spoils_every_stretch_of_it(tmp_path):
    names = ["a.json", "b.json", "b.png", "a.png", "c.json"]
    index = index_of(write_members(tmp_path / "pool.tar", [(name, b"") for name in names]))
    assert names_of(index) == [["a.json"], ["b.json", "b.png"], ["a.png"], ["c.json"]]
    assert list(index.faults) == [0, 2]
    assert "members of sample `a` lie apart, or two samples have its key" in index.faults[0]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_link_spoils_its_sample_and_other_kinds_are_passed_over(tmp_path, kind):
    link, pipe, folder = (tarfile.TarInfo(name) for name in ("b.png", "c.fifo", "d.x"))
    link.type, link.linkname = kind, "a.png"
    pipe.type, folder.type = tarfile.FIFOTYPE, tarfile.DIRTYPE
    members = [("a.json", b""), ("a.png", b"1"), (pipe, b""), ("b.json", b""), (folder, b""), (link, b"")]
    index = index_of(write_members(tmp_path / "pool.tar", members))
    assert names_of(index) == [["a.json", "a.png"], ["b.json", "b.png"]]
    assert index.faults == {1: "member `b.png` is a link, which no reader of WebDataset follows"}


def test_sparse_member_spoils_its_sample(tmp_path):
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": "9000",
        "GNU.sparse.map": "0,3",
    }
    index = index_of(write_members(tmp_path / "pool.tar", [("a.json", b"{}"), (member, b"abc"), ("b.json", b"{}")]))
    assert names_of(index) == [["a.json", "a.png"], ["b.json"]]
    assert index.faults == {0: "member `a.png` is a sparse file"}


@pytest.mark.parametrize("cut", [700, 1024 + 100, 2048 + 200, 2048 + 512 + 10])
def test_tar_that_is_cut_short_is_refused(tmp_path, cut):
    path = write_members(tmp_path / "pool.tar", [(f"{n}.json", b"x" * 600) for n in range(3)], tarfile.USTAR_FORMAT)
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    with pytest.raises(DatasetError, match=rf"data file is damaged: {path}"):
        index_of(path)


def test_tar_without_an_end_is_read_as_readers_do(tmp_path):
    path = write_tar(tmp_path / "pool.tar", samples(2))
    end = int(index_of(path).stops[-1])
    path.write_bytes(path.read_bytes()[:end])
    assert len(index_of(path)) == 2 == len(read_back(path))


@pytest.mark.parametrize(
    ("place", "words"), [(0, "bad checksum of the header at byte {}"), (150, "at byte {} no header")]
)
def test_damaged_header_is_no_end(tmp_path, place, words):
    path = write_tar(tmp_path / "pool.tar", samples(3))
    content = bytearray(path.read_bytes())
    begin = int(index_of(path).begins[3])
    content[begin + place] ^= 0xFF  # of its name, of its checksum
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=words.format(begin)):
        index_of(path)


def test_two_tars_put_together_are_refused(tmp_path):
    path = write_tar(tmp_path / "pool.tar", samples(2))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DatasetError, match=rf"at byte {size} something follows the end .*two tars put together"):
        index_of(path)
    path.write_bytes(path.read_bytes()[:size] + bytes(3 << 20))
    assert len(index_of(path)) == 2


def test_member_of_negative_size_is_no_endless_loop(tmp_path):
    path = write_members(tmp_path / "pool.tar", [("a.json", b"{}")], tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    content[124:136] = (-512 + 256**12).to_bytes(12)
    content[148:156] = f"{sum(content[:148]) + 8 * 32 + sum(content[156:512]):06o}\0 ".encode()
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        index_of(path)


def test_tars_are_recognised_by_looking(tmp_path):
    path = tmp_path / "x"
    assert all(begins_as_tar(write_members(path, [("a", b"")], kind)) for kind in (0, 1, 2))
    assert begins_as_tar(write_members(path, []))
    for content in (b"", b'[{"a":1}]' * 100, b"\0" * 100, b"PAR1" * 200):
        path.write_bytes(content)
        assert not begins_as_tar(path)
    assert not begins_as_tar(tmp_path)


def test_names_that_are_no_utf8_are_kept(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo("\udcff.json"))
    (tmp_path / "pool.tar").write_bytes(stream.getvalue())
    assert names_of(index_of(tmp_path / "pool.tar")) == [["\udcff.json"]]


def test_shards_of_shard_writer(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "s-%03d.tar"), maxcount=4, verbose=0, encoder=False) as writer:
        for sample in samples(10):
            writer.write(sample)
    assert [len(index_of(path)) for path in sorted(tmp_path.iterdir())] == [4, 4, 2]
