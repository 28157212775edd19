"""The last pass of a run: for the rows that a report shows, what their instruction attends to.

Which rows these are is known only when all are scored and chosen. A run is done without it: what goes wrong here is
told, and costs the report its overlays and nothing else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scalselect.errors import RunFolderError
from scalselect.explanations_file import Explanation, Explanations, read_explanations
from scalselect.image_files import PictureView
from scalselect.records import Sample
from scalselect.report_page.shown_rows import explained_rows
from scalselect.sample_work import SampleWork
from scalselect.segments import shards_of, shards_with
from scalselect.vlm.device_memory import is_out_of_memory
from scalselect.vlm.explaining import explain_sample
from scalselect.vlm.representation import Pooling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scalselect.config import RepresentConfig
    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.records import RowRecord
    from scalselect.run_folder import RunFolder
    from scalselect.shard_worker import ModelOfRun
    from scalselect.vlm.checkpoint import Checkpoint

_FORMAT = 1  # raised whenever the same rows would be explained otherwise
_NO_ATTENTION = "--pooling all averages every vision token alike, whatever the instruction attends to"
_CHANGED = "its images are no longer those that were scored"
_NOT_FINITE = "the model returned NaN or infinity"
_NO_MEMORY = "memory ran out with this row alone"


def explain_run(folder: RunFolder, pool: Pool | JoinedPool | None, model: ModelOfRun, progress: Progress) -> None:
    """Write `explanations.safetensors` for the rows that a report of this run shows.

    Does nothing where it holds them already. The caller holds the folder's claim.

    Raises
    ------
    WorkError
        If another process has taken over the folder. Nothing else is raised: it is told as a warning.
    """
    if pool is None or not model.config.explanations:
        return
    try:
        made = _missing_made(folder, pool, model, progress)
    except Exception as error:  # noqa: BLE001  the run itself is done
        progress.warn(_words(error))
        return
    if made is None:
        return
    folder.check_claim()
    try:
        folder.write_explanations(*made)
    except OSError as error:
        progress.warn(_words(error))


def _words(error: Exception) -> str:
    reason = str(error).strip().split("\n", 1)[0][:300]
    return (
        f"the report will not show what instructions attend to: {type(error).__name__}: {reason}; everything else of "
        "the run is done, and the same command tries this again"
    )


def _missing_made(
    folder: RunFolder, pool: Pool | JoinedPool, model: ModelOfRun, progress: Progress
) -> tuple[Explanations, dict[str, Any]] | None:
    """Return the explanations of all wanted rows and what they were made from; None where the file holds just these."""
    shards = shards_of(folder.require())
    inputs: dict[str, Any] = {"format": _FORMAT, "store": folder.store.digest(shards)}
    wanted = [int(row) for row in explained_rows(folder.read_scores(), model.config.explanations)]
    known = _known(folder, inputs, progress)
    if known is not None and {*known.rows, *known.missing} == set(wanted):
        return None
    known = known or Explanations(rows={}, missing={}, boxes_unknown=None)
    rows = {row: known.rows[row] for row in wanted if row in known.rows}
    missing = {row: known.missing[row] for row in wanted if row in known.missing}
    left = [row for row in wanted if row not in rows and row not in missing]
    unknown = known.boxes_unknown
    if model.config.pooling != "attended":
        missing |= dict.fromkeys(left, _NO_ATTENTION)
    elif left:
        began = time.monotonic()
        with model.at_work() as checkpoint:
            hashes = _image_hashes(folder, left)
            for row, explained, why_not in _explained(checkpoint, pool, model.config, left, hashes):
                if isinstance(explained, str):
                    missing[row] = explained
                else:
                    rows[row] = explained
                    unknown = unknown or why_not
        progress.say(f"looked at what {len(left)} rows attend to, for the report: {time.monotonic() - began:.1f} s")
    return Explanations(rows=rows, missing=missing, boxes_unknown=unknown), inputs


def _known(folder: RunFolder, inputs: dict[str, Any], progress: Progress) -> Explanations | None:
    """Return what the file holds; None where there is none, or it belongs to other representations."""
    try:
        explanations, made_from = read_explanations(folder.explanations)
    except FileNotFoundError:
        return None
    except RunFolderError:
        progress.warn(f"{folder.explanations.name} is not what was written: made anew")
        return None
    return explanations if made_from == inputs else None


def _image_hashes(folder: RunFolder, rows: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Return the hashes of the images of some rows, as they were when the rows were represented."""
    found: dict[int, tuple[str, ...]] = {}
    for shard in shards_with(folder.require(), rows):
        table = folder.store.rows(shard, ["row", "image_sha256"])
        table = table.filter(pc.is_in(table["row"], value_set=pa.array(rows, table["row"].type)))
        hashes = table["image_sha256"].to_pylist()
        found |= {row: tuple(some) for row, some in zip(table["row"].to_pylist(), hashes, strict=True)}
    return found


def _explained(
    checkpoint: Checkpoint,
    pool: Pool | JoinedPool,
    config: RepresentConfig,
    rows: Sequence[int],
    hashes: dict[int, tuple[str, ...]],
) -> Iterator[tuple[int, Explanation | str, str | None]]:
    """Yield each row, what is known of it or in words why nothing is, and why its boxes are not known."""
    work = SampleWork(checkpoint.preparer, PictureView.of(config), pool.embedded_image, skip_oom=True)
    pooling = Pooling(attention_mass=config.attention_mass)
    for row, sample in zip(rows, pool.samples_at(rows), strict=True):
        if not isinstance(sample, Sample):
            raise TypeError(f"row {row} was scored and cannot be read any more: {sample.reason}")
        (prepared,), facts = work([sample])
        (record,) = facts.records
        if prepared is None:
            yield row, _reason(record), None
        elif record.image_sha256 != hashes[row]:
            yield row, _CHANGED, None
        else:
            try:
                found = explain_sample(checkpoint, prepared, pooling)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                yield row, _NO_MEMORY, None
                continue
            if not found.finite:
                yield row, _NOT_FINITE, None
                continue
            explanation = Explanation(
                row=row, attention=found.attention, kept=found.kept, image=found.image, boxes=found.boxes
            )
            yield row, explanation, found.boxes_unknown


def _reason(record: RowRecord) -> str:
    return f"{record.reason}: {record.detail}"
