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
    in_flight: list[Request] = field(default_factory=list)

    def heard(self, message: ConsoleMessage) -> None:
        status = re.search(r"status of (\d{3})", message.text)
        if status is not None and int(status[1]) in self.expected_statuses:
            return
        if message.type in {"error", "warning"}:
            self.complaints.append(f"console {message.type}: {message.text}")

    def requested(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", f"blob:{self.url}/")):
            self.complaints.append(f"outside request: {request.url}")
        if not request.url.startswith((f"{self.url}/v1/live", f"{self.url}/v1/watch")):
            self.in_flight.append(request)

    def answered(self, request: Request) -> None:
        if request in self.in_flight:
            self.in_flight.remove(request)

    def settle(self) -> None:
        """Wait until what the view asked for has come, streams left out, and is painted."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(frames)
        while self.in_flight:
            self.page.wait_for_timeout(5)
        self.page.evaluate(frames)

    def go(self, view: str) -> None:
        self.page.goto(f"{self.url}/#/{view}")

    def width(self) -> int:
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert isinstance(width, int)
        return width


@contextmanager
def new_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A fresh page without anything kept."""
    context = browser.new_context(**{**DESKTOP, "locale": "en-GB", "service_workers": "block", **options})
    context.set_default_timeout(DEADLINE_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A visit on a fresh page; at its end, complaints are a failure."""
    with new_page(browser, **options) as page, on_page(page, url) as visit:
        yield visit


@contextmanager
def on_page(page: Page, url: str) -> Iterator[Visit]:
    """A visit on a page that others use after it; what an origin keeps is kept by `url`, which is to be a new one."""
    visit = Visit(page, url)
    listeners = {
        "console": visit.heard,
        "pageerror": lambda error: visit.complaints.append(f"uncaught: {error}"),
        "request": visit.requested,
        "requestfinished": visit.answered,
        "requestfailed": visit.answered,
    }
    for name, listener in listeners.items():
        page.on(name, listener)  # type: ignore[call-overload]
    try:
        yield visit
        assert visit.complaints == []
    finally:
        for name, listener in listeners.items():
            page.remove_listener(name, listener)
        page.unroute_all(behavior="ignoreErrors")
        page.goto("about:blank")
