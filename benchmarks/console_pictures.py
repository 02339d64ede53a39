"""The pictures of docs/console.md: the console of a real server with a real load, in a headless Chromium.

    make console-pictures

The store is a temporary one; nothing in a picture is painted by hand. Needs a Chromium, and Pillow to make the files
small.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flash_kv
from flash_kv.server.process import running
from flash_kv.server.service import Service
from flash_kv.server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SEED = 7
# So long a load that the charts have something to show.
WARM_UP_S = 75.0
COLORS = 128
# The background compaction is slowed down, so that it can be seen.
STORE: dict[str, Any] = {
    "segment_bytes_max": 1 << 20,
    "compaction_dead_bytes": 0,
    "compaction_rate_bytes_per_s": 75_000,
}
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 720},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


def fill(db: flash_kv.DB, rng: random.Random) -> None:
    """Accounts, sessions that end, pages: some of it written again and again, so that segments differ."""
    for number in range(4000):
        account = {"id": number, "name": f"Account {number}", "plan": rng.choice(["free", "team", "plus"])}
        db.put(b"account:%05d" % number, json.dumps({**account, "credit": "12.50"}).encode())
    for number in range(900):
        db.put(b"page:/docs/%03d.html" % number, b"<p>" + rng.randbytes(900).hex().encode())
    for _ in range(22_000):
        db.put(b"session:%04x" % rng.randrange(6000), rng.randbytes(700))


class Load(threading.Thread):
    """Requests over HTTP until it is told to stop, some more at one time than at another."""

    def __init__(self, url: str) -> None:
        super().__init__(name="load")
        self.url = url
        self.stopped = threading.Event()

    def run(self) -> None:
        rng = random.Random(SEED)
        while not self.stopped.is_set():
            number = rng.randrange(4000)
            if rng.random() < 0.75:
                request = urllib.request.Request(f"{self.url}/v1/kv/account:{number:05d}")
            else:
                body = json.dumps({"user": number, "page": f"/docs/{number % 900:03d}.html"}).encode()
                url = f"{self.url}/v1/kv/event:{number % 500:04d}"
                request = urllib.request.Request(url, data=body, method="PUT")
            with urllib.request.urlopen(request) as answer:
                answer.read()
            # Waves, as the day has them.
            time.sleep(0.002 * (1 + (time.time() % 20) / 10))


@contextmanager
def store_under_load() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "backups").mkdir()
        settings = ServerSettings(http="127.0.0.1:0", backup_directory=folder / "backups", slow_request_ms=5)
        with (
            flash_kv.open(folder / "store", **STORE) as db,
            running(Service(db, settings)) as url,
        ):
            fill(db, random.Random(SEED))
            load = Load(url)
            load.start()
            try:
                yield url
            finally:
                load.stopped.set()
                load.join()


def shrink(path: Path) -> None:
    """A palette is enough for flat colours, and a fraction of the bytes."""
    from PIL import Image

    with Image.open(path) as image:
        flat = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    flat.save(path, optimize=True)


def take(browser: Any, url: str, name: str, view: str, options: dict[str, Any], act: Any = None) -> None:
    context = browser.new_context(locale="en-GB", **options)
    try:
        page = context.new_page()
        page.goto(f"{url}/#/{view}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_timeout(1500)
        if act is not None:
            act(page)
        path = IMAGES / f"console-{name}.png"
        page.screenshot(path=path)
        shrink(path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    finally:
        context.close()


def watch_values(page: Any) -> None:
    page.get_by_label("Values").check()
    page.locator(".event-value", has_text="{").nth(24).wait_for()


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from support.browser import chromium

    with store_under_load() as url, chromium() as browser:
        # The charts begin when somebody looks.
        page = browser.new_page(locale="en-GB", **WIDE)
        page.goto(url)
        dark = browser.new_page(locale="en-GB", color_scheme="dark", **WIDE)
        dark.goto(url)
        phone = browser.new_page(locale="en-GB", **PHONE)
        phone.goto(url)
        time.sleep(WARM_UP_S)
        for one, name in ((page, "overview"), (dark, "dark"), (phone, "phone")):
            path = IMAGES / f"console-{name}.png"
            one.locator(".segment.is-compacting").first.wait_for()
            one.screenshot(path=path)
            shrink(path)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
            one.close()
        take(browser, url, "keys", "keys?prefix=account:&key=account:00003", WIDE)
        take(browser, url, "watch", "watch?prefix=event:", {**WIDE, "color_scheme": "dark"}, watch_values)
        take(browser, url, "sizes", "sizes", WIDE)
        take(browser, url, "phone-keys", "keys?prefix=account:&key=account:00003", PHONE)
        take(browser, url, "phone-sizes", "sizes", {**PHONE, "color_scheme": "dark"})


if __name__ == "__main__":
    main()
