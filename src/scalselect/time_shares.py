"""Where the time of stage 1 went, from the seconds in the reports of shards: shares, in words, and what would help.

What the process of a shard does follows one after another: `read`, `wait` (the model has no samples), `model`, `write`.
Its time is their sum. `decode` and `preprocess` are the making of the samples that are waited for: with
`--dataloader-workers` they go on beside the model, in several processes at once, else they lie within `wait`. They are
never added to the rest. Reports of versions that did not know `wait` did all one after another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.progress import readable_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT = "wait"
_MAKING = {"decode": "decoding", "preprocess": "preprocessing"}
_WORDS = {WAIT: "waiting for samples"}
_SECONDS_THAT_TELL = 10.0  # of work; what is shorter is mostly beginning
_SHARE_TOLD = 0.005  # below, a stage is left out of the words
_SHARE_TO_MEND = 0.25  # of a stage in which the model stands still, from which on it comes before the model
_ADVICE = {
    "read": "a faster disk or store for the data would shorten it most (reading of records)",
    "decode": (
        "the model waited, mostly for images to be opened: more --dataloader-workers would shorten it most, then a "
        "faster disk or store for the images, or smaller ones"
    ),
    "preprocess": (
        "the model waited, mostly for samples to be preprocessed: more --dataloader-workers would shorten it most, and "
        "CPUs for them"
    ),
    WAIT: "the model waited for samples: more --dataloader-workers would shorten it most",
    "model": "the model took most of it: more or faster accelerators would shorten it most (--devices, --workers)",
    "write": "a faster disk or store for the run folder would shorten it most",
}


def work_seconds(seconds: Mapping[str, float]) -> float:
    """Return the seconds that the processes of the shards took, from their seconds by stage."""
    return sum(_parts(seconds).values())


def waiting_share(seconds: Mapping[str, float]) -> float | None:
    """Return the share of the work in which the model waited for samples; None where that is not known."""
    work = work_seconds(seconds)
    return seconds[WAIT] / work if WAIT in seconds and work > 0 else None


def lines_of_time(seconds: Mapping[str, float], workers: int = 1) -> list[str]:
    """Return where the time went and what would shorten it, in a sentence each; nothing where there is little to tell.

    Parameters
    ----------
    seconds
        By stage, summed over shards.
    workers
        How many there were at once.
    """
    parts, work = _parts(seconds), work_seconds(seconds)
    if work < _SECONDS_THAT_TELL:
        return []
    largest = sorted((stage for stage in parts if parts[stage] >= _SHARE_TOLD * work), key=lambda stage: -parts[stage])
    told = ", ".join(f"{_WORDS.get(stage, stage)} {parts[stage] / work:.0%}" for stage in largest)
    by = f" in {workers:,} workers" if workers > 1 else ""
    making = [
        f"{readable_seconds(seconds[stage])} of {word}"
        for stage, word in _MAKING.items()
        if stage in seconds and WAIT in seconds
    ]
    beside = f"; making samples ready took {' and '.join(making)}" if making else ""
    advice = _ADVICE.get(_to_mend(seconds, parts, work))
    return [f"{told} of {readable_seconds(work)} of work{by}{beside}", *([] if advice is None else [advice])]


def _parts(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the stages that follow one another."""
    return {stage: spent for stage, spent in seconds.items() if stage not in _MAKING or WAIT not in seconds}


def _to_mend(seconds: Mapping[str, float], parts: Mapping[str, float], work: float) -> str:
    """Return the stage that it is best to begin with: where the model stands still for long, that comes first."""
    idle = [stage for stage in parts if stage != "model" and parts[stage] >= _SHARE_TO_MEND * work]
    longest = max(idle or parts, key=lambda stage: parts[stage])
    if longest != WAIT:
        return longest
    making = [stage for stage in _MAKING if seconds.get(stage, 0.0) > 0]
    return max(making, key=lambda stage: seconds[stage], default=WAIT)
