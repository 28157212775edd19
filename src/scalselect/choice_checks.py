"""What can be known to be wrong with the options of a choice before hours of work: checked when a run begins."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from scalselect.dataset.field_values import has_field
from scalselect.errors import OptionError
from scalselect.row_lists import listed, listed_rows, read_quotas
from scalselect.selection.strategies import strategy_named

if TYPE_CHECKING:
    from scalselect.config import SelectConfig
    from scalselect.dataset.joined_pool import JoinedPool


def check_choice(config: SelectConfig, pool: JoinedPool, *, pool_rows: int, vectors: str) -> None:
    """Refuse what the choice of a run would fail on after everything else was done.

    Parameters
    ----------
    pool
        The data sets that the run begins with.
    pool_rows
        Number of rows of the run, more than those of `pool` where it was extended.
    vectors
        What is stored of a sample: `vision` or `vision+instruction`.

    Raises
    ------
    OptionError
        A file cannot be read or names rows that are none, no record has the field to group by, the strategy needs
        vectors that are not stored, or a library that is not installed.
    """
    if "instruction" in strategy_named(config.strategy).needs and vectors != "vision+instruction":
        raise OptionError(
            f"strategy {config.strategy} needs vectors of the instructions: give --vectors vision+instruction as well"
        )
    if config.strategy == "coverage" and importlib.util.find_spec("sklearn") is None:
        raise OptionError("strategy coverage needs scikit-learn: pip install 'scalselect[sklearn]'")
    for name in ("include_rows", "exclude_rows"):
        listed_rows(name, getattr(config, name), pool_rows)
    for name in ("include_ids", "exclude_ids"):
        listed(name, getattr(config, name))
    read_quotas(config.quotas)
    field = config.stratify_by
    if field is not None and field != "source" and not has_field(pool, field, first=None):
        raise OptionError(f"no record has a field `{field}` to group rows by")
