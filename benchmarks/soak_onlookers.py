"""Those of `http_soak` who write nothing: watchers, and a steward who looks after the store meanwhile."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.soak_owners import Owner, number_of, value_of
from benchmarks.soak_wire import Tally, Wire
from flash_kv.client.events import EventReader

# What a watcher without end is told first: so many bytes a second are less than is written.
SLOW_PIECE_BYTES = 16_384
SLOW_PAUSE_S = 0.5
CATCH_UP_S = 60.0


class Watcher:
    """Follows the keys of one owner, and knows in the end what the owner knows."""

    def __init__(self, owner: Owner, tally: Tally, *, is_slow: bool = False) -> None:
        self.owner = owner
        self.tally = tally
        self.is_slow = is_slow
        self.wire = Wire(owner.wire.address, tally)
        self.seen: dict[str, int | None] = {}
        self.lsn = 0
        self.begun = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        prefix = "" if self.is_slow else f"&prefix={self.owner.prefix}"
        events = EventReader()
        try:
            _, writer = await self.wire.open()
            writer.write(f"GET /v1/watch?values=true{prefix} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            reply = await self.wire.read_head()
            self.tally.count("watch", reply.status, 0)
            while chunk := await self.wire.read_chunk():
                for event in events.feed(chunk):
                    self._take(event.kind, json.loads(event.data))
                if self.is_slow:
                    await asyncio.sleep(SLOW_PAUSE_S * len(chunk) / SLOW_PIECE_BYTES)
            self.tally.blame("end", "a watch ended by itself")
        except (OSError, EOFError, ValueError) as error:
            self.tally.blame("transport", f"watch: {error!r}")
        finally:
            await self.wire.close()

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        self.tally.notes[f"{'slow ' if self.is_slow else ''}watch: {kind}"] += 1
        if data["lsn"] < self.lsn:
            self.tally.blame("value", f"a watch went back from {self.lsn} to {data}")
        self.lsn = data["lsn"]
        if kind == "missed":
            self.seen.clear()
        elif kind == "delete":
            self.seen[data["key"]] = None
        elif kind == "put":
            self._take_put(data)
        self.begun.set()

    def _take_put(self, data: dict[str, Any]) -> None:
        key = data["key"]
        value = base64.b64decode(data["value_b64"]) if "value_b64" in data else data.get("value", "").encode()
        if not value:
            # Too large for an event.
            self.seen.pop(key, None)
            return
        number = self.seen[key] = number_of(value)
        wanted = value_of("t" if key.startswith("t") else key, number)
        if value != wanted:
            self.tally.blame("value", f"a watch said that {key} is {value[:40]!r}")

    async def check(self) -> None:
        """Once it has come to the owner's last write: what it has seen is what the owner knows."""
        lsn = await self.owner.last_write()
        deadline = time.monotonic() + CATCH_UP_S
        while self.lsn < lsn and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self.lsn < lsn:
            self.tally.blame("end", f"a watch stays behind: {self.lsn} of {lsn}")
        for key, number in self.seen.items():
            if number != self.owner.known.get(key):
                self.tally.blame(
                    "value", f"a watch says write {number} of {key}: {self.owner.known.get(key)}"
                )


class Steward:
    """Figures, compactions, verifications and backups, one after the other."""

    def __init__(self, address: tuple[str, int], tally: Tally, backups: Path, pause_s: float) -> None:
        self.wire = Wire(address, tally)
        self.tally = tally
        self.backups = backups
        self.pause_s = pause_s

    async def run(self, until: float) -> None:
        jobs = (self.compact, self.verify, self.compact, self.backup)
        number = 0
        while time.monotonic() < until:
            for path in ("/v1/stats", "/metrics", "/healthz", "/v1/segments", "/v1/slowlog", "/v1/biggest"):
                await self.wire.ask("look after", "GET", path, expected=(200,))
            await jobs[number % len(jobs)]()
            number += 1
            await asyncio.sleep(min(self.pause_s, max(until - time.monotonic(), 0)))

    async def compact(self) -> None:
        await self._job("compaction")

    async def verify(self) -> None:
        await self._job("verify")

    async def _job(self, kind: str) -> None:
        target = f"/v1/{kind}"
        if not await self.wire.ask(kind, "POST", target, expected=(202,)):
            return
        while reply := await self.wire.ask(f"{kind} state", "GET", target, expected=(200,)):
            state = reply.json()
            if state["state"] != "running":
                is_good = state["state"] == "done" and not state["report"].get("damages")
                if not is_good:
                    self.tally.blame("end", f"{kind}: {state}")
                return
            await asyncio.sleep(0.2)

    async def backup(self) -> None:
        body = json.dumps({"name": "soak"}).encode()
        await self.wire.ask("backup", "POST", "/v1/backup", body, expected=(201,))
        await asyncio.to_thread(shutil.rmtree, self.backups / "soak", ignore_errors=True)

    async def connections(self) -> int:
        """How many the server says there are."""
        reply = await self.wire.ask("look after", "GET", "/v1/stats", expected=(200,))
        return -1 if reply is None else int(reply.json()["server"]["connections"])


async def look_at_live(address: tuple[str, int], tally: Tally) -> None:
    """The figures of every second, until cancelled."""
    wire = Wire(address, tally)
    with contextlib.suppress(OSError):
        try:
            _, writer = await wire.open()
            writer.write(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await wire.read_head()
            while await wire.read_chunk():
                tally.notes["live: samples"] += 1
        finally:
            await wire.close()
