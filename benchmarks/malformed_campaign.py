"""A seeded campaign of malformed data sets, each run through the command line: nothing breaks, nothing goes uncounted.

    python benchmarks/malformed_campaign.py [--cases N] [--seed S] [--jobs N] [--only KIND] [--keep FOLDER]

A case is a malformed record, picture or file. Those of a kind lie in data sets of one to ten, with good records beside
them, and each data set is checked and run (with a tiny checkpoint) in a forked process with limits of memory and time.
It must end as rows that are scored or have a reason, all of them counted, or be refused with a message.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import malformed_files as files
from malformed_case import LIMIT_MEBIBYTES, LIMIT_SECONDS, Outcome, run_case
from malformed_pictures import PICTURES
from malformed_records import FORMATS, HUGE, good_record, huge
from scalselect.cli import main as main_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Build = Callable[[Path, random.Random, Sequence[Path]], tuple[Path, int | None]]

ROOT = Path(__file__).parents[1]
_PICTURES_A_POOL = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One data set to be made.

    Attributes
    ----------
    inputs
        Malformed records, pictures or files in it.
    build
        Writes it into a folder, and returns the data and how many rows they have, if that is known.
    """

    number: int
    kind: str
    inputs: int
    build: Build


def _records(record_format: str) -> Build:
    return lambda folder, generator, pictures: files.malformed_records(folder, record_format, generator, pictures)


def _array(folder: Path, generator: random.Random, pictures: Sequence[Path]) -> tuple[Path, int | None]:
    return files.malformed_array(folder, generator.choice(FORMATS), generator, pictures), None


def _damaged(container: str) -> Build:
    def build(folder: Path, generator: random.Random, pictures: Sequence[Path]) -> tuple[Path, int | None]:
        path = files.whole_file(folder, container, generator, pictures)
        files.damage(path, generator)
        return (folder / "pool" if container == "saved" else path), None

    return build


def _pictures(what: str) -> Build:
    def build(folder: Path, generator: random.Random, pictures: Sequence[Path]) -> tuple[Path, int | None]:
        records = [good_record("llava", number, pictures) for number in (0, 1)]
        for number in range(2, _PICTURES_A_POOL + 2):
            ending = generator.choice(("jpg", "png", "tiff", "gif", "svg", "")) if what != "truncated" else "png"
            name = f"{number}.{ending}"
            (folder / name).write_bytes(PICTURES[what](generator))
            records.append(good_record("llava", number, [name]))
        (folder / "pool.json").write_text(json.dumps(records))
        return folder / "pool.json", len(records)

    return build


def _huge(what: str) -> Build:
    def build(folder: Path, _generator: random.Random, pictures: Sequence[Path]) -> tuple[Path, int | None]:
        records = [huge(what, pictures), good_record("llava", 1, pictures), good_record("llava", 2, pictures)]
        with (folder / "pool.json").open("w") as stream:
            json.dump(records, stream)
        return folder / "pool.json", len(records)

    return build


def kinds() -> dict[str, tuple[int, Build]]:
    """Return how many malformed inputs are in a data set of each kind, and what makes it; enormous ones left out."""
    found: dict[str, tuple[int, Build]] = {
        f"records: {name}": (files.RECORDS_A_POOL, _records(name)) for name in FORMATS
    }
    found |= {"records: JSON array": (1, _array), "records: tables": (1, files.odd_table)}
    found |= {f"damaged: {name}": (1, _damaged(name)) for name in files.CONTAINERS}
    return found | {f"pictures: {what}": (_PICTURES_A_POOL, _pictures(what)) for what in PICTURES}


def cases(inputs: int, *, only: str = "") -> list[Case]:
    """Return data sets of about so many malformed inputs, the kinds in turn, damaged files thrice as often.

    The enormous ones come once each, in a campaign of 1,000 or more.
    """
    turn = [(kind, *made) for kind, made in kinds().items() for _ in range(3 if kind.startswith("damaged") else 1)]
    turn = [made for made in turn if made[0].startswith(only)]
    enormous = [(f"huge: {what}", 1, _huge(what)) for what in HUGE if inputs >= 1000 or only.startswith("huge")]
    found = [made for made in enormous if made[0].startswith(only)]
    while turn and sum(made[1] for made in found) < inputs:
        found += turn
    return [Case(number, *made) for number, made in enumerate(found)]


def run_cases(
    chosen: Sequence[Case], seed: int, model: Path, pictures: Sequence[Path], *, jobs: int = 1, keep: Path | None = None
) -> list[tuple[Case, Outcome]]:
    """Run cases, each in a process of its own; data sets that failed are kept in the folder `keep`."""

    def one(number: int) -> Outcome:
        case = chosen[number]
        folder = Path(tempfile.mkdtemp(prefix=f"malformed-{case.number}-"))
        try:
            data, rows = case.build(folder, random.Random(f"{seed} {case.number} {case.kind}"), pictures)
            outcome = run_case(data, rows, model, folder / "out")
            if outcome.failure and keep is not None:
                shutil.copytree(folder, keep / f"{case.number}", dirs_exist_ok=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if outcome.failure:
            print(f"FAILED case {case.number} ({case.kind}): {outcome.failure}", file=sys.stderr, flush=True)
        return outcome

    if jobs == 1:
        return [(case, one(number)) for number, case in enumerate(chosen)]
    _work.append(one)
    found = []
    with (
        get_context("fork").Pool(jobs) as pool,
        contextlib.suppress(KeyboardInterrupt),
    ):  # tells what was done until then
        for case, outcome in zip(chosen, pool.imap(_one, range(len(chosen))), strict=True):
            found.append((case, outcome))
            if len(found) % 20 == 0:
                print(f"{len(found)} of {len(chosen)} data sets", file=sys.stderr, flush=True)
    return found


_work: list[Callable[[int], Outcome]] = []  # what the processes of a campaign inherit


def _one(number: int) -> Outcome:
    return _work[-1](number)


def warm_up(folder: Path, model: Path, pictures: Sequence[Path]) -> None:
    """Run a good data set in this process, so that those forked from it need not import everything again."""
    data = files.written(
        folder, "jsonl", [json.dumps(good_record("llava", number, pictures)).encode() for number in range(4)]
    )
    options = ["--dataloader-workers", "0", "--threads", "1"]  # threads do not survive a fork
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main_command(["check", str(data), "--dataloader-workers", "0"])
        main_command(
            ["run", str(data), "--model", str(model), "--budget", "1", "--output", str(folder / "w"), *options]
        )


def table(results: Sequence[tuple[Case, Outcome]]) -> str:
    """Return what came of each kind, a line each."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    inputs: Counter[str] = Counter()
    for case, outcome in results:
        by_kind[case.kind].append(outcome)
        inputs[case.kind] += case.inputs
    names = ("cases", "sets", "scored", "skipped", "exit 1", "exit 2", "s", "MiB")
    lines = [f"{'kind':32} " + " ".join(f"{name:>7}" for name in names) + "  reasons"]
    for kind, outcomes in by_kind.items():
        reasons = sum((outcome.reasons for outcome in outcomes), Counter())
        told = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())
        codes = Counter(outcome.code for outcome in outcomes)
        numbers = [inputs[kind], len(outcomes), sum(outcome.scored for outcome in outcomes), sum(reasons.values())]
        numbers += [codes[1], codes[2]]
        worst = [max(outcome.seconds for outcome in outcomes), max(outcome.mebibytes for outcome in outcomes)]
        lines.append(f"{kind:32} {' '.join(f'{number:7.0f}' for number in [*numbers, *worst])}  {told}")
    return "\n".join(lines)


def main() -> int:
    """Run the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="malformed inputs")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--jobs", type=int, default=1, help="data sets at a time")
    parser.add_argument("--only", default="", help="beginning of the kinds that are run")
    parser.add_argument("--keep", type=Path, help="folder for the data sets of cases that fail")
    words = parser.parse_args()
    sys.path[1:1] = [str(ROOT / name) for name in ("tests", "examples")]
    import torch  # noqa: PLC0415

    from tiny_vlms import build_checkpoint, make_pictures  # noqa: PLC0415

    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = build_checkpoint("qwen2_5_vl", Path(folder) / "model")
        pictures = make_pictures(Path(folder) / "pictures", 10, 0)
        warm_up(Path(folder), model, pictures)
        chosen = cases(words.cases, only=words.only)
        results = run_cases(chosen, words.seed, model, pictures, jobs=words.jobs, keep=words.keep)
    failed = [outcome for _, outcome in results if outcome.failure]
    print(f"command   python benchmarks/malformed_campaign.py --cases {words.cases} --seed {words.seed}")
    print(f"limits    {LIMIT_SECONDS} s of CPU and {LIMIT_MEBIBYTES} MiB a data set, beyond the idle process")
    total = sum(case.inputs for case, _ in results)
    print("s (of the CPU) and MiB are the worst of a kind; text_only is a status, no reason")
    seconds = time.perf_counter() - began
    print(f"\n{table(results)}\n\n{total} cases in {len(results)} data sets, {len(failed)} failed, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
