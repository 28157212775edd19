"""Choose subsets, let each consumer read and train them in its own environment, and compare: `make integrations`.

``python -m integrations.run [--only NAME] [--folder .integrations]`` exits with status 1 where a consumer made
something else of a subset than its file says, or where a file with a known fault passed for a good one. It keeps the
environments, and writes `report.md` and everything printed to the folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integrations.comparing import Outcome, differences
from integrations.consumers.reporting import MARK
from integrations.environments import prepare, quiet_variables
from integrations.guide import Guide
from integrations.material import POOLS, build_material, choose, scalselect
from integrations.report import report
from integrations.roster import GIVEN, Chosen, consumers
from integrations.subsets import Subset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integrations.roster import Consumer

SCRIPTS = Path(__file__).parent / "consumers"


def main() -> int:
    """Run all, print a table, and return 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(description="Let the trainers themselves read what scalselect wrote.")
    parser.add_argument("--folder", type=Path, default=Path(".integrations"), help="where environments and output go")
    parser.add_argument("--only", default="", help="only the consumers whose name holds this")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    shutil.rmtree(folder / "work", ignore_errors=True)
    times: list[str] = []
    with timed("choosing and exporting", times):
        chosen, model = choose_all(folder / "work")
    outcomes = []
    for consumer in consumers(chosen, model, folder / "work"):
        if arguments.only.lower() in consumer.title.lower():
            outcomes += consume(consumer, folder, times)
    if not outcomes:
        parser.error(f"no consumer's name holds {arguments.only!r}")
    text = report(outcomes, times)
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(outcome.as_it_must_be for outcome in outcomes) else 1


def choose_all(work: Path) -> tuple[dict[str, Chosen], Path]:
    """Choose a subset of each pool, export as its page says, and return what was chosen and the checkpoint."""
    material = build_material(work / "material")
    model = material / "checkpoint"
    chosen = {}
    for name, pool in POOLS.items():
        run_dir = work / f"run-{name}"
        subset = Subset.read(choose(material / pool, model, run_dir), material)
        chosen[name] = Chosen(subset, Guide.read(run_dir))
        for trainer in (trainer for trainer, pools in GIVEN.items() if name in pools):
            for _, *words in chosen[name].guide.exports(trainer):
                scalselect(*words)
    return chosen, model


def consume(consumer: Consumer, folder: Path, times: list[str]) -> list[Outcome]:
    """Give a consumer its files, in its environment, and compare what it printed."""
    with timed(f"installing the environment {consumer.environment}", times):
        python = prepare(consumer.environment, folder)
    jobs = folder / "work" / f"{consumer.title.lower().replace(' ', '-')}.json"
    entries = [{"name": str(number), **case.entry} for number, case in enumerate(consumer.cases)]
    jobs.write_text(json.dumps(entries), encoding="utf-8")
    command = [python, SCRIPTS / consumer.script, jobs]
    environment = quiet_variables(folder / "work" / "caches")
    printed = jobs.with_suffix(".log")
    with printed.open("wb") as log, timed(f"{consumer.title}, {len(entries)} files", times):
        ended = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder / "work", check=False
        )
    results = printed_results(printed)
    outcomes = []
    for number, case in enumerate(consumer.cases):
        result = results.get(str(number))
        if result is None:
            found = [f"it ended with exit status {ended.returncode} and said nothing; see {printed}"]
        else:
            found = differences(case.rows, result, image_tokens=case.image_tokens, trained=case.trained)
        outcomes.append(Outcome(consumer.title, case.name, case.fault, case.sign, len(case.rows), result, found))
    return outcomes


@contextmanager
def timed(what: str, times: list[str]) -> Iterator[None]:
    """Note how long something took, and how much of the processors its processes used; nothing if under a second."""
    began, used = time.monotonic(), _processor_seconds()
    yield
    seconds = time.monotonic() - began
    if seconds >= 1:
        times.append(f"{what}: {seconds:.0f} s, {_processor_seconds() - used:.0f} s of one core")
        print(times[-1], file=sys.stderr, flush=True)


def _processor_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + time.process_time()


def printed_results(log: Path) -> dict[str, dict[str, Any]]:
    """Return the results in what a consumer printed, by the name of the file's entry."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    results = [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
    return {result["name"]: result for result in results}


if __name__ == "__main__":
    sys.exit(main())
