"""Stage 1 over a run folder: settle what the run is, then represent the shards that are missing.

The only join that loads a model; `pipeline` imports it when it is needed, so that the other commands start fast.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from scalselect.engines.local import run_tasks
from scalselect.errors import DataChangedError, DatasetError, MisuseError, ShardError, TooManySkippedError, WorkError
from scalselect.run_folder import refuse_other_keys
from scalselect.segments import segments_of
from scalselect.shard_work import ShardWork
from scalselect.storage import remove_temporary_files
from scalselect.vlm.checkpoint import load_checkpoint, model_restored, quiet_transformers
from scalselect.vlm.rehearsal import rehearse
from scalselect.vlm.settings import Settings, library_versions, locate, resolve_settings, torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from scalselect.config import RepresentConfig, RunConfig
    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress
    from scalselect.representation_store import RepresentationStore, ShardReport
    from scalselect.run_folder import RunFolder

NUMERICS_VERSION = 2  # raised whenever the same inputs would give other vectors
_ROWS_BEFORE_JUDGING_SKIPS = 1000


def represent_run(
    folder: RunFolder, pool: Pool, model: Any, config: RunConfig, *, processor: Any, progress: Progress
) -> list[ShardReport]:
    """Represent every shard of a run that is not published yet; return the reports of all shards, in order.

    Raises
    ------
    MisuseError
        Before any work: the run folder belongs to another run, the model cannot be used.
    TooManySkippedError
        If more rows were skipped than tolerated; what was published stays.
    WorkError
        If shards failed, each after its attempts.
    """
    recorded = folder.read()
    before = None if recorded is None else recorded["represent"]
    with quiet_transformers():
        located = locate(model, config.represent, commit=_commit_of(recorded, model, config.represent))
        settings = resolve_settings(config.represent, located, before)
    keys = _keys(pool, config.represent, settings)
    if before is not None:  # before the model is loaded, which may take long
        known = {name: before.get(name) for name in keys}
        refuse_other_keys(known, keys, folder.path, note="model and chat template were not compared")
    else:
        _refuse_where_no_image_exists(pool)
    threads = settings.threads
    with quiet_transformers(), model_restored(model), threadpool_limits(limits=threads), torch_threads(threads):
        checkpoint = load_checkpoint(located, config.represent, settings, processor=processor)
        for warning in checkpoint.warnings:
            progress.warn(warning)
        checkpoint = rehearse(checkpoint, config.represent)
        keys |= {f"model_{name}": value for name, value in checkpoint.fingerprint.items()}
        if before is None:
            folder.create(
                _run_json(pool, model, config, keys)
                | {"model_commit": getattr(located, "commit", None), "remote_code": checkpoint.remote_code}
            )
        else:
            refuse_other_keys(before, keys, folder.path)
        remove_temporary_files(folder.path)
        progress.say(
            f"model: {checkpoint.parameter_bytes / 1e6:,.0f} MB of parameters up to decoder layer "
            f"{config.represent.layer}, {settings.dtype} on {settings.device}"
        )
        work = ShardWork(
            pool,
            checkpoint,
            folder.store,
            config.represent,
            settings,
            library_versions(),
            on_row=progress.row,
            order=pool.in_image_order() if config.represent.order == "image" else None,
        )
        return _represent_missing(
            folder, work, segments_of({"represent": keys})[0].shards, config.max_skipped, progress
        )


def _keys(pool: Pool, config: RepresentConfig, settings: Settings) -> dict[str, Any]:
    """Return the `represent` keys of run.json that are known before the model is loaded."""
    data = pool.fingerprint()
    options = asdict(config)
    for name in ("format", "chat_template", "batch_size", "device", "dataloader_workers"):
        del options[name]  # resolved elsewhere, or without a say in any vector
    return {
        **options,
        "images": str(pool.images),
        "limit": pool.limit,
        "image_fit": settings.image_fit,
        "dtype": settings.dtype,
        "threads": settings.threads,
        "max_rows": settings.max_rows,
        "batch_tokens": settings.batch_tokens,
        "rows": len(pool),
        "data_format": pool.format,
        **{f"data_{name}": value for name, value in data.items()},
        "numerics_version": NUMERICS_VERSION,
        "transformers": ".".join(metadata.version("transformers").split(".")[:2]),
    }


def _commit_of(recorded: dict[str, Any] | None, model: Any, config: RepresentConfig) -> str | None:
    """Return the commit of a hub's repository that a run began with: it may have gone on since."""
    if recorded is None or recorded["model"] != str(model) or recorded["represent"].get("revision") != config.revision:
        return None
    commit: str | None = recorded.get("model_commit")
    return commit


def _refuse_where_no_image_exists(pool: Pool) -> None:
    missing, looked_at = pool.images_found()
    if missing is not None:
        raise DatasetError(
            f"none of the first {looked_at} images exists; the first is looked for at {missing} (give the folder that "
            "image paths start from with --images)"
        )


def _run_json(pool: Pool, model: Any, config: RunConfig, keys: dict[str, Any]) -> dict[str, Any]:
    return {
        "represent": keys,
        "score": None,
        "select": None,
        "data": {"path": None if pool.path is None else str(pool.path), "source": pool.source},
        "model": str(model) if isinstance(model, (str, Path)) else type(model).__name__,
        "chat_template": config.represent.chat_template,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {"scalselect": metadata.version("scalselect"), **library_versions()},
    }


def _represent_missing(
    folder: RunFolder, work: ShardWork, shards: range, max_skipped: Decimal, progress: Progress
) -> list[ShardReport]:
    reports = {shard: folder.store.report(shard) for shard in shards if folder.store.is_published(shard)}
    skips = _SkipLimit(max_skipped, reports.values(), folder.store)
    finished = sum(report.stop - report.start for report in reports.values())
    progress.start(len(work.pool), finished, sum(report.counts.get("skipped", 0) for report in reports.values()))
    failed: dict[int, Exception] = {}
    try:
        outcomes = run_tasks(
            [shard for shard in shards if shard not in reports],
            work,
            # A single sample too large for the memory is as large the next time.
            worth_retrying=lambda error: not isinstance(error, ShardError),
            fatal=(MisuseError, DataChangedError, OSError),
        )
        for outcome in outcomes:
            if outcome.result is None:
                failed[outcome.task] = outcome.error or WorkError("unknown")
                progress.say(f"shard {outcome.task} failed after {outcome.attempts} attempts: {outcome.error}")
            else:
                reports[outcome.task] = outcome.result
                skips.count(outcome.result)
                skips.check(at_end=False)
    finally:
        progress.stop()
    if failed:
        first = min(failed)
        raise WorkError(
            f"{len(failed)} of {len(shards)} shards failed (first: shard {first}, {failed[first]}); what was "
            "represented is kept, and the same command tries the failed shards again"
        ) from failed[first]
    skips.check(at_end=True)
    return [reports[shard] for shard in shards]


class _SkipLimit:
    """Counts skipped rows and stops a run that skips too many: its data are probably not where it looks for them."""

    def __init__(self, highest: Decimal, reports: Iterable[ShardReport], store: RepresentationStore) -> None:
        self._highest = highest
        self._store = store
        self._example: str | None = None
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        for report in reports:
            self.count(report)

    def count(self, report: ShardReport) -> None:
        self._counts.update(report.counts)
        self._reasons.update(report.reasons)
        if self._example is None and report.reasons:
            details = self._store.rows(report.shard, ["row", "detail"]).to_pylist()
            self._example = next(f"row {item['row']}: {item['detail']}" for item in details if item["detail"])

    def check(self, *, at_end: bool) -> None:
        """Raise TooManySkippedError where the share of skipped rows, among rows not text-only, is too high."""
        skipped = self._counts["skipped"]
        seen = skipped + self._counts["scored"]
        if seen == 0 or (seen < _ROWS_BEFORE_JUDGING_SKIPS and not at_end) or skipped * 100 <= self._highest * seen:
            return
        commonest = ", ".join(f"{reason} {number:,}" for reason, number in self._reasons.most_common(3))
        raise TooManySkippedError(
            f"{skipped:,} of {seen:,} rows (text-only ones left out) were skipped, {100 * skipped / seen:.1f}%: more "
            f"than --max-skipped {self._highest}% allows. Commonest reasons: {commonest}; for example {self._example}. "
            f"All are told in {self._store.folder}/*.rows.parquet, column `detail`. What was represented is kept: "
            "repeat the command with a higher --max-skipped, or mend the data and begin in another folder"
        )
