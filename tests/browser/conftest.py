"""Pages in a real browser: one Chromium for each process, pages built once for all."""

from __future__ import annotations

import pytest
from chromium import ARGUMENTS, executable, opened

from small_pools import scores_of


@pytest.fixture(scope="package")
def browser():
    """Start Chromium; of the package, so that its event loop is gone when other tests run in this process."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """Return a function (file, **options) -> a context manager that opens a page; see `chromium.opened`."""

    def shown(file, **options):
        return opened(browser, file, **options)

    return shown


@pytest.fixture(scope="session")
def run(built_once):
    """Return the folder of a run of two data sets, with bad rows, strata, and attention of some rows."""
    from built_runs import build_small

    return built_once("browser/small", build_small) / "run"


@pytest.fixture(scope="session")
def report(run):
    """Return the page of that run."""
    return run / "report.html"


@pytest.fixture(scope="session")
def scores(run):
    """Return its scores.parquet, columns as lists."""
    return scores_of(run)


@pytest.fixture(scope="session")
def other(run):
    """Return the folder of a second run of the same data, that keeps less energy."""
    return run.parent / "other"


@pytest.fixture(scope="session")
def comparison(run):
    """Return the page of both."""
    return run / "comparison.html"


@pytest.fixture(scope="session")
def hostile_report(built_once):
    """Return the page of a run in which every text of the data wants to be more than text."""
    from hostile_run import build_hostile

    return built_once("browser/hostile", build_hostile) / "run" / "report.html"


@pytest.fixture(scope="session")
def hostile_comparison(hostile_report):
    """Return the page of two such runs."""
    return hostile_report.with_name("comparison.html")


@pytest.fixture(scope="session")
def large(built_once):
    """Return the folder of a run of 600,000 rows; `report.html` lies there, `seconds.json` tells what it cost."""
    from built_runs import build_large

    return built_once("browser/large", build_large) / "run"
