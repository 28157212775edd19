"""The names outsiders use: all there, sorted, documented, and not hidden by a module of the same name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import scalselect

FUNCTIONS = (
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
)


def test_the_public_names():
    assert scalselect.__all__ == [
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
    assert scalselect.__all__ == sorted(set(scalselect.__all__))
    assert set(scalselect.__all__) <= set(dir(scalselect))


@pytest.mark.parametrize("name", scalselect.__all__)
def test_every_name_resolves_and_is_documented(name):
    member = getattr(scalselect, name)
    assert member.__name__ == name
    assert member.__module__.startswith("scalselect.")
    assert len(inspect.getdoc(member)) > 20
    assert inspect.isfunction(member) == (name in FUNCTIONS)


def test_star_import_brings_exactly_these():
    names = {}
    exec("from scalselect import *", names)
    assert set(names) - {"__builtins__"} == set(scalselect.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module `scalselect` has no attribute `nothing`"):
        _ = scalselect.nothing
    assert not hasattr(scalselect, "numpy")


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", scalselect.__version__)


def module_names():
    found = pkgutil.walk_packages(scalselect.__path__, "scalselect.")
    return [module.name for module in found if module.name != "scalselect.__main__"]


def test_no_module_carries_the_name_of_a_public_function():
    names = module_names()
    assert "scalselect.pipeline" in names
    assert "scalselect.vlm.checkpoint" in names
    taken = {name for name in names if name.rpartition(".")[2] in scalselect.__all__}
    assert taken == set()


def test_public_functions_stay_callable_once_every_module_is_imported():
    for name in module_names():
        module = importlib.import_module(name)
        assert module.__doc__, f"{name} does not say what it is"
    for name in FUNCTIONS:
        assert inspect.isfunction(getattr(scalselect, name)), name


def test_importing_the_package_loads_next_to_nothing():
    code = (
        "import sys, scalselect\n"
        "heavy = {'numpy', 'scipy', 'pyarrow', 'msgspec', 'PIL', 'torch', 'transformers', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)), sorted(name for name in sys.modules if name[:10] == 'scalselect'))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[] ['scalselect']\n"
