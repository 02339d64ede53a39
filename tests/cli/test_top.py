"""`flash-kv top`: the figures of a server on the screen, followed through losses, driven by textual's own pilot."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")
pytest.importorskip("uvicorn")

from textual.widgets import DataTable, ProgressBar, Sparkline, Static

from flash_kv.cli.top import figures
from flash_kv.cli.top.feed import Refused, Sample, live_figures
from flash_kv.cli.top.screen import Top
from flash_kv.server.http import live
from support.servers import served

SAMPLE: Sample = {
    "at": 1.0,
    "ops": {"read": 1500.0, "write": 300.0, "delete": 2, "list": 1, "other": 9},
    "latency_us": {"p50": 80, "p99": 1200, "max": 2_500_000},
    "bytes_in": 2048,
    "bytes_out": 4096,
    "connections": 7,
    "keys": 12345,
    "live_bytes": 3000,
    "dead_bytes": 1000,
    "disk_bytes": 1 << 20,
    "segments": 3,
    "lsn": 9,
    "compaction": {"state": "running", "progress": 0.25, "bytes_done": 1024, "bytes_total": 4096},
}


def shown(app: Top) -> dict[str, str]:
    table = app.query_one(DataTable)
    return dict(table.get_row_at(number) for number in range(table.row_count))


def drive(app: Top, *steps: Callable[[], object], keys: str = "") -> None:
    """Run the app without a terminal: wait for each step to be true, pressing a key between two of them."""

    async def run() -> None:
        async with app.run_test(size=(100, 40)) as pilot:
            for number, step in enumerate(steps):
                async with asyncio.timeout(30):
                    while not step():
                        await pilot.pause(0.02)
                if number < len(keys):
                    await pilot.press(keys[number])

    asyncio.run(run())


def feed_of(
    *samples: Sample | None, then_hold: bool = True
) -> Callable[[], AsyncGenerator[Sample | None, None]]:
    async def feed() -> AsyncGenerator[Sample | None, None]:
        for sample in samples:
            yield sample
        if then_hold:
            await asyncio.Event().wait()

    return feed


def test_a_sample_is_on_the_screen() -> None:
    app = Top(feed_of(SAMPLE), "there")

    def is_there() -> bool:
        return shown(app).get("reads/s") == "1,500"

    def is_whole() -> bool:
        table = shown(app)
        assert table["latency p99"] == "1.2 ms"
        assert table["latency max"] == "2.5 s"
        assert table["dead"] == "1000 B (25%)"
        assert table["keys"] == "12,345"
        assert list(app.query_one("#requests", Sparkline).data or [])[-1] == 1803
        assert "1 KiB of 4 KiB" in str(app.query_one("#compaction-text", Static).content).replace(".0", "")
        bar = app.query_one("#progress", ProgressBar)
        assert bar.display
        assert bar.progress == 0.25
        return True

    drive(app, is_there, is_whole)


def test_a_lost_server_is_said_and_figures_go_on() -> None:
    gate = asyncio.Event()

    async def feed() -> AsyncGenerator[Sample | None, None]:
        yield SAMPLE
        yield None
        await gate.wait()
        yield {**SAMPLE, "keys": 1, "compaction": {"state": "idle"}}
        await asyncio.Event().wait()

    app = Top(feed, "there")

    def is_lost() -> bool:
        if app.sub_title != "not reachable, trying again":
            return False
        gate.set()
        return True

    drive(app, is_lost, lambda: shown(app)["keys"] == "1" and app.sub_title == "live")


def test_p_holds_the_figures_and_q_leaves() -> None:
    async def feed() -> AsyncGenerator[Sample | None, None]:
        number = 0
        while True:
            number += 1
            yield {**SAMPLE, "keys": number}
            await asyncio.sleep(0.01)

    app = Top(feed, "there")
    seen: list[str] = []

    def is_held() -> bool:
        seen.append(shown(app)["keys"])
        return app.is_paused and len(seen) > 5 and len(set(seen[-5:])) == 1

    drive(
        app,
        lambda: shown(app).get("keys"),
        is_held,
        lambda: shown(app)["keys"] != seen[-1],
        keys="ppq",
    )
    assert (app.return_code, app.return_value) == (0, None)


@pytest.mark.parametrize(
    "sample",
    [
        {},
        {"ops": 5, "latency_us": None, "compaction": "x"},
        {"ops": {"read": "many"}, "keys": True, "live_bytes": []},
    ],
    ids=repr,
)
def test_a_sample_that_is_none_shows_zeros(sample: Sample) -> None:
    assert dict(figures.rows(sample))["reads/s"] == "0"
    assert figures.requests(sample) == 0
    assert figures.compaction(sample) == ("compaction: unknown", None)


def first_samples(url: str, count: int, token: str | None = None) -> list[Sample | None]:
    async def take() -> list[Sample | None]:
        found: list[Sample | None] = []
        feed = live_figures(url, token, retry_s=0.01)
        async for sample in feed:
            found.append(sample)
            if len(found) == count:
                break
        await feed.aclose()
        return found

    return asyncio.run(take())


def test_the_figures_of_a_server_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.05)
    with served(tmp_path / "db") as one:
        one.db["a"] = b"1"
        app = Top(lambda: live_figures(one.url), one.url)
        drive(app, lambda: shown(app).get("keys") == "1")


def test_a_server_that_ends_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.05)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert first_samples(f"http://127.0.0.1:{port}", 3) == [None, None, None]
    with served(tmp_path / "db") as one:
        samples = first_samples(one.url, 2)
    assert all(sample is not None for sample in samples)


class Stranger(BaseHTTPRequestHandler):
    """Some other HTTP server."""

    answer: tuple[int, str, bytes] = (200, "text/plain", b"hello")

    def do_GET(self) -> None:
        status, kind, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "application/problem+json", b"{}"), "token"),
        ((404, "text/html", b""), "answers 404"),
        ((200, "text/plain", b"hello"), "answers 200"),
        ((200, "text/event-stream", b"data: {\n\n"), "not JSON"),
        ((200, "text/event-stream", b"data: " + b"x" * (1 << 21)), "without an end"),
    ],
    ids=["unauthorized", "missing", "plain", "broken", "endless"],
)
def test_what_is_no_server_of_ours_is_told(answer: tuple[int, str, bytes], said: str) -> None:
    handler = type("One", (Stranger,), {"answer": answer})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(Refused, match=said):
                first_samples(f"http://127.0.0.1:{server.server_address[1]}", 1)
        finally:
            server.shutdown()
            thread.join()


def test_a_refusal_ends_the_screen_with_its_reason() -> None:
    async def feed() -> AsyncGenerator[Sample | None, None]:
        raise Refused("no")
        yield None

    app = Top(feed, "there")

    async def run() -> None:
        async with app.run_test() as pilot:
            while app.return_value is None:
                await pilot.pause(0.01)

    asyncio.run(run())
    assert app.return_value == "no"


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://a/b", "http://a:0", "http://a:x", "http://u:p@a"]
)
def test_what_is_no_url_is_wrong_usage(run: Callable[..., Any], url: str) -> None:
    outcome = run("top", url)
    assert outcome.code == 2
    assert "no URL" in outcome.stderr


def test_a_file_without_a_token_is_wrong_usage(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two tokens")
    outcome = run("top", "--token-file", str(tmp_path / "token"))
    assert outcome.code == 2
    assert "has not one token" in outcome.stderr
