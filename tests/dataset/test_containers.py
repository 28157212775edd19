"""What lies at a path is recognised, and what cannot be read is told with what could be."""

import json

import pytest

from scalselect.dataset.containers import open_records

RECORDS = [{"id": "a", "conversations": [{"from": "human", "value": "Hi"}]}]


@pytest.mark.parametrize("before", ["file://", "file:", "FILE://localhost"])
def test_a_file_url_is_the_path(tmp_path, before):
    path = tmp_path / "pool.json"
    path.write_text(json.dumps(RECORDS))
    records, location = open_records(f"{before}{path}")
    assert (len(records), location) == (1, str(path))
