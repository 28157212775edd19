"""Take the pictures of docs/report.md: the page of a run at two widths, light and dark.

``python examples/take_screenshots.py RUN_DIR FOLDER`` needs the package ``playwright`` and an installed Chromium, and
downloads nothing. FOLDER then holds ``report-PART-WIDTH-SCHEME.png``.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}  # pixels of the window
SCHEMES = ("light", "dark")
PARTS = ("happened", "map", "samples")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SHOWN_PLACE = b"/home/me/demo"  # in place of the folder that holds the run folder: pictures name no machine
COLOURS = 200  # of a picture, which makes its file a third as large


def main() -> None:
    """Read the command line and take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of the page of a run.")
    parser.add_argument("run_dir", type=Path, help="run folder with report.html")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    arguments = parser.parse_args()
    for path in take_screenshots(arguments.run_dir / "report.html", arguments.folder):
        print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


def take_screenshots(report: Path, folder: Path) -> list[Path]:
    """Write a picture of each part of a page, width and scheme, and return their paths."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium is installed: `apt-get install chromium`, or your system's package")
    if not report.exists():
        raise SystemExit(f"there is no page: {report}; `scalselect report {report.parent}` writes it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        copy = Path(place) / "report.html"
        here = str(report.resolve().parents[1]).encode()
        copy.write_bytes(report.read_bytes().replace(here, SHOWN_PLACE))
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        taken = [*_all_pictures(browser, copy, folder)]
        browser.close()
    return taken


def _all_pictures(browser: Browser, report: Path, folder: Path) -> Iterator[Path]:
    for name, (width, height) in WIDTHS.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
                offline=True,
            )
            page = context.new_page()
            page.goto(report.as_uri())
            for part in PARTS:
                path = folder / f"report-{part}-{name}-{scheme}.png"
                path.write_bytes(_picture(page, part))
                yield path
            context.close()


def _picture(page: Page, part: str) -> bytes:
    """Return a picture of the window with a part of the page at its top, as PNG of few colours."""
    if part == "map":  # a row is kept beside it
        page.locator("#map-canvas").focus()
        for key in ("Home", "PageDown", "PageDown", "Enter"):
            page.keyboard.press(key)
        page.evaluate("document.activeElement.blur()")
    if part == "happened":
        page.evaluate("window.scrollTo(0, 0)")
    else:
        page.evaluate("(id) => document.getElementById(id).scrollIntoView()", part)
    page.wait_for_function("[...document.images].every((each) => each.complete)")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    content = io.BytesIO()
    few = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(content, "PNG", optimize=True)
    return content.getvalue()


if __name__ == "__main__":
    main()
