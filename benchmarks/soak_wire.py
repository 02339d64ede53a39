"""One keep-alive connection of `http_soak`, and what all of them count together.

Written over bare streams: a client library would take more of the machine than the server does. What comes back is
read as strictly as a test would read it: lengths, chunks, nothing behind an answer.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

LINE_BYTES_MAX = 1 << 22
ANSWER_S_MAX = 60.0
PROBLEMS_SHOWN = 20
BUCKETS_PER_DOUBLING = 8


@dataclass
class Reply:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Tally:
    """Answers by kind and status, latencies by kind, and everything that was not as it should be."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    latencies: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    notes: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def count(self, kind: str, status: int, seconds: float) -> None:
        self.answers[kind, status] += 1
        self.latencies[kind][int(BUCKETS_PER_DOUBLING * math.log2(max(seconds * 1e6, 1.0)))] += 1

    def blame(self, what: str, detail: str) -> None:
        """Note a failure of the kind `what`: "status", "transport", "value", "memory", "end"."""
        self.problems[what] += 1
        if len(self.shown) < PROBLEMS_SHOWN:
            self.shown.append(f"{what}: {detail}")

    def quantile_ms(self, kind: str, share: float) -> float:
        """The upper end of the bucket that holds it."""
        buckets = sorted(self.latencies[kind].items())
        left = share * sum(count for _, count in buckets)
        for bucket, count in buckets:
            left -= count
            if left <= 0:
                return float(2.0 ** ((bucket + 1) / BUCKETS_PER_DOUBLING) / 1000)
        return 0.0


class Wire:
    """A connection that is opened again when the server or this side has closed it."""

    def __init__(self, address: tuple[str, int], tally: Tally) -> None:
        self.address = address
        self.tally = tally
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(*self.address, limit=LINE_BYTES_MAX)
        return self.reader, self.writer

    async def close(self) -> None:
        writer, self.reader, self.writer = self.writer, None, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                return  # the server was first

    async def ask(
        self,
        kind: str,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        expected: tuple[int, ...],
        **headers: str,
    ) -> Reply | None:
        """The answer, counted under `kind`; None when there was none or one of a status that is not expected."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                _, writer = await self.open()
                writer.write(head + body if body else head)
                await writer.drain()
                reply = await self.read(method)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.tally.blame("transport", f"{method} {target}: {error!r}")
            await self.close()
            return None
        self.tally.count(kind, reply.status, time.perf_counter() - began)
        if reply.headers.get("connection") == "close":
            await self.close()
        if reply.status in expected:
            return reply
        self.tally.blame(
            "status", f"{kind}: {method} {target[:80]} answered {reply.status} {reply.body[:200]!r}"
        )
        return None

    async def read_head(self) -> Reply:
        """The head of an answer. ValueError when it is none."""
        reader, _ = await self.open()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")[:-2]
        version, status, _ = lines[0].split(" ", 2)
        if version != "HTTP/1.1":
            raise ValueError(f"no answer: {lines[0][:80]!r}")
        pairs = (line.split(": ", 1) for line in lines[1:])
        return Reply(int(status), {name.lower(): value for name, value in pairs})

    async def read(self, method: str) -> Reply:
        """A whole answer to `method`."""
        reply = await self.read_head()
        reader, _ = await self.open()
        if method == "HEAD" or reply.status in (204, 304):
            return reply
        if reply.headers.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.read_chunk():
                pieces.append(piece)
            reply.body = b"".join(pieces)
        else:
            reply.body = await reader.readexactly(int(reply.headers["content-length"]))
        return reply

    async def read_chunk(self) -> bytes:
        """The next chunk of a streamed answer; empty at its end."""
        reader, _ = await self.open()
        size = int(await reader.readuntil(b"\r\n"), 16)
        chunk = await reader.readexactly(size + 2)
        if not chunk.endswith(b"\r\n"):
            raise ValueError("a chunk is longer than it says")
        return chunk[:-2]
