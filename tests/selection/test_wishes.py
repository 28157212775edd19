import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scalselect.selection.wishes import rows_with_ids

IDS = st.sampled_from(["a", "b", "7", "007", " a", ""])


@given(st.lists(st.none() | IDS, max_size=20), st.lists(IDS, max_size=8))
def test_every_wish_is_found_or_told(ids, wanted):
    found = rows_with_ids(ids, wanted)
    assert found.rows.tolist() == [row for row, name in enumerate(ids) if name in wanted]
    assert found.rows.dtype == np.int64
    assert set(found.absent) == set(wanted) - set(ids)
    assert len(found.absent) == len(set(found.absent))
    assert found.repeated == {name: ids.count(name) for name in wanted if ids.count(name) > 1}


def test_ids_are_text():
    found = rows_with_ids(["7", "007", None, "7"], ["007", "null", "7.0"])
    assert (found.rows.tolist(), found.absent, found.repeated) == ([1], ("null", "7.0"), {})
