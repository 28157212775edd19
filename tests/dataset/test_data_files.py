"""Ranges of a file are read one by one or many at once, and a change is noticed either way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset import data_files
from scalselect.dataset.data_files import DataFile, fingerprint_of
from scalselect.errors import DataChangedError, DatasetError

CONTENT = bytes(range(256)) * 8


@given(st.lists(st.integers(0, len(CONTENT)), max_size=24).map(sorted), st.integers(1, 5), st.integers(0, 3000))
def test_ranges_are_those_asked_for(tmp_path_factory, places, at_once, window):
    path = tmp_path_factory.mktemp("file") / "pool"
    path.write_bytes(CONTENT)
    starts, stops = places[: len(places) // 2 * 2 : 2], places[1::2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_files, "_RANGES_AT_ONCE", at_once)
        patch.setattr(data_files, "_WINDOW", window)
        found = list(DataFile(path).read_ranges(starts, stops))
    assert found == [CONTENT[start:stop] for start, stop in zip(starts, stops, strict=True)]


@pytest.mark.parametrize("window", [0, 1 << 20])
def test_change_between_ranges_is_noticed(tmp_path, monkeypatch, window):
    monkeypatch.setattr(data_files, "_WINDOW", window)
    monkeypatch.setattr(data_files, "_RANGES_AT_ONCE", 1)
    path = tmp_path / "pool"
    path.write_bytes(CONTENT)
    ranges = DataFile(path).read_ranges([0, 100], [10, 110])
    assert next(ranges) == CONTENT[:10]
    with path.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataChangedError, match="written to"):
        next(ranges)


def test_hash_of_a_file_that_is_no_longer_there_is_no_hash(tmp_path):
    path = tmp_path / "pool"
    path.write_bytes(CONTENT)
    file = DataFile(path)
    path.write_bytes(CONTENT[1:])
    with pytest.raises(DataChangedError, match="has changed"):
        file.sha256()
    with pytest.raises(DataChangedError, match="has changed"):
        fingerprint_of([file], 1)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="is empty"):
        DataFile(path)
