"""The Python API of exports: the chosen rows in the form that a trainer wants, where it wants another than theirs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, get_args

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.errors import OptionError, RunFolderError, did_you_mean
from scalselect.export_work import SubsetExport, source_file
from scalselect.leftovers import remove_leftovers, remove_leftovers_beside
from scalselect.pool_of_run import pool_of_run
from scalselect.progress import Silent, on_wait, say_removed
from scalselect.records import ExportForm
from scalselect.remote_path import path_of
from scalselect.results import Exported, result_of
from scalselect.run_folder import RunFolder
from scalselect.temporary_places import removed_places
from scalselect.training_guide import write_guides

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scalselect.dataset.pool import Pool
    from scalselect.progress import Progress

_FILES = {"trl": "trl.parquet", "messages": "messages.jsonl", "llava": "llava.json", "source": "source"}
_REWRITABLE = ("json", "jsonl", "json.gz", "jsonl.gz", "list")
_BELONGS_TO = {"embed_images": "trl", "absolute_paths": "source", "ids_as_strings": "source"}


def export(
    run_dir: str | Path,
    *,
    to: str,
    output: str | Path | None = None,
    budget: str | None = None,
    embed_images: bool = False,
    absolute_paths: bool = False,
    ids_as_strings: bool = False,
    dataset: Any = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the chosen rows of a run in another form. Loads no model.

    Parameters
    ----------
    run_dir
        The run folder, in which rows were chosen.
    to
        `trl`: Parquet with content blocks and a column of images; `messages`: JSON Lines of `messages` and `images`;
        `llava`: a JSON array of LLaVA records; `source`: the records as they were, but for ids or paths.
    output
        File to write, which must not exist; default: a file in the folder `exported` of the run folder, replaced by
        every call and removed when other rows are chosen. Of `source` with several data sets a folder.
    budget
        Which subset, where several budgets were asked for: one of them as it was given; default: the first.
    embed_images
        With `trl`: images that are files are copied into the Parquet file.
    absolute_paths, ids_as_strings
        With `source`: what is changed in the records.
    dataset
        As in `scalselect.select`.

    Raises
    ------
    OptionError
        For an option that cannot be right.
    RunFolderError
        If nothing was chosen yet, or the run has no records.
    WorkError
        If an image is gone, or no row can be written.
    """
    options = {"embed_images": embed_images, "absolute_paths": absolute_paths, "ids_as_strings": ids_as_strings}
    _check_options(to, options)
    folder = RunFolder(run_dir)
    run, content = folder.require(), folder.read_selection()
    label = _label(content, budget)
    pool = pool_of_run(run, dataset)
    if pool is None:
        raise RunFolderError("the run has vectors alone, and no records to export; give them with --dataset")
    if to == "source":
        _refuse_what_cannot_be_rewritten(pool, content if label is None else folder.read_selection(label), options)
    progress = progress or Silent()
    with folder.claimed(on_wait(progress)) if output is None else contextlib.nullcontext():
        rows = _rows(folder, content, label)
        path = _place(folder, to, label) if output is None else _new(path_of(output))
        if to == "source" and output is not None and not isinstance(pool, JoinedPool):
            path = _new(source_file(path, JoinedPool([pool]), 0))
        left = remove_leftovers(folder.path) if output is None else remove_leftovers_beside(path)
        say_removed(progress, here=left, temporary=removed_places())
        progress.say(f"exporting {len(rows):,} rows")
        work = SubsetExport(pool, rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        files = _write(work, to, path, options)
        if output is None:
            write_guides(folder)
    counts = work.counts
    return Exported(files=tuple(files), records=counts.records, images=counts.images, left_out=counts.left_out)


def _check_options(to: str, options: Mapping[str, bool]) -> None:
    forms = get_args(ExportForm)
    if to not in forms:
        raise OptionError(f"to must be one of {', '.join(forms)}: {to!r}{did_you_mean(str(to), forms)}")
    for name, form in _BELONGS_TO.items():
        if options[name] and to != form:
            raise OptionError(f"{name} is an option of exports to `{form}`, not to `{to}`")
    if to == "source" and not (options["absolute_paths"] or options["ids_as_strings"]):
        raise OptionError(
            "an export to `source` changes something: give absolute_paths or ids_as_strings (the records as they were "
            "lie in the run folder already)"
        )


def _label(content: Mapping[str, Any], budget: str | None) -> str | None:
    """Return the budget whose subset is meant; None for the first."""
    labels = [entry["asked"] for entry in content["budgets"]]
    if budget is not None and budget not in labels:
        raise OptionError(f"no subset of that budget: {budget} (there is {', '.join(labels)})")
    return None if budget is None or budget == labels[0] else budget


def _rows(folder: RunFolder, content: dict[str, Any], label: str | None) -> list[int]:
    names = [folder.scores.name] if label is None else [f"{folder.selections.name}/{label}/rows.parquet"]
    changed = folder.changed_since_selected(content, names)
    if changed:
        raise RunFolderError(
            f"file is not what was written with the choice: {folder.path / changed[0]}; repeat the `scalselect run` or "
            "`select` command that made it"
        )
    result = result_of(folder, content, None)
    rows = result.rows if label is None else result.budgets[label]
    return [int(row) for row in rows]


def _refuse_what_cannot_be_rewritten(
    pool: Pool | JoinedPool, content: Mapping[str, Any], options: Mapping[str, bool]
) -> None:
    for part in pool.parts if isinstance(pool, JoinedPool) else (pool,):
        if part.container not in _REWRITABLE:
            raise OptionError(
                f"only JSON records can be rewritten, and those of {part.source} are kept in {part.container}: export "
                "to `messages`, which has absolute paths and ids that are strings"
            )
    in_parts = sum(part["content_parts"] for part in content.get("subset") or [])
    if options["absolute_paths"] and in_parts:
        raise OptionError(
            f"{in_parts} records have content in parts, whose image paths are not rewritten: export to `messages`"
        )


def _place(folder: RunFolder, to: str, label: str | None) -> Path:
    return (folder.exported if label is None else folder.exported / label) / _FILES[to]


def _new(path: Path) -> Path:
    if path.exists():
        raise OptionError(f"output exists already: {path} (give a new name, or remove it)")
    return path


def _write(work: SubsetExport, to: str, path: Path, options: Mapping[str, bool]) -> list[Path]:
    if to == "trl":
        return work.write_trl(path, embed_images=options["embed_images"])
    if to == "messages":
        return work.write_messages(path)
    if to == "llava":
        return work.write_llava(path)
    return work.write_source(path, absolute_paths=options["absolute_paths"], ids_as_strings=options["ids_as_strings"])
