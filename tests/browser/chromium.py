"""Headless Chromium that may open files and nothing else, and that keeps everything a page complains about."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Smooth scrolling would still go on while places on the screen are looked up.
_ALWAYS = {"offline": True, "reduced_motion": "reduce"}
ALLOWED = ("file:", "data:", "about:")

# Runs before the page's own scripts, in a context that its policy does not bind.
_WATCH = """
window.seen = { violations: [], shifts: [], pwned: [] };
document.addEventListener("securitypolicyviolation",
  (event) => seen.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    seen.shifts.push({ value: entry.value, at: entry.startTime, typed: entry.hadRecentInput,
      what: entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName) });
  }
}).observe({ type: "layout-shift", buffered: true });
"""


def executable():
    """Return where Chromium lies; in continuous integration a test without it fails, elsewhere it is skipped."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        why = "no Chromium is installed: `apt-get install --no-install-recommends chromium`, or your system's package"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return path


@contextmanager
def opened(browser, file, *, size=DESKTOP, dark=False, script=True, **options):
    """Open a file in a context of its own and yield the page; at the end nothing may have been said or fetched.

    Parameters
    ----------
    file
        A page on disk.
    size
        Pixels of the window.
    script
        Whether scripts run.
    options
        Of Playwright's `new_context`.
    """
    context = browser.new_context(
        viewport=size, color_scheme="dark" if dark else "light", java_script_enabled=script, **{**_ALWAYS, **options}
    )
    complaints = []
    try:
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: complaints.append(f"console {said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("crash", lambda _: complaints.append("the page crashed"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda popup: complaints.append(f"window: {popup.url}"))
        context.on("request", lambda request: complaints.append(f"request: {request.url}") if _far(request) else None)
        page.add_init_script(_WATCH)
        page.goto(file.as_uri(), wait_until="load")
        yield page
        if script:
            complaints += [f"policy: {each}" for each in page.evaluate("seen.violations")]
            complaints += [f"ran: {each}" for each in page.evaluate("window.__pwned === undefined ? [] : ['__pwned']")]
    finally:
        context.close()
    assert not complaints, complaints


def _far(request):
    return not request.url.startswith(ALLOWED)
