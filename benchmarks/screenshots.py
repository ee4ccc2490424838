"""The pictures of pages in docs/images: python -m benchmarks.screenshots report/index.html docs/images/report.png"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1100, 860
SHORT = """
    main > :not(.tools, .legend, #videos) { display: none !important; }
    main { padding: 8px 16px !important; }
"""  # the list of videos alone


def take_picture(page_path: Path, picture: Path) -> None:
    """Save the list of videos of a page as a picture of 256 colors; the first player is opened."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(page_path.absolute().as_uri())
        page.add_style_tag(content=SHORT)
        timeline = page.locator(".video:has(.play) .box").first
        if timeline.count():
            timeline.click(position={"x": 600, "y": 40})
            page.wait_for_function("document.querySelector('video').readyState >= 2")
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1000)
        image = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=4).save(picture, optimize=True)


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]), Path(sys.argv[2]))
