"""`report.html` over a run folder: its records are read, shown section by section, and put into one file. No torch."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import scalselect
from scalselect.errors import DamagedFileError, RunFolderError
from scalselect.explanations_file import read_explanations
from scalselect.failures import told_of
from scalselect.image_files import PictureView
from scalselect.report_page.balance_section import balance_section
from scalselect.report_page.happened_section import happened_section, page_title
from scalselect.report_page.leverage_section import leverage_section
from scalselect.report_page.map_section import map_section
from scalselect.report_page.material import Material
from scalselect.report_page.page import page_bytes
from scalselect.report_page.reproduce_section import reproduce_section
from scalselect.report_page.samples_section import samples_section
from scalselect.report_page.shown_rows import shown_rows
from scalselect.report_page.spectrum_section import spectrum_section
from scalselect.scores_file import SCORES_SCHEMA
from scalselect.seals import SEAL_KEY
from scalselect.segments import shards_of
from scalselect.shown_samples import read_shown_samples
from scalselect.storage import publish_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.explanations_file import Explanations
    from scalselect.progress import Progress
    from scalselect.report_page.material import ShownSample
    from scalselect.report_page.page import Section
    from scalselect.run_folder import RunFolder

    # Given the rows that are shown, ascending, what is seen of them.
    ReadSamples = Callable[[NDArray[np.int64]], Mapping[int, ShownSample]]


_MARK_WITHIN = 4096  # bytes of a page
NO_RECORDS = "the run has vectors alone, and no records"


def _always(_material: Material) -> bool:
    return True


def _scored(material: Material) -> bool:
    return material.singular_values.size > 0


# In the order in which a person asks; each with what must be there for it to have anything to show.
SECTIONS: tuple[tuple[Callable[[Material], Section], Callable[[Material], bool]], ...] = (
    (happened_section, _always),
    (spectrum_section, _scored),
    (leverage_section, _scored),
    (map_section, _scored),
    (samples_section, _always),
    (balance_section, _scored),
    (reproduce_section, _always),
)


def write_report(folder: RunFolder, pool: Pool | JoinedPool | None, progress: Progress) -> None:
    """Write `report.html` of a finished run, unless the one that lies there shows these records.

    A page that cannot be written is told and ends no run: all else of the run is there. The caller holds the claim.

    Parameters
    ----------
    pool
        The data of the run; None where it has vectors alone.

    Raises
    ------
    DamagedFileError
        If a file of a shard is not what was published.
    WorkError
        If another process has taken over the folder.
    """
    try:
        if _bears(folder.report, mark_of(folder, with_samples=pool is not None)):
            return
        progress.say("writing the report")
        read_samples = None if pool is None else samples_reader(pool, folder.require())
        content = report_bytes(folder, read_samples, None if read_samples else NO_RECORDS)
    except DamagedFileError:  # which can be mended
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, the run is done
        _warn(folder, error, progress)
        return
    folder.check_claim()
    try:
        publish_bytes(folder.report, content)
    except OSError as error:
        _warn(folder, error, progress)


def _warn(folder: RunFolder, error: Exception, progress: Progress) -> None:
    told = told_of(error) if isinstance(error, OSError) else str(error) or type(error).__name__
    again = f"scalselect report {shlex.quote(str(folder.path))}"
    progress.warn(f"{folder.report.name} was not written: {told}; `{again}` tries again")


def samples_reader(pool: Pool | JoinedPool, run: Mapping[str, Any]) -> ReadSamples:
    """Return what reads samples of the data of a run, with pictures as the run saw them."""
    represent, usual = run["represent"], PictureView()
    view = PictureView(
        exif=represent.get("exif", usual.exif),
        alpha=represent.get("alpha", usual.alpha),
        decode_max_pixels=represent.get("decode_max_pixels"),
    )
    return partial(read_shown_samples, pool, view=view)


def mark_of(folder: RunFolder, *, with_samples: bool) -> str:
    """Return what a page of these records bears: a hash of the files that decide all others, and of the version."""
    digest = hashlib.sha256(f"{scalselect.__version__} {with_samples}".encode())
    # What an unfinished extension notes there is on no page.
    told = {name: value for name, value in folder.require().items() if name not in {SEAL_KEY, "select_again"}}
    digest.update(json.dumps(told, sort_keys=True).encode())
    for path in (folder.scores, folder.selection, folder.explanations):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _bears(path: Path, mark: str) -> bool:
    """Tell whether a page bears this mark."""
    try:
        with path.open("rb") as stream:
            return mark.encode() in stream.read(_MARK_WITHIN)
    except FileNotFoundError:
        return False


def report_bytes(folder: RunFolder, read_samples: ReadSamples | None, no_samples: str | None) -> bytes:
    """Return the page of a run folder; the same records give the same bytes.

    Parameters
    ----------
    read_samples
        What reads the samples of the shown rows; None where the records of the run cannot be read.
    no_samples
        Why not, in words.

    Raises
    ------
    RunFolderError
        If not all rows are represented yet, or records do not belong to one another.
    """
    material = read_material(folder)
    if read_samples is None:
        material = replace(material, no_samples=no_samples)
    else:
        rows = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *material.shown.values()]))
        material = replace(material, samples=read_samples(rows), no_samples=None)
    title, subtitle = page_title(material)
    sections = [section(material) for section, applies in SECTIONS if applies(material)]
    return page_bytes(title, subtitle, sections, mark=mark_of(folder, with_samples=read_samples is not None))


def read_material(folder: RunFolder) -> Material:
    """Return the saved records of a run, without samples. See `report_bytes` for the errors."""
    run = folder.require()
    shards = shards_of(run)
    missing, _ = folder.store.files.missing(shards)
    if missing:
        raise RunFolderError(
            f"{missing} of {len(shards)} shards are not represented yet, so there is no whole pool to report on: "
            f"{folder.path}; repeat the command that made the folder"
        )
    table, known, coordinates = _scores_of(folder, shards)
    selection, diagnostics = _choice_of(folder)
    return Material(
        folder=folder,
        shards=shards,
        run=run,
        table=table,
        selection=selection,
        diagnostics=diagnostics,
        singular_values=known,
        coordinates=coordinates,
        shown=shown_rows(table),
        samples={},
        no_samples=None,
        explanations=_explanations_of(folder, shards),
    )


def _scores_of(folder: RunFolder, shards: range) -> tuple[pa.Table, NDArray[np.float64], NDArray[np.float32]]:
    """Return table, singular values [known] and coordinates [scored, k]; before any scoring only where rows stand."""
    if not folder.scores.exists():
        names = [name for name in SCORES_SCHEMA.names if name not in _OF_SCORING]
        known = folder.store.all_rows(shards, names)
        for name in _OF_SCORING:
            known = known.append_column(name, pa.nulls(known.num_rows, SCORES_SCHEMA.field(name).type))
        return known.select(SCORES_SCHEMA.names), np.empty(0), np.empty((0, 0), dtype=np.float32)
    scores = folder.scores_as_written()
    if scores.inputs["store"] != folder.store.digest(shards):
        raise RunFolderError(
            f"the scores were not made from the representations that lie in {folder.path}: run "
            f"`scalselect score {folder.path}` first"
        )
    return scores.table, folder.read_subspace().spectrum, folder.read_coordinates().vision


_OF_SCORING = ("leverage_score", "rank", "selected", "stratum")


def _choice_of(folder: RunFolder) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return selection and diagnostics as written; None where nothing was selected."""
    if not folder.selection.exists():
        return None, None
    selection = folder.read_selection()
    changed = folder.changed_since_selected(selection, [folder.scores.name, folder.diagnostics.name])
    if changed:
        raise RunFolderError(
            f"file is not what was written with the choice: {folder.path / changed[0]}; repeat the `scalselect run` or "
            "`select` command that made it"
        )
    return selection, json.loads(folder.diagnostics.read_bytes())


def _explanations_of(folder: RunFolder, shards: range) -> Explanations | None:
    """Return the attention of some rows where it belongs to the representations that lie there."""
    try:
        explanations, inputs = read_explanations(folder.explanations)
    except FileNotFoundError:
        return None
    return explanations if inputs.get("store") == folder.store.digest(shards) else None
