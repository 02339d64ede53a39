"""A headless Chromium, and a page in it that reports whatever a reader of the console must never meet."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

# The package's own name for it first; a path of another one may be given.
CHROMIUM = (
    os.environ.get("FLASH_KV_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
)
# Root has no sandbox; the rest keeps the browser from asking its maker's hosts for anything.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A hang is a failure, a busy machine is not.
DEADLINE_MS = 30_000

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 860}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page of the console, and what went wrong on it."""

    page: Page
    url: str
    expected_statuses: set[int] = field(default_factory=set)
    """Answers a test provokes; a browser reports each as an error of its own."""
    complaints: list[str] = field(default_factory=list)

    def heard(self, message: ConsoleMessage) -> None:
        status = re.search(r"status of (\d{3})", message.text)
        if status is not None and int(status[1]) in self.expected_statuses:
            return
        if message.type in {"error", "warning"}:
            self.complaints.append(f"console {message.type}: {message.text}")

    def requested(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", f"blob:{self.url}/")):
            self.complaints.append(f"outside request: {request.url}")

    def go(self, view: str) -> None:
        self.page.goto(f"{self.url}/#/{view}")

    def width(self) -> int:
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert isinstance(width, int)
        return width


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A fresh page without anything kept; at its end, complaints are a failure."""
    context = browser.new_context(**{**DESKTOP, "locale": "en-GB", "service_workers": "block", **options})
    context.set_default_timeout(DEADLINE_MS)
    try:
        page = context.new_page()
        visit = Visit(page, url)
        page.on("console", visit.heard)
        page.on("pageerror", lambda error: visit.complaints.append(f"uncaught: {error}"))
        page.on("request", visit.requested)
        yield visit
        assert visit.complaints == []
    finally:
        context.close()
