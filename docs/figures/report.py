"""Take screenshots of the report of the demo's pair, wide and narrow, light and dark: images/report-*.png.

python docs/figures/report.py    # needs Chromium and what `make test-browser` installs; a minute
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parents[1] / "images"
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
HEIGHTS = {1440: 1500, 390: 1500}  # height of the screenshots
COLOURS = 128  # a palette makes the files a third as large


def maxca(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "maxca", *map(str, words), "--quiet"], check=True)


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        demo, result = Path(folder) / "demo", Path(folder) / "result"
        maxca("demo", "-o", demo)
        maxca("register", "-f", demo / "fixed.nii.gz", "-m", demo / "moving.nii.gz", "-o", result, "--report")
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        for width, height in HEIGHTS.items():
            for scheme in ("light", "dark"):
                page = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
                ).new_page()
                page.goto((result / "report.html").as_uri())
                page.wait_for_selector("canvas[data-ready=true]", timeout=60_000)
                page.wait_for_timeout(1000)
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                shot.quantize(COLOURS, method=Image.Quantize.MEDIANCUT).save(
                    OUT / f"report-{width}-{scheme}.png", optimize=True
                )
        browser.close()


if __name__ == "__main__":
    main()
