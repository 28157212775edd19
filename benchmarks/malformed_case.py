"""One malformed data set, checked and run by the command line in a forked process, and whether all went as promised."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from scalselect.cli import main
from scalselect.records import Reason

LIMIT_SECONDS = 120  # of the CPU: another program on the machine must not make a case fail
_LIMIT_OF_CLOCK = 900
LIMIT_MEBIBYTES = 3072  # beyond what the idle process holds
_CRASHED = 70
_TOLD = re.compile(r"^error: .{10}", re.MULTILINE)
_TOO_FEW = re.compile(r"needs at least two representations|representations are equal|row can be chosen")
_REASONS = {str(reason) for reason in Reason}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case.

    Attributes
    ----------
    code
        Exit code of the run.
    scored, reasons
        Rows with a score, and of the others how many have each reason.
    seconds, mebibytes
        Of the CPU, check and run together; peak of memory beyond that of the process it was forked from.
    failure
        What was not as promised; empty where all was.
    """

    code: int
    scored: int
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    mebibytes: float = 0.0
    failure: str = ""


def run_case(data: Path, rows: int | None, model: Path, out: Path) -> Outcome:
    """Check and run a data set; `rows` are those it must have, None where that is not known."""
    out.mkdir()
    idle = _resident()
    child = os.fork()
    if child == 0:
        _in_child(data, model, out)
    status, used = _waited_for(child)
    seconds = used.ru_utime + used.ru_stime
    mebibytes = max(0.0, used.ru_maxrss / 1024 - idle)
    code = os.waitstatus_to_exitcode(status)
    told = (out / "stderr").read_text(errors="replace") if (out / "stderr").exists() else ""
    scored, reasons, failure = 0, Counter[str](), ""
    if code < 0:
        how = "time limit" if -code in {signal.SIGKILL, signal.SIGXCPU} else "crash"
        failure = f"ended by signal {-code} ({how}); {told[-1500:]}"
    elif code == _CRASHED or "Traceback (most recent call last)" in told:
        failure = f"traceback: {told[-2500:]}"
    elif code not in {0, 1, 2}:
        failure = f"exit code {code}: {told[-500:]}"
    elif code and not _TOLD.search(told):
        failure = f"exit code {code} without a message: {told[-500:]}"
    else:
        scored, reasons, failure = _accounted(out / "run", code, rows, told)
    if not failure and mebibytes > LIMIT_MEBIBYTES:
        failure = f"{mebibytes:.0f} MiB of memory"
    return Outcome(code, scored, reasons, seconds, mebibytes, failure)


def checked_case(data: Path, rows: int | None) -> tuple[int, str]:
    """Check a data set in this process; return the exit code, and what was not as promised.

    The images are decoded, nothing is prepared for a model. Raises whatever the check lets out.
    """
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        code = main(["check", str(data), "--json", "--dataloader-workers", "0"])
    if code == 2:
        return code, "" if _TOLD.search(told.getvalue()) else "refused without a message"
    found = json.loads(said.getvalue())
    if rows is not None and found["counts"]["rows"] != rows:
        return code, f"{found['counts']['rows']} rows are told, the data have {rows}"
    odd = {problem["kind"] for problem in found["problems"] if problem["effect"] == "skipped"} - _REASONS
    return code, f"unknown reasons: {odd}" if odd else ""


def _in_child(data: Path, model: Path, out: Path) -> None:
    """Check, then run; never returns."""
    code = _CRASHED
    try:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(out / name, os.O_WRONLY | os.O_CREAT), descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        faulthandler.dump_traceback_later(_LIMIT_OF_CLOCK - 60, file=sys.stderr)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (LIMIT_MEBIBYTES + 2048 << 20),) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS + 5))
        checked = main(["check", str(data), "--json", "--dataloader-workers", "0"])
        if checked not in {0, 1, 2}:
            raise RuntimeError(f"check ended with {checked}")  # noqa: TRY301
        words = ["--model", str(model), "--budget", "1", "--output", str(out / "run"), "--max-skipped", "100%"]
        words += ["--max-length", "2048"]  # else a text of 100 MB is a sample like any other, with its memory
        code = main(["run", str(data), *words, "--dataloader-workers", "0", "--threads", "1"])
        if checked == 2 != code:
            raise RuntimeError(f"check refused what run took: {checked}, {code}")  # noqa: TRY301
    except SystemExit as exited:
        code = exited.code if isinstance(exited.code, int) else _CRASHED
    except BaseException:  # noqa: BLE001  whatever it is, it is what is looked for
        code = _CRASHED
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited_for(child: int) -> tuple[int, resource.struct_rusage]:
    deadline = time.monotonic() + _LIMIT_OF_CLOCK
    while time.monotonic() < deadline:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return status, used
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used


def _accounted(run: Path, code: int, rows: int | None, told: str) -> tuple[int, Counter[str], str]:
    """Return rows with a score, reasons of the others, and what is wrong with the account."""
    shards = sorted((run / "representations").glob("*.rows.parquet"))
    if code == 2:
        return 0, Counter(), "refused, but work was done" if shards else ""
    parts = [pq.read_table(path, columns=["status", "reason"]).to_pylist() for path in shards]
    found = [row for part in parts for row in part]
    reasons = Counter(str(row["reason"] or row["status"]) for row in found if row["status"] != "scored")
    scored = len(found) - sum(reasons.values())
    if not found or (rows is not None and len(found) != rows):
        return scored, reasons, f"{len(found)} rows are told, the data have {rows}; exit {code}; {told[-500:]}"
    if set(reasons) - _REASONS - {"text_only"}:
        return scored, reasons, f"unknown reasons: {reasons}"
    if code == 1:
        few = scored == 0 or _TOO_FEW.search(told)  # nothing, or nothing that differs, is left to choose from
        return scored, reasons, "" if few else f"work failed: {told[-1500:]}"
    account = json.loads((run / "selection.json").read_text())
    table = pq.read_table(run / "scores.parquet", columns=["status", "reason"]).to_pylist()
    if Counter(row["status"] for row in table) != Counter(row["status"] for row in found):
        return scored, reasons, "scores.parquet tells other rows"
    told_rows = account["rows"]
    counts = [told_rows[name] for name in ("scored", "skipped", "text_only")]
    whole = sum(counts) == told_rows["pool"] == len(found) and sum(account["skipped"].values()) == told_rows["skipped"]
    return scored, reasons, "" if whole and counts[0] == scored else f"selection.json counts otherwise: {account}"


def _resident() -> float:
    """Return the memory that this process holds, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)
