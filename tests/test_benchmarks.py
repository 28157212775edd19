"""Every benchmark runs to its end on a tiny shape and prints its table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
QUANTITIES = (
    "seconds a sample",
    "CPU seconds a sample",
    "MiB of peak memory, pass",
    "seconds to load",
    "MiB of peak memory, loading",
    "MiB of weights read",
    "MiB of weights materialised",
)


@pytest.mark.slow
def test_first_layer_prints_a_table_for_each_shape():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "first_layer.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("command   python benchmarks/first_layer.py --quick\n")
    llava, qwen = done.stdout.split("\n=== ")[1:]
    assert llava.startswith("LLaVA-like (llava)")
    assert qwen.startswith("Qwen3-VL-like (qwen3_vl)")
    assert "DeepStack after layers [0, 1]" in qwen
    # Only where the whole model's (a) / (b) has a goal of its own.
    assert (llava.count("(goal: at least"), qwen.count("(goal: at least")) == (3, 2)
    for table in (llava, qwen):
        for quantity in QUANTITIES:
            cells = r"(\s+\d+\.\d+ \(\d+\.\d+\.\.\d+\.\d+\)){5}$"
            assert re.search(f"^{quantity}{cells}", table, re.MULTILINE), table
        assert re.search(r"^kept sets of \(a\) and \(b\): \d equal, \d flipped, 0 different$", table, re.MULTILINE)

        flops = {letter: float(count) for letter, count in re.findall(r"\(([abc])\) (\d+\.\d+)", table)}
        assert flops["a"] > flops["b"] >= flops["c"] > 0

        counts = {name: int(count.replace(",", "")) for name, count in re.findall(r"bytes of (.+?)\s+([\d,]+)", table)}
        unneeded = [int(count.replace(",", "")) for count in re.findall(r"not needed: \S+ ([\d,]+)", table)]
        assert counts["parameters materialised"] - sum(unneeded) == counts["parameters needed"]
        assert counts["tensors read from it"] == counts["parameters materialised"]
        assert counts["parameters needed"] < counts["tensors of the whole checkpoint"]


def test_limit_of_the_first_layer_benchmark_is_the_layer_itself(loaded):
    from passes import counted_flops, limit_pass
    from shapes import QUICK_SHAPES

    for family, shape in QUICK_SHAPES.items():
        checkpoint = loaded(family)
        sample = shape.prepared_sample(checkpoint.preparer, 0)
        hidden = checkpoint.first_layer(sample.inputs, [sample.instruction]).hidden
        assert torch.equal(limit_pass(checkpoint.first_layer.model, sample), hidden)
    query = torch.zeros(1, 2, 5, 4)  # [batch, heads, sequence, head]
    sdpa = torch.nn.functional.scaled_dot_product_attention
    assert counted_flops(lambda: sdpa(query, query, query)) == 2 * (2 * 2 * 5 * 5 * 4)
    assert counted_flops(lambda: torch.zeros(3, 4) @ torch.zeros(4, 6)) == 2 * 3 * 4 * 6


def test_time_estimate_is_what_the_page_shows():
    import time_estimate

    page = (ROOT / "docs" / "time-and-memory.md").read_text(encoding="utf-8")
    for lines in (time_estimate.gpu_table(), time_estimate.processor_table(), time_estimate.memory_table()):
        assert "\n".join(lines) in page
    (first, rows), (whole, _), _ = time_estimate.batches(700).values()
    assert f"has 1/{whole.flops / first.flops:.1f} of the operations of all layers" in page
    assert f"{whole.seconds(1.0) / first.seconds(1.0):.1f} times" in page
    batch = [1e3 * first.seconds(share) for share in time_estimate.SHARES]  # "about 90 to 180" milliseconds
    assert rows == 46
    assert [round(ms, -1) for ms in reversed(batch)] == [90, 180]


def test_time_estimate_counts_what_a_matrix_product_and_attention_need():
    from time_estimate import recorded

    with torch.device("meta"):
        left, right = torch.empty(8, 16, dtype=torch.bfloat16), torch.empty(16, 4, dtype=torch.bfloat16)
        query = torch.empty(1, 2, 5, 4, dtype=torch.bfloat16)  # [batch, heads, sequence, head]
        product = recorded(lambda: left @ right)
        attention = recorded(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
        view = recorded(lambda: left.transpose(0, 1))
    assert product.steps == [(2 * 8 * 16 * 4, 2 * (8 * 16 + 16 * 4 + 8 * 4))]
    assert attention.steps == [(2 * (2 * 2 * 5 * 5 * 4), 4 * query.nbytes)]
    assert view.steps == []


@pytest.mark.slow
def test_picture_time_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "picture_time.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^(?:LLaVA|Qwen3-VL), .+?(?:\s+\d+\.\d \(\S+\)){3}$", done.stdout, re.MULTILINE)) == 3


@pytest.mark.slow
def test_dtypes_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "dtypes.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("command      python benchmarks/dtypes.py --quick\n")
    flipped = re.search(r"^rows whose kept set differs +(\d+\.\d)% +(\d+\.\d)%$", done.stdout, re.MULTILINE)
    assert float(flipped[1]) > float(flipped[2])  # bfloat16 keeps fewer digits than float16
    assert len(re.findall(r"^chosen 16% in common", done.stdout, re.MULTILINE)) == 1


@pytest.mark.slow
def test_pool_throughput_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "pool_throughput.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    number = r"\d+\.\d+ \(\d+\.\d+\.\.\d+\.\d+\)"
    found = re.findall(rf"^  (\S.*?) +{number} +{number} +\d+\.\d% +(\d+)% +\S+$", done.stdout, re.MULTILINE)
    assert len(found) == 15
    # Every picture once instead of five times, in shards of a quarter only where work goes in the order of images.
    tower = [int(share) for _, share in found]
    assert tower[:5] == [100, 100, 20, 20, 20]
    assert tower[5:7] == [100, 100]
    assert 20 < tower[7] <= 100
    assert tower[8:10] == [20, 20]


@pytest.mark.slow
def test_strategies_prints_a_table_for_each_pool():
    from scalselect.selection.strategies import STRATEGIES

    done = subprocess.run(
        [sys.executable, BENCHMARKS / "strategies.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pools = dict(part.split("\n", 1) for part in done.stdout.split("\n=== ")[1:])
    assert list(pools) == ["unequal clusters", "copies", "easy-VQA", "digits"]
    cell = r"\d+\.\d+(?: \(\d+\.\d+\.\.\d+\.\d+\))?"
    for title, table in pools.items():
        rows = re.findall(rf"^(\S+) +({cell}) +(\d+\.\d+) \d/2 +{cell} +\d+\.\d+ \d/2 +\d.*$", table, re.MULTILINE)
        plain = [name for name, _, _ in rows]
        strategies = [name for name in STRATEGIES if title == "easy-VQA" or "instruction" not in STRATEGIES[name].needs]
        assert plain[: len(strategies)] == strategies
    assert "exact copies: 80; exact and near copies: 120;" in pools["copies"]  # as many as were put in
    repeated = [int(re.split(r" {2,}", line)[-2]) for line in pools["copies"].splitlines() if "top-leverage" in line]
    assert [share > 0 for share in repeated] == [True, False, False] * 2  # without, exact, near


def test_strategies_page_shows_the_definitions_and_the_last_results():
    from scalselect.selection.strategies import STRATEGIES

    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    results = max((BENCHMARKS / "results").glob("strategies-*.txt")).read_text(encoding="utf-8")
    for part in results.split("\n=== ")[1:]:
        title, table = part.split("\n", 1)
        assert f"### {title}\n\n```text\n{table.strip()}\n```\n" in page
    for strategy in STRATEGIES.values():
        assert f"| `{strategy.name}` | {strategy.definition} |" in page
        nests, limited = ("yes" if promised else "no" for promised in (strategy.nests, strategy.nests_limited))
        assert re.search(rf"^\| `{strategy.name}` \| [^|]+ \| {nests} \| {limited} \| ", page, re.MULTILINE)


@pytest.mark.slow
def test_scoring_prints_its_tables():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "scoring.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("command   python benchmarks/scoring.py --quick\n")
    sections = re.split(r"^=== \(([a-d])\) ", done.stdout, flags=re.MULTILINE)
    tables = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(tables) == ["a", "d", "b", "c"]
    for letter in "adb":
        for quantity in ("seconds", "CPU seconds", "MiB of peak memory"):
            assert re.search(rf"^{quantity}(\s+\d+\.\d+ \(\d+\.\d+\.\.\d+\.\d+\)){{2}}$", tables[letter], re.MULTILINE)
    assert [table.count("(goal: ") for table in tables.values()] == [2, 0, 1, 3]
    ours = float(re.search(r"^  ours (\S+) \(allowed: 1e-10\)", tables["a"], re.MULTILINE)[1])
    single = float(re.search(r"^largest difference .*: (\S+)$", tables["d"], re.MULTILINE)[1])
    degenerate = re.search(r"^the same where .*: (\S+), ours (\S+)$", tables["d"], re.MULTILINE)
    assert ours < 1e-12 < single < 1e-3
    assert float(degenerate[2]) < 1e-10
    assert float(degenerate[1]) > 1e-6


def test_ways_of_the_scoring_benchmark_agree(tmp_path):

    from scoring_passes import WAYS, Clock, write_pool

    write_pool(tmp_path, 2000, 48)
    found = {name: way(tmp_path, 2000, Clock(), keep=True) for name, way in WAYS.items() if name != "limit"}
    k, scores = found["exact"]
    assert {rank for rank, _ in found.values()} == {k}
    assert scores.sum() == pytest.approx(k)
    for name, tolerance in {"ours": 1e-11, "ours from disk": 1e-11, "usual": 1e-4, "float32": 1e-4}.items():
        np.testing.assert_allclose(found[name][1], scores, rtol=0, atol=tolerance * scores.max())


@pytest.mark.slow
def test_score_digits_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "score_digits.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(" " * 6)][1:]
    errors = np.array([[float(cell) for cell in row] for row in rows[-4:]])  # [gaps, gap and five errors]
    assert (errors[:, 1:4] * errors[:, :1] < 1e-12).all()  # of the algorithm: about 1e-13 over the gap
    assert (errors[:, 4] > 1e3 * errors[:, 1]).all()  # what float32 costs is far more
    assert (errors[:, 5] > errors[:, 4]).all()


@pytest.mark.slow
def test_reading_prints_a_table_for_each_container():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "reading.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("command   python benchmarks/reading.py --quick\n")
    tables = done.stdout.split("\n=== ")[1:]
    assert [table.split(",")[0].split(":")[0] for table in tables] == [
        "JSON array",
        "JSON Lines",
        "Parquet",
        "WebDataset tar",
    ]
    for table in tables:
        for quantity in ("open, seconds", "write 16%, seconds", "peak above the file's size, MB"):
            assert re.search(rf"^{quantity}(\s+\d+\.\d+ \(\d+\.\d+\.\.\d+\.\d+\)){{2}}$", table, re.MULTILINE)
    assert [table.count("(goal: ") for table in tables] == [4, 4, 3, 3]


@pytest.mark.slow
def test_checking_prints_its_tables():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "checking.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("command   python benchmarks/checking.py --quick\n")
    rows = re.findall(r"^(.+?)  +\d+\.\d\d \(\d+\.\d\d\.\.\d+\.\d\d\) +[\d,]+ +\d+\.\d\d$", done.stdout, re.MULTILINE)
    assert len(rows) == 7


@pytest.mark.slow
def test_determinism_prints_its_table():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "determinism.py", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\S.*?) +(\d+\.\d)% +(\d+\.\d)% +(\S+) +(\S+) +(\S+) +(\d+\.\d)%$", done.stdout, re.MULTILINE)
    assert len(rows) >= 11
    assert [row[1] for row in rows[:2]] == ["0.0", "0.0"]  # what is promised
    bfloat16 = next(row for row in rows if row[0] == "dtype bfloat16")
    assert bfloat16[1] == "100.0"


def test_stragglers_prints_a_table_for_each_division():
    command = [sys.executable, BENCHMARKS / "stragglers.py", "--quick"]
    done, again = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert done.returncode == 0, done.stderr
    assert done.stdout == again.stdout  # drawn from seeds
    supervision, torchrun = done.stdout.split("divided as torchrun does")
    lost = re.findall(r"^\S.* (yes|no) .* +(\d+) +0$", supervision, re.MULTILINE)  # none with an error
    assert len(lost) == 12
    assert {count for over, count in lost if over == "yes"} == {"0"}
    assert len(re.findall(r"^\S.* (?:yes|no) +\d+\.\d+ ", torchrun, re.MULTILINE)) == 8
    assert done.stdout.endswith("every shard has exactly one outcome wherever the job ended: yes\n")


def test_scaling_tells_the_steady_rate_apart_from_the_start():
    from scaling import Represented, rate, steady

    # Two workers that begin at 100 and 101 and need 10 seconds a shard: a shard every 5 seconds while both work.
    published = [110.0, 111.0, 120.0, 121.0, 130.0, 131.0]
    seconds, shards = steady(published, 2)
    assert (seconds, shards) == (19.0, 3)
    assert rate(Represented(31.0, seconds, shards)) == 3 / 19
    assert steady([10.0, 20.0, 30.0], 1) == (20.0, 2)
    with pytest.raises(ValueError, match="too few shards for a rate: 2 for 2 workers"):
        steady([1.0, 2.0], 2)


def test_scaling_measures_one_and_two_workers_in_turn(monkeypatch, capsys):
    import scaling

    calls = []

    def represent(_pool, *, output, workers, shard_size, **_options):
        calls.append(workers)
        folder = output / "representations"
        folder.mkdir(parents=True)
        for shard in range(100 // shard_size):
            report = folder / f"shard-{shard:07d}.json"
            report.touch()
            second = 10.0 + shard // workers  # each worker finishes one a second
            os.utime(report, (second, second))

    monkeypatch.setattr(scaling.scalselect, "represent", represent)
    monkeypatch.setattr(scaling.subprocess, "run", lambda *_, **__: None)
    scaling.efficiency(["local", "torchrun"], 3, rows=100)
    assert calls == [1, 2] * 3
    printed = capsys.readouterr().out
    assert re.search(r"^local +1 workers: .*steady shards a second 1\.00 ", printed, re.MULTILINE)
    assert re.search(r"^local +efficiency, .*: (0\.9[6-9]\d|1\.0[0-4]\d) ", printed, re.MULTILINE)
    assert "torchrun" not in printed


@pytest.mark.slow
def test_scaling_prints_what_a_shard_costs():
    command = [sys.executable, BENCHMARKS / "scaling.py", "--quick", "--engines", "local,torchrun", "--only"]
    for part, lines in (
        ("overhead", r"^(?:local|torchrun)(?: +\d+\.\d+ \(\S+\)){2}$"),
        ("growth", r"^local +ms a shard(?: +\d+\.\d+){10}$"),
    ):
        done = subprocess.run([*command, part], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(lines, done.stdout, re.MULTILINE)) == (2 if part == "overhead" else 1)
