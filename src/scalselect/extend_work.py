"""A pool that grew: what new data files mean for a run, before any of their rows goes through the model. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalselect.config import OF_NEW_DATA, RepresentConfig, RunConfig, SelectConfig, select_config
from scalselect.dataset.data_sets import data_sets_of, data_sets_of_info, free_name
from scalselect.dataset.opening import open_pool
from scalselect.engine_options import EngineConfig
from scalselect.errors import DatasetError, ModelError, OptionError, RunFolderError, did_you_mean
from scalselect.row_lists import LISTS, digest_of
from scalselect.segments import Segment, entries_of, next_segment, segments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scalselect.dataset.pool import Pool
    from scalselect.run_folder import RunFolder

OPTIONS = (*OF_NEW_DATA, "max_skipped", *(item.name for item in fields(EngineConfig)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What a call adds to a run.

    Attributes
    ----------
    before
        The segments as run.json has them.
    named
        The segments that the call names, new or not, with their data, in the order of the pool.
    """

    before: list[Segment]
    named: list[tuple[Segment, Pool]]

    @property
    def after(self) -> list[Segment]:
        """All segments once the new ones are recorded."""
        return self.before + [segment for segment, _ in self.named if segment not in self.before]

    def record(self, folder: RunFolder, on_wait: Callable[[str], None]) -> None:
        """Write the new segments into run.json, and the choice that is to be made again after them.

        Raises
        ------
        RunFolderError
            If another call has extended the run in other ways meanwhile.
        """
        with folder.claimed(on_wait):
            run = folder.require()
            found = segments_of(run)
            if found == self.after:
                return
            if found != self.before:
                raise RunFolderError(
                    f"run was extended by another call meanwhile: {folder.path}; repeat the command, it adds to that"
                )
            folder.update(segments=entries_of(self.after), select_again=run.get("select") or run.get("select_again"))

    def undo(self, folder: RunFolder, on_wait: Callable[[str], None]) -> bool:
        """Take the segments that this call added back out of the run, with what was represented of them.

        Returns
        -------
        Whether there were such, and nobody has extended the run beyond them.
        """
        added = [segment for segment in self.after if segment not in self.before]
        with folder.claimed(on_wait):
            run = folder.require()
            if not added or segments_of(run) != self.after:
                return False
            for segment in added:
                folder.store.remove(segment.shards)
            first_alone = len(self.before) == 1
            folder.update(
                segments=None if first_alone else entries_of(self.before),
                select_again=None if run.get("select") else run.get("select_again"),
            )
        return True


def plan_extension(folder: RunFolder, run: Mapping[str, Any], data: Any, options: Mapping[str, Any]) -> Extension:
    """Open new data files and settle which segment of the run each one is, or becomes. Writes nothing.

    A file is a segment that the run has already if content and name are the same: the call then goes on with it.

    Parameters
    ----------
    run
        The content of run.json.
    data
        One data set or several; see `scalselect.dataset.data_sets.data_sets_of`.
    options
        `format`, `dataset_info` and `images` of the new data, where they are given.

    Raises
    ------
    MisuseError
        If the run cannot be extended, or not with these files.
    """
    before = segments_of(run)
    named: list[tuple[Segment, Pool]] = []
    if not isinstance(data, (str, os.PathLike)) and not data:
        raise DatasetError("no new data were given; name one data file or several")
    began_with = len(run["represent"].get("data_sets", [None]))
    info = options.get("dataset_info")
    for one in data_sets_of(data) if info is None else data_sets_of_info(data, info, options.get("images")):
        if not isinstance(one.data, (str, os.PathLike)):
            kind = type(one.data).__name__
            raise DatasetError(f"a run is extended with data files: {kind}; write the records to a file")
        pool = open_pool(
            os.fspath(one.data),
            name=one.name,
            format=one.format or options.get("format", "auto"),
            images=one.images or options.get("images"),
            image_position=run["represent"]["image_position"],
            allow_remote_images=run["represent"]["allow_remote_images"],
            confine_images=run["represent"].get("confine_images"),
            mapping=one.mapping,
        )
        segment = _known_segment(before, pool, one.name, began_with)
        if segment is None:
            segment = _added_segment([*before, *(new for new, _ in named if new not in before)], pool)
        if any(segment.data_sha256 == other.data_sha256 for other, _ in named):
            raise DatasetError(f"the same data were given twice: {pool.location}")
        named.append((segment, replace(pool, source=segment.source)))
    _refuse_gaps(folder, before, named)
    return Extension(before=before, named=sorted(named, key=lambda pair: pair[0].first_row))


def recorded_config(run: Mapping[str, Any], options: Mapping[str, Any]) -> RunConfig:
    """Return the options that a run was made with, and those of a call that change no vector.

    `trust_remote_code` is not taken from the run: whoever calls must allow it anew, for run folders travel.

    Raises
    ------
    OptionError
        For an option that an extension does not have, or an impossible value.
    """
    for name in options:
        if name not in OPTIONS:
            raise OptionError(
                f"extend has no option `{name}`{did_you_mean(name, OPTIONS)}: new rows are represented like old ones"
            )
    represent = run["represent"]
    names = {item.name for item in fields(RepresentConfig)} & represent.keys()
    kept = {name: represent[name] for name in names - {"images", "limit", "trust_remote_code"}}
    return RunConfig.from_options({**kept, "chat_template": run.get("chat_template"), **options})


def model_of(run: Mapping[str, Any], model: Any) -> Any:
    """Return the model given, else the one that the run was made with. Raises ModelError where that is no more."""
    if model is not None:
        return model
    name = str(run["model"])
    if not Path(name).is_dir() and (Path(name).is_absolute() or name.count("/") != 1):
        raise ModelError(
            f"the model that the run was made with is not there: {name} (give its folder, or for a loaded model the "
            "model itself: --model, in Python `model`)"
        )
    return name


def choice_to_repeat(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the options of the choice that is to be made again after an extension; None where that cannot be.

    It cannot where nothing was chosen, or with a Python list, which no run keeps; see `list_not_kept`.

    Raises
    ------
    OptionError
        If a file that the choice was made with cannot be read any more.
    """
    recorded = run.get("select") or run.get("select_again")
    if recorded is None or list_not_kept(run):
        return None
    choice = {item.name: recorded[item.name] for item in fields(SelectConfig) if item.name in recorded}
    select_config(choice)
    for name in LISTS:  # before any work: a file that is gone would be missed only after the model has run
        digest_of(name, choice.get(name))
    return choice


def list_not_kept(run: Mapping[str, Any]) -> str | None:
    """Return the name of the option that was given as a Python list when the run's choice was made, or None."""
    recorded = run.get("select") or run.get("select_again") or {}
    return next((name for name in recorded.get("lists", {}) if recorded.get(name) == "a list"), None)


def lists_changed(run: Mapping[str, Any]) -> list[str]:
    """Return the options of the run's choice whose files say something else than when it was made."""
    recorded = run.get("select") or run.get("select_again") or {}
    given = {name: recorded.get(name) for name in recorded.get("lists", {})}
    return [
        name for name, path in given.items() if path != "a list" and digest_of(name, path) != recorded["lists"][name]
    ]


def refuse_what_cannot_grow(folder: RunFolder, run: Mapping[str, Any]) -> None:
    """Raise RunFolderError for a run of vectors alone, a trial, and one of a Python list."""
    represent = run["represent"]
    if "representations" in represent:
        raise RunFolderError(
            f"run was made of vectors made elsewhere: {folder.path}; put the new vectors into one file with the old "
            "ones and score it into a new folder"
        )
    if represent["limit"] is not None:
        raise RunFolderError(
            f"run is a trial of the first {represent['limit']} rows: {folder.path}; make a run of the whole data set "
            "in another folder, and extend that"
        )
    if any(segment.path is None for segment in segments_of(run)):
        raise RunFolderError(
            f"run was given a Python list, which is not kept: {folder.path}; make a run of a data file, and extend that"
        )


def _known_segment(segments: list[Segment], pool: Pool, name: str | None, began_with: int) -> Segment | None:
    """Return the segment that a data file is already; None where it is new. Raises DatasetError, RunFolderError."""
    sha256 = pool.fingerprint()["sha256"]
    for number, segment in enumerate(segments):
        if segment.data_sha256 != sha256:
            if segment.path == pool.location:
                raise DatasetError(
                    f"data file is one of the run's and has changed since: {pool.location}; put the new rows alone "
                    "into another file"
                )
            continue
        if number < began_with:
            raise DatasetError(f"these are the data that the run began with: {pool.location}; give the new rows alone")
        same = Path(str(segment.path)).stem == Path(str(pool.location)).stem if name is None else segment.source == name
        if not same:
            raise DatasetError(f"these data are in the run already, as {segment.path}: {pool.location}")
        for key, now in (("images", pool.images), ("data_format", pool.format), ("mapping", pool.mapping)):
            if getattr(segment, key) != now:
                raise RunFolderError(
                    f"data file belongs to the run with another {key}: {pool.location} ({getattr(segment, key)} in "
                    f"the run folder, {now} in this call)"
                )
        return segment
    return None


def _added_segment(segments: list[Segment], pool: Pool) -> Segment:
    last = segments[-1]
    source = free_name(pool.source, {segment.source.casefold() for segment in segments})
    return next_segment(last, shard_size=last.shard_size, **{**pool.facts(), "source": source})


def _refuse_gaps(folder: RunFolder, before: list[Segment], named: list[tuple[Segment, Pool]]) -> None:
    """Raise RunFolderError where rows before the new ones are not represented, and this call would not do it."""
    for number, segment in enumerate(before):
        missing, _ = folder.store.files.missing(segment.shards)
        if missing and all(segment != other for other, _ in named):
            command = f"`scalselect extend` with {segment.path}" if number else "`scalselect run` or `represent`"
            raise RunFolderError(
                f"{missing} of {len(segment.shards)} shards of {segment.path} are not represented yet: repeat the "
                f"{command} that began it, then extend"
            )
