"""Kill `scalselect` at random moments, repeat the command, and hold the files against those of an undisturbed run.

``python benchmarks/crash_campaign.py [--kills 100] [--seed N]`` kills by SIGKILL, spread over all phases and over every
way of writing (containers, several budgets, `extend`, `score`, `select`, an object store). Often the command that goes
on is killed again in the same folder. After the last kill the command runs to its end: then all arrays, scores.parquet,
the subset and selection.json must equal those of a run that nobody disturbed, byte for byte, and neither temporary
files nor claims nor processes may be left. Exit status 1 if anything differs.

Most commands are forked from a process that has imported everything, and tell the phase they are in; `started` ones are
Python processes of their own, killed at any moment of their whole life. The seed decides what is killed and when; where
exactly that falls depends on the machine. Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from crash_findings import STARTED, Findings, print_tables
from crash_scenarios import BUCKET, SCENARIOS, Scenario, serve_object_store, write_inputs
from forked_command import ForkedCommand, adopt_orphans, in_a_fork, seconds_until_gone
from small_pools import promised_files
from told_phases import PHASES, WRITE

SHARE_STARTED = 0.1  # of the kills, in Python processes of their own
SHARE_AGAIN = 0.45  # of the commands that go on, killed again
WRITES_A_ROUND = 4  # kills inside a write, for one in each other phase
SHARE_MAIN_ALONE = 0.5  # of the kills; the others kill the whole tree of processes


@dataclass
class Undisturbed:
    """What a command makes when nobody disturbs it, and how long each of its phases takes."""

    files: dict[str, bytes]
    lengths: dict[str, list[float]]
    seconds_started: float = 0.0


class Campaign:
    """Kills commands until enough were killed.

    Parameters
    ----------
    place
        An empty folder for everything.
    minutes
        After which no further folder is begun.
    """

    def __init__(self, place: Path, seed: int, kills: int, minutes: float) -> None:
        self.place = place
        self.log = place / "log"
        self.random = random.Random(seed)
        self.wanted = kills
        self._deadline = time.monotonic() + 60 * minutes
        self.findings = Findings()
        self._environment = {"TMPDIR": str(place / "tmp"), "HF_HUB_OFFLINE": "1"}
        self._undisturbed: dict[str, Undisturbed] = {}
        self._numbers = iter(range(10**9))
        self._phases: list[str] = []
        self._scenarios: list[Scenario] = []
        self._server: ForkedCommand | None = None

    def run(self) -> Findings:
        """Do all kills."""
        (self.place / "data").mkdir()
        (self.place / "tmp").mkdir()
        in_a_fork(lambda: write_inputs(self.place / "data"), self.log)
        try:
            self._serve()
            while sum(self.findings.kills.values()) < self.wanted and time.monotonic() < self._deadline:
                self._one_folder()
        finally:
            if self._server is not None:
                self._server.kill(whole_tree=True)
        return self.findings

    def _one_folder(self) -> None:
        """Kill a command in one folder, once or several times, then let it end and look at what is there."""
        phase = self._next_phase()
        scenario = self._next_scenario(phase)
        out = self._begin(scenario)
        story = []
        while phase is not None:
            whole_tree = self.random.random() >= SHARE_MAIN_ALONE
            died_in = self._killed(scenario, out, phase, whole_tree=whole_tree)
            if died_in is None:
                self.findings.too_late += 1
                story.append(f"{phase}: over before")
            else:
                story.append(f"{died_in} ({'whole tree' if whole_tree else 'main process alone'})")
                self.findings.kills[died_in, "whole tree" if whole_tree else "main process alone"] += 1
            left = self.wanted - sum(self.findings.kills.values())
            again = left > 0 and self.random.random() < SHARE_AGAIN
            phase = self.random.choice([*self._known(scenario).lengths, STARTED]) if again else None
        kills = sum("over before" not in part for part in story)
        self.findings.by_scenario[scenario.name] += kills
        self.findings.folders[scenario.name] += 1
        self.findings.kills_of_a_folder[kills] += 1
        command = self._fork(scenario, out)
        code = command.wait()
        self._look(scenario, out, code, command.pid, " -> ".join(story))
        done = sum(self.findings.kills.values())
        sys.stderr.write(f"{done:4} of {self.wanted}  {scenario.name}: {' -> '.join(story)}\n")
        if not scenario.remote:
            shutil.rmtree(out)

    def _killed(self, scenario: Scenario, out: str, phase: str, *, whole_tree: bool) -> str | None:
        """Kill a command and return the phase it died in; None where it had ended by itself."""
        if phase == STARTED:
            return self._killed_started(scenario, out, whole_tree=whole_tree)
        lengths = self._known(scenario).lengths.get(phase)
        if lengths is None:
            return None
        if phase == WRITE:
            occurrence, delay = self.random.randrange(len(lengths)), 0.0
        else:  # at any moment of the phase, however many parts it has
            occurrence = self.random.choices(range(len(lengths)), [max(length, 1e-6) for length in lengths])[0]
            delay = self.random.random() * lengths[occurrence]
        command = self._fork(scenario, out, halt_at=occurrence if phase == WRITE else None)
        if not command.wait_for(phase, occurrence, delay):
            command.wait()
            return None
        died = command.kill(whole_tree=whole_tree)
        self._bury(command.pid, scenario)
        return command.moments[-1].phase if died else None

    def _killed_started(self, scenario: Scenario, out: str, *, whole_tree: bool) -> str | None:
        known = self._known(scenario)
        words = [sys.executable, "-m", "scalselect", *self._words(scenario.words, scenario, out)]
        environment = {**os.environ, **self._environment}
        with self.log.open("ab") as log:
            if not known.seconds_started:
                aside, began = self._begin(scenario), time.monotonic()
                aside_words = [word.replace(out, aside) for word in words]
                subprocess.run(aside_words, stdout=log, stderr=log, env=environment, check=True)
                known.seconds_started = time.monotonic() - began
            process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
        time.sleep(self.random.random() * known.seconds_started)
        if whole_tree:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        died = process.wait() == -signal.SIGKILL
        self._bury(process.pid, scenario)
        return STARTED if died else None

    def _bury(self, session: int, scenario: Scenario) -> None:
        seconds = seconds_until_gone(session)
        if seconds is None:
            self.findings.faults.append(f"{scenario.name}: a process outlived the one that was killed by 10 seconds")
        else:
            self.findings.slowest_end = max(self.findings.slowest_end, seconds)

    def _look(self, scenario: Scenario, out: str, code: int, pid: int, story: str) -> None:
        """Hold what lies there against the undisturbed run."""
        faults = [] if code == 0 else [f"exit code {code}: {self.log.read_text(errors='replace')[-2000:]}"]
        if seconds_until_gone(pid, patience=5.0) is None:
            faults.append("a process is left over")
        found, expected = self._files(scenario, out), self._known(scenario).files
        hidden = [name for name in found if "/." in f"/{name}"]
        if hidden:
            faults.append(f"left over: {', '.join(hidden)}")
        differing = [name for name in found.keys() | expected.keys() - hidden if found.get(name) != expected.get(name)]
        differing = sorted(set(differing) - set(hidden))
        if differing:
            faults.append(f"other than in an undisturbed run: {', '.join(differing)}")
        temporary = sorted(path.name for path in (self.place / "tmp").iterdir())
        if temporary:
            faults.append(f"left over in TMPDIR: {', '.join(temporary)}")
            for name in temporary:
                shutil.rmtree(self.place / "tmp" / name, ignore_errors=True)
        self.findings.faults += [f"{scenario.name}, killed in {story}: {fault}" for fault in faults]

    def _known(self, scenario: Scenario) -> Undisturbed:
        if scenario.name not in self._undisturbed:
            out = self._begin(scenario)
            command = self._fork(scenario, out)
            began = time.monotonic()
            if command.wait() != 0:
                raise RuntimeError(self.log.read_text(errors="replace"))
            ends = [*(moment.seconds for moment in command.moments[1:]), time.monotonic() - began]
            lengths: dict[str, list[float]] = {}
            for moment, end in zip(command.moments, ends, strict=True):
                lengths.setdefault(moment.phase, []).append(end - moment.seconds)
            self._undisturbed[scenario.name] = Undisturbed(self._files(scenario, out), lengths)
        return self._undisturbed[scenario.name]

    def _begin(self, scenario: Scenario) -> str:
        """Return a folder for a run, made before where the scenario asks for it."""
        number = next(self._numbers)
        if scenario.remote:
            return f"s3://{BUCKET}/runs/{number}"
        out = self.place / f"run-{number}"
        if scenario.made_before:
            made = self.place / "made"
            if not made.exists():
                words = self._words(scenario.made_before, scenario, str(made))
                if ForkedCommand(words, self.log, self._environment).wait() != 0:
                    raise RuntimeError(self.log.read_text(errors="replace"))
            shutil.copytree(made, out)
        return str(out)

    def _fork(self, scenario: Scenario, out: str, halt_at: int | None = None) -> ForkedCommand:
        return ForkedCommand(self._words(scenario.words, scenario, out), self.log, self._environment, halt_at=halt_at)

    def _words(self, words: list[str], scenario: Scenario, out: str) -> list[str]:
        data = f"s3://{BUCKET}/data" if scenario.remote else str(self.place / "data")
        places = {"{data}": data, "{out}": out, "{model}": str(self.place / "data" / "model")}
        for name, place in places.items():
            words = [word.replace(name, place) for word in words]
        return words

    def _files(self, scenario: Scenario, out: str) -> dict[str, bytes]:
        """Return the promised files, and whatever is hidden: claims, half-written files."""
        if not scenario.remote:
            return promised_files(out) | dict.fromkeys(_hidden_below(Path(out)), b"")
        copy = self.place / "downloaded"
        in_a_fork(lambda: self._download(out, copy), self.log)
        files = promised_files(copy) | dict.fromkeys(_hidden_below(copy), b"")
        shutil.rmtree(copy)
        return files

    def _download(self, out: str, copy: Path) -> None:
        from object_store import download  # noqa: PLC0415  s3fs has threads of its own, which no fork survives

        os.environ.update(self._environment)
        download(out, copy)

    def _serve(self) -> None:
        from object_store import access_for  # noqa: PLC0415

        address = self.place / "address"
        self._server = ForkedCommand(lambda: serve_object_store(self.place / "data", address), self.place / "server")
        while not address.exists():
            if self._server.ended():
                raise RuntimeError((self.place / "server").read_text(errors="replace"))
            time.sleep(0.05)
        self._environment |= access_for(address.read_text())

    def _next_phase(self) -> str:
        """Return the phases in turn, in random order, and now and then a process of its own."""
        if self.random.random() < SHARE_STARTED:
            return STARTED
        if not self._phases:
            turns = [*PHASES, *[WRITE] * (WRITES_A_ROUND - 1)]
            self._phases = self.random.sample(turns, len(turns))
        return self._phases.pop()

    def _next_scenario(self, phase: str) -> Scenario:
        """Return the scenarios in turn, in random order, passing over those that have no such phase."""
        for _ in range(2):
            for scenario in self._scenarios:
                if phase == STARTED or phase in self._known(scenario).lengths:
                    self._scenarios.remove(scenario)
                    return scenario
            every = [one for one in SCENARIOS for _ in range(one.weight)]
            self._scenarios += self.random.sample(every, len(every))
        raise RuntimeError(f"no command has this phase: {phase}")


def _hidden_below(folder: Path) -> list[str]:
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return [name for name in names if "/." in f"/{name}"]


def main() -> int:
    """Do the campaign and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="default: drawn, and printed")
    parser.add_argument("--minutes", type=float, default=60.0, help="end after about so long, with fewer kills")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    sys.stderr.write(f"seed {seed}\n")
    adopt_orphans()
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="crashes-"))  # removed by this process alone, not by its forks
    try:
        findings = Campaign(place, seed, options.kills, options.minutes).run()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print_tables(findings, seed, options.kills, time.monotonic() - began)
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
