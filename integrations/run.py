"""Choose subsets, let each consumer read and train them in its own environment, and compare: `make integrations`.

``python -m integrations.run [--only NAME] [--folder .integrations]`` exits with status 1 where a consumer made
something else of a subset than its file says, or where a file with a known fault passed for a good one. It keeps the
environments, and writes `report.md` and everything printed to the folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integrations.comparing import Outcome, differences
from integrations.consumers.reporting import MARK
from integrations.environments import prepare, quiet_variables
from integrations.guide import Guide
from integrations.material import POOLS, build_material, choose
from integrations.report import report
from integrations.roster import Chosen, consumers
from integrations.subsets import Subset
from integrations.trl_files import exported_file, write_trl

if TYPE_CHECKING:
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
    work = folder / "work"
    files = work / "files"
    files.mkdir(parents=True)
    began = time.monotonic()
    material = build_material(work / "material")
    model = material / "checkpoint"
    chosen = {}
    for name, pool in POOLS.items():
        run_dir = work / f"run-{name}"
        subset = Subset.read(choose(material / pool, model, run_dir), material)
        chosen[name] = Chosen(subset, Guide.read(run_dir))
        target = exported_file(chosen[name].guide.trl())
        target.parent.mkdir(exist_ok=True)
        write_trl(subset, target)
    _say(f"{len(chosen)} subsets were chosen in {time.monotonic() - began:.0f} s")
    outcomes = []
    for consumer in consumers(chosen, model, files):
        if arguments.only.lower() in consumer.title.lower():
            outcomes += consume(consumer, folder)
    if not outcomes:
        parser.error(f"no consumer's name holds {arguments.only!r}")
    text = report(outcomes)
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(outcome.as_it_must_be for outcome in outcomes) else 1


def consume(consumer: Consumer, folder: Path) -> list[Outcome]:
    """Give a consumer its files, in its environment, and compare what it printed."""
    python, installing = prepare(consumer.environment, folder)
    if installing:
        _say(f"environment {consumer.environment} installed in {installing:.0f} s")
    name = consumer.title.lower().replace(" ", "-")
    jobs = folder / "work" / f"{name}.json"
    entries = [{"name": str(number), **case.entry} for number, case in enumerate(consumer.cases)]
    jobs.write_text(json.dumps(entries), encoding="utf-8")
    printed = jobs.with_suffix(".log")
    began = time.monotonic()
    with printed.open("wb") as log:
        command = [python, SCRIPTS / consumer.script, jobs]
        environment = quiet_variables(folder / "work" / "caches")
        ended = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder / "work", check=False
        )
    seconds = time.monotonic() - began
    _say(f"{consumer.title}: {len(consumer.cases)} files in {seconds:.0f} s")
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


def printed_results(log: Path) -> dict[str, dict[str, Any]]:
    """Return the results in what a consumer printed, by the name of the file's entry."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    results = [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
    return {result["name"]: result for result in results}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
