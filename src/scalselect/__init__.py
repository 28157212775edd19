"""scalselect: choose, without training, the visual-instruction data worth fine-tuning on.

>>> import scalselect
>>> result = scalselect.run("pool.json", model="llava-hf/llava-1.5-7b-hf", budget="16%", output="run")  # doctest: +SKIP
>>> result.rows, result.scores  # doctest: +SKIP

Names are loaded when they are first used, so that the import itself is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scalselect.checking import CheckResult, check
    from scalselect.comparison import Comparison, compare
    from scalselect.dataset.opening import open_pool
    from scalselect.dataset.pool import Pool
    from scalselect.errors import MisuseError, ScalselectError, ScalselectWarning, WorkError
    from scalselect.exporting import export
    from scalselect.extending import extend
    from scalselect.pipeline import represent, run, score, select
    from scalselect.records import Reason
    from scalselect.reporting import report
    from scalselect.results import Exported, Extended, Represented, RunResult
    from scalselect.vlm.llava_composition import ComposedLlava, compose_llava

_HOMES = {
    "CheckResult": "checking",
    "Comparison": "comparison",
    "ComposedLlava": "vlm.llava_composition",
    "Exported": "results",
    "Extended": "results",
    "MisuseError": "errors",
    "Pool": "dataset.pool",
    "Reason": "records",
    "Represented": "results",
    "RunResult": "results",
    "ScalselectError": "errors",
    "ScalselectWarning": "errors",
    "WorkError": "errors",
    "check": "checking",
    "compare": "comparison",
    "compose_llava": "vlm.llava_composition",
    "export": "exporting",
    "extend": "extending",
    "open_pool": "dataset.opening",
    "report": "reporting",
    "represent": "pipeline",
    "run": "pipeline",
    "score": "pipeline",
    "select": "pipeline",
}

__all__ = [
    "CheckResult",
    "Comparison",
    "ComposedLlava",
    "Exported",
    "Extended",
    "MisuseError",
    "Pool",
    "Reason",
    "Represented",
    "RunResult",
    "ScalselectError",
    "ScalselectWarning",
    "WorkError",
    "check",
    "compare",
    "compose_llava",
    "export",
    "extend",
    "open_pool",
    "report",
    "represent",
    "run",
    "score",
    "select",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `scalselect` has no attribute `{name}`")
    return getattr(importlib.import_module(f"scalselect.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
