"""Every file of chosen records is told of under its data set, and no listing of rows among them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scalselect.dataset.data_sets import open_pools
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.selected_writer import write_selected
from scalselect.training_sets import account_of_subset

TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]


def names_of(pools, folder, run_dir):
    rows = np.arange(sum(map(len, pools)))
    pool = pools[0] if len(pools) == 1 else JoinedPool(pools)
    account = account_of_subset(pool, rows, write_selected(pool, rows, folder), run_dir)
    return {entry["source"]: entry["names"] for entry in account}


@pytest.mark.parametrize("budget", ["", "selections/20%/"])
def test_files_of_data_sets(tmp_path, budget):
    for name in ("a/x/0", "a/y/0", "b/rows", "b/z", "c/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"id": name, "conversations": TURNS}]), tmp_path / f"{name}.parquet")
    asked = [f"a={tmp_path}/a/*/0.parquet", f"b={tmp_path}/b", f"x={tmp_path}/c"]
    run_dir = tmp_path / "run"
    assert names_of(open_pools(asked)[0], run_dir / budget, run_dir) == {
        "a": [f"{budget}selected/a/x/0.parquet", f"{budget}selected/a/y/0.parquet"],
        "b": [f"{budget}selected/b/rows.parquet", f"{budget}selected/b/z.parquet"],
        "x": [f"{budget}selected/x.parquet"],
    }
    run_dir = tmp_path / "alone"
    assert names_of(open_pools(asked[1])[0], run_dir / budget, run_dir) == {
        "b": [f"{budget}selected/rows.parquet", f"{budget}selected/z.parquet"],
    }
