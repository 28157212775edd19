"""Options that say where work runs. They change no number, and are not recorded: a run may go on with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scalselect.errors import OptionError
from scalselect.option_values import check_choices, check_positive, option_field

EngineName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Where shards are represented and scored."""

    engine: str = option_field(
        "local", "where work runs: on this machine, or on a Ray cluster (extra `ray`)", choices=EngineName
    )
    workers: int | None = option_field(
        None,
        "number of workers; unless given, one for each accelerator there is (scoring alone: this process), with Ray as "
        "many as there is room for",
        kind=int,
    )
    devices: str | None = option_field(
        None, "accelerators of this machine, one worker each, for example 0,1 or cuda:0,cuda:1", metavar="LIST"
    )
    ray_address: str | None = option_field(
        None,
        "the Ray cluster: host:port, auto (that of this machine) or local (one for this call); unless given, what "
        "RAY_ADDRESS says, else auto",
        metavar="ADDRESS",
    )

    def __post_init__(self) -> None:
        """Check every value; raises OptionError."""
        check_choices(self)
        check_positive("workers", self.workers)
        if self.workers is not None and self.devices is not None:
            raise OptionError(
                f"workers and devices exclude each other: {self.workers} and {self.devices!r} (devices gives every "
                "device named a worker)"
            )
        if self.devices is not None and not self.device_names:
            raise OptionError(f"devices names none: {self.devices!r} (wanted: for example 0,1)")
        if self.engine == "ray" and self.devices is not None:
            raise OptionError(
                f"devices has no effect with engine `ray`, which places workers itself: {self.devices!r}; give workers"
            )
        if self.engine != "ray" and self.ray_address is not None:
            raise OptionError(f"ray_address has no effect without engine `ray`: {self.ray_address!r}")

    @property
    def device_names(self) -> list[str]:
        """The devices that are named, a bare number as `cuda:N`."""
        words = [word.strip() for word in (self.devices or "").split(",")]
        return [f"cuda:{word}" if word.isdecimal() else word for word in words if word]

    @property
    def names_workers(self) -> str | None:
        """The option that asks for other processes than this one, as it was given; None where none does."""
        for name in ("workers", "devices"):
            if getattr(self, name) is not None:
                return f"{name} {getattr(self, name)}"
        return "engine ray" if self.engine == "ray" else None
