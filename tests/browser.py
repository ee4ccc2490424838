"""A headless Chromium for tests of pages, and what they may not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the Chromium at hand; skips the test where there is none."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(
            "no Chromium on this machine: install one (Debian's package is chromium), or set CHROMIUM to its path"
        )
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])  # as root, too
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser, index: Path, width: int = 1280, **context: Any) -> Iterator[Page]:
    """Open a page of a folder. It must log no error, and ask for nothing but its own files."""
    tab = browser.new_context(viewport={"width": width, "height": 900}, **context)
    page, faults = tab.new_page(), list[str]()
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if is_local(asked.url, index) else faults.append(asked.url))
    page.goto(index.as_uri())
    yield page
    tab.close()
    assert not faults


def is_local(address: str, index: Path) -> bool:
    return address.startswith((index.parent.as_uri(), "data:", "blob:"))
