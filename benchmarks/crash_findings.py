"""What came of the kills of a crash campaign, and its tables."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections import Counter
from dataclasses import dataclass, field

from crash_scenarios import SCENARIOS
from told_phases import PHASES

STARTED = "started process"


@dataclass
class Findings:
    """What came of the kills."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # (phase, whole tree or main process alone)
    by_scenario: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)
    kills_of_a_folder: Counter[int] = field(default_factory=Counter)
    too_late: int = 0
    slowest_end: float = 0.0
    faults: list[str] = field(default_factory=list)


def print_tables(findings: Findings, seed: int, kills: int, seconds: float) -> None:
    """Print what was killed where, and what came of it."""
    facts = {
        "command": f"python benchmarks/crash_campaign.py --kills {kills} --seed {seed}",
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {seconds / 60:.0f} minutes",
    }
    for name, fact in facts.items():
        print(f"{name:<10}{fact}")
    ways = ("whole tree", "main process alone")
    print(f"\n{'killed in':<18}{ways[0]:>12}{ways[1]:>20}   the phase")
    for phase in (*PHASES, STARTED):
        meaning = PHASES.get(phase, "a Python process of its own, at any moment from its start on")
        print(f"{phase:<18}{findings.kills[phase, ways[0]]:>12}{findings.kills[phase, ways[1]]:>20}   {meaning}")
    print(f"\n{'command':<44}{'kills':>8}{'folders':>10}")
    for scenario in SCENARIOS:
        print(f"{scenario.name:<44}{findings.by_scenario[scenario.name]:>8}{findings.folders[scenario.name]:>10}")
    total, folders = sum(findings.kills.values()), sum(findings.folders.values())
    restarts = ", ".join(f"{number} times in {count}" for number, count in sorted(findings.kills_of_a_folder.items()))
    print(f"\nkills      {total} in {folders} folders: killed {restarts}")
    print(f"too late   {findings.too_late} commands had ended, or did not come to the phase that they were to die in")
    print(f"processes  the last one of a killed tree was gone after at most {findings.slowest_end:.2f} s")
    equal = folders - len({fault.partition(": ")[0] for fault in findings.faults})
    print(f"result     {equal} of {folders} folders equal those of undisturbed runs byte for byte, nothing left over")
    for fault in findings.faults:
        print(f"FAULT      {fault}")
