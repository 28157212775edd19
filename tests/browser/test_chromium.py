"""A browser that is missing: told, and no silent success where everything must be tested."""

from __future__ import annotations

import pytest
from chromium import executable


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_chromium_tests_fail_where_all_must_run_and_are_skipped_elsewhere(monkeypatch, tmp_path, ci, outcome):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install --no-install-recommends chromium"):
        executable()
