"""Those of `http_soak` who own keys: each has one connection, and knows what every key of its own holds.

Nobody else writes there, so every answer can be foretold. A value says which write it is, so that a watcher can check
it too. The keys are bounded: what the store holds stops growing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from benchmarks.soak_wire import Reply, Tally, Wire
from flash_kv.client.frames import MEDIA_TYPE as FRAMES
from flash_kv.client.frames import FrameReader, pack

NDJSON = "application/x-ndjson"
KEYS_EACH = 40
# Times 200 owners and 40 keys of some 900 bytes: more than the 16 MiB of changes kept for watchers.
WARM_UPS = 4
TTL_S = 1.0
# Of the clock and of the answer's way.
TTL_TOLERANCE_S = 0.2
FILLER = random.Random(1).randbytes(1 << 21)
# Mostly small, some of several packets, a few that are spooled.
SIZES = [0, *[20 * number for number in range(1, 30)], 4000, 16_000, 70_000]
SPOOLED_BYTES = 1_500_000
ONE_IN = 700


def value_of(key: str, number: int) -> bytes:
    """What write `number` of `key` stores."""
    size = SPOOLED_BYTES if number % ONE_IN == ONE_IN - 1 else SIZES[number * 7 % len(SIZES)]
    begin = number * 31 % 4096
    return f"{key}:{number}:".encode() + FILLER[begin : begin + size]


def number_of(value: bytes) -> int:
    """Which write a value is."""
    return int(value.split(b":", 2)[1])


class Owner:
    """One client that reads and writes, checking every answer."""

    def __init__(self, number: int, address: tuple[str, int], tally: Tally, seed: int) -> None:
        self.prefix = f"c{number:03}/"
        self.keys = [f"{self.prefix}{index:02}" for index in range(KEYS_EACH)]
        self.known: dict[str, int] = {}
        self.etags: dict[str, str] = {}
        self.wire = Wire(address, tally)
        self.tally = tally
        self.random = random.Random(seed * 1000 + number)
        self.written = number * 13
        # When the key with a time to live was asked for and answered.
        self.expiring: tuple[int, float, float] | None = None

    async def run(self, until: float) -> None:
        """Requests one after the other until `until`, of the clock that `time.monotonic` is."""
        steps, weights = zip(*self._steps(), strict=True)
        while time.monotonic() < until:
            [step] = self.random.choices(steps, weights)
            await step()
            if self.tally.problems.total() > 1000:
                break

    def _steps(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [
            (self.get, 400),
            (self.put, 160),
            (self.delete, 50),
            (self.put_if, 60),
            (self.look, 40),
            (self.mget, 30),
            (self.batch, 50),
            (self.page, 30),
            (self.stream, 15),
            (self.count, 20),
            (self.load, 10),
            (self.delete_range, 4),
            (self.expire, 20),
            (self.mistake, 20),
            (self.leave, 4),
            (self.leave_halfway, 4),
        ]

    # -- what is expected

    def expect(self, kind: str, holds: bool, detail: object) -> None:
        if not holds:
            self.tally.blame("value", f"{kind} of {self.prefix}: {detail!r:.300}")

    def pick(self) -> str:
        return self.random.choice(self.keys)

    def next_value(self, key: str) -> tuple[int, bytes]:
        self.written += 1
        return self.written, value_of(key, self.written)

    def wrote(self, key: str, number: int, reply: Reply | None = None) -> None:
        self.known[key] = number
        self.etags.pop(key, None)
        if reply is not None:
            self.etags[key] = reply.headers["etag"]

    def forgot(self, key: str) -> None:
        self.known.pop(key, None)
        self.etags.pop(key, None)

    def contents(self) -> dict[str, bytes]:
        """All that this owner's keys hold."""
        return {key: value_of(key, self.known[key]) for key in sorted(self.known)}

    # -- single keys

    async def get(self) -> None:
        key = self.pick()
        number = self.known.get(key)
        expected = (404,) if number is None else (200,)
        reply = await self.wire.ask("get", "GET", f"/v1/kv/{quote(key)}", expected=expected)
        if reply is not None and number is not None:
            self.expect("get", reply.body == value_of(key, number), (key, number, reply.body[:40]))
            if key in self.etags:
                self.expect("etag", reply.headers["etag"] == self.etags[key], (key, reply.headers["etag"]))

    async def put(self) -> None:
        key = self.pick()
        number, value = self.next_value(key)
        expected = (204,) if key in self.known else (201,)
        reply = await self.wire.ask("put", "PUT", f"/v1/kv/{quote(key)}", value, expected=expected)
        if reply is not None:
            self.wrote(key, number, reply)

    async def last_write(self) -> int:
        """The LSN of one more write; 0 when it failed."""
        key = self.keys[0]
        number, value = self.next_value(key)
        reply = await self.wire.ask("put", "PUT", f"/v1/kv/{quote(key)}", value, expected=(201, 204))
        if reply is None:
            return 0
        self.wrote(key, number, reply)
        return int(reply.headers["etag"].strip('"'))

    async def delete(self) -> None:
        key = self.pick()
        expected = (204,) if key in self.known else (404,)
        if await self.wire.ask("delete", "DELETE", f"/v1/kv/{quote(key)}", expected=expected):
            self.forgot(key)

    async def put_if(self) -> None:
        """On the condition that it is as known, that it is as it never was, or that it is absent."""
        key = self.pick()
        number, value = self.next_value(key)
        kind = self.random.randrange(3)
        if kind == 0:
            condition, holds = {"If_None_Match": "*"}, key not in self.known
        elif kind == 1 or key not in self.etags:
            condition, holds = {"If_Match": '"9000000000000000000"'}, False
        else:
            condition, holds = {"If_Match": self.etags[key]}, True
        expected = ((204,) if key in self.known else (201,)) if holds else (412,)
        reply = await self.wire.ask(
            "put if", "PUT", f"/v1/kv/{quote(key)}", value, expected=expected, **condition
        )
        if reply is not None and holds:
            self.wrote(key, number, reply)

    async def look(self) -> None:
        """HEAD, a part, and what has not changed."""
        key = self.pick()
        number = self.known.get(key)
        if number is None:
            await self.wire.ask("head", "HEAD", f"/v1/kv/{quote(key)}", expected=(404,))
            return
        value = value_of(key, number)
        reply = await self.wire.ask("head", "HEAD", f"/v1/kv/{quote(key)}", expected=(200,))
        if reply is not None:
            self.expect("head", reply.headers["content-length"] == str(len(value)), (key, reply.headers))
        reply = await self.wire.ask(
            "part", "GET", f"/v1/kv/{quote(key)}", expected=(206,), Range="bytes=2-900"
        )
        if reply is not None:
            self.expect("part", reply.body == value[2:901], (key, reply.body[:40]))
        if key in self.etags:
            condition = {"If_None_Match": self.etags[key]}
            await self.wire.ask("unchanged", "GET", f"/v1/kv/{quote(key)}", expected=(304,), **condition)

    async def expire(self) -> None:
        """A value whose time runs out, seen before and after."""
        target = f"/v1/kv/t{self.prefix}key"
        if self.expiring is None:
            number, value = self.next_value("t")
            began = time.monotonic()
            reply = await self.wire.ask(
                "put ttl", "PUT", target, value, expected=(201, 204), FlashKV_TTL=str(TTL_S)
            )
            if reply is not None:
                self.expiring = number, began + TTL_S, time.monotonic() + TTL_S
            return
        number, alive_until, gone_from = self.expiring
        began = time.monotonic()
        reply = await self.wire.ask("get ttl", "GET", target, expected=(200, 404))
        if reply is None:
            return
        if reply.status == 200:
            self.expect("ttl", reply.body == value_of("t", number), reply.body[:40])
            self.expect("ttl", began < gone_from + TTL_TOLERANCE_S, "it outlived its time")
        else:
            self.expect("ttl", time.monotonic() > alive_until - TTL_TOLERANCE_S, "it was gone too early")
            self.expiring = None

    # -- many keys

    async def mget(self) -> None:
        keys = self.random.sample(self.keys, 8)
        reply = await self.wire.ask(
            "mget", "POST", "/v1/mget", json.dumps({"keys": keys}).encode(), expected=(200,)
        )
        if reply is not None:
            found = [None if item is None else _value(item) for item in reply.json()["items"]]
            wanted = [value_of(key, self.known[key]) if key in self.known else None for key in keys]
            self.expect("mget", found == wanted, keys)

    async def batch(self) -> None:
        """Writes and deletes, of which one in three must not be made."""
        keys = self.random.sample(self.keys, self.random.randint(1, 6))
        required = self.pick()
        holds = self.random.random() < 0.67
        is_there = (required in self.known) == holds
        require = [{"key": required, "etag": "*" if is_there else None}]
        ops: list[dict[str, Any]] = []
        numbers: dict[str, int | None] = {}
        for key in keys:
            if self.random.random() < 0.3:
                numbers[key] = None
                ops.append({"op": "delete", "key": key})
            else:
                numbers[key], value = self.next_value(key)
                ops.append({"op": "put", "key": key, "value_b64": base64.b64encode(value).decode()})
        body = json.dumps({"require": require, "ops": ops}).encode()
        reply = await self.wire.ask("batch", "POST", "/v1/batch", body, expected=(200,) if holds else (412,))
        if reply is None or not holds:
            return
        etags = reply.json()["etags"]
        is_all_deletes = not any(numbers.values())
        self.expect("batch", is_all_deletes or len(etags) == len(ops), etags)
        for index, (key, number) in enumerate(numbers.items()):
            if number is None:
                self.forgot(key)
            else:
                self.wrote(key, number)
                self.etags[key] = etags[index]

    async def page(self) -> None:
        """All keys of this owner, a page after the other."""
        found: dict[str, bytes] = {}
        cursor = ""
        while True:
            target = f"/v1/kv?prefix={self.prefix}&limit=17{cursor}"
            reply = await self.wire.ask("page", "GET", target, expected=(200,))
            if reply is None:
                return
            page = reply.json()
            found |= {item["key"]: _value(item) for item in page["items"]}
            if page["cursor"] is None:
                break
            cursor = f"&cursor={quote(page['cursor'], safe='')}"
        self.expect("page", found == self.contents(), sorted(found))

    async def stream(self) -> None:
        media_type = self.random.choice([NDJSON, FRAMES])
        target = f"/v1/kv?prefix={self.prefix}"
        reply = await self.wire.ask("stream", "GET", target, expected=(200,), Accept=media_type)
        if reply is None:
            return
        if media_type == NDJSON:
            items = [json.loads(line) for line in reply.body.splitlines()]
            found = {item["key"]: _value(item) for item in items}
        else:
            frames = FrameReader()
            found = {key.decode(): value for key, value, _ in frames.feed(reply.body)}
            self.expect("stream", frames.is_at_end, "no end")
        self.expect("stream", found == self.contents(), (media_type, sorted(found)))

    async def count(self) -> None:
        reply = await self.wire.ask("count", "GET", f"/v1/count?prefix={self.prefix}", expected=(200,))
        if reply is not None:
            self.expect("count", reply.json() == {"count": len(self.known)}, (reply.body, len(self.known)))

    async def warm_up(self) -> None:
        """Have all keys there, each written so often that what the server keeps of the last writes is full as well."""
        for _ in range(WARM_UPS):
            await self._load(self.keys)

    async def load(self) -> None:
        await self._load(self.random.sample(self.keys, 5))

    async def _load(self, keys: list[str]) -> None:
        numbers: dict[str, int] = {}
        body = b""
        for key in keys:
            numbers[key], value = self.next_value(key)
            body += pack(key.encode(), value)
        body += pack(b"", b"")
        reply = await self.wire.ask("load", "POST", "/v1/load", body, expected=(200,), Content_Type=FRAMES)
        if reply is not None:
            self.expect("load", reply.json()["loaded"] == len(keys), reply.body)
            for key, number in numbers.items():
                self.wrote(key, number)

    async def delete_range(self) -> None:
        prefix = f"{self.prefix}{self.random.randrange(KEYS_EACH // 10)}"
        gone = [key for key in self.known if key.startswith(prefix)]
        reply = await self.wire.ask("delete range", "DELETE", f"/v1/kv?prefix={prefix}", expected=(200,))
        if reply is not None:
            self.expect("delete range", reply.json() == {"deleted": len(gone)}, (reply.body, gone))
            for key in gone:
                self.forgot(key)

    # -- clients that do wrong

    async def mistake(self) -> None:
        kind = self.random.randrange(4)
        if kind == 0:
            await self.wire.ask("mistake", "GET", "/v1/kv?limit=0", expected=(400,))
        elif kind == 1:
            await self.wire.ask("mistake", "GET", "/nothing", expected=(404,))
        elif kind == 2:
            target = f"/v1/kv/{self.pick()}"
            await self.wire.ask("mistake", "PUT", target, b"x", expected=(400,), FlashKV_TTL="never")
        else:
            await self.wire.ask("mistake", "GET", "/v1/stats", expected=(400,), Host="two")

    async def leave(self) -> None:
        """A new connection in the place of this one."""
        await self.wire.close()

    async def leave_halfway(self) -> None:
        """Gone in the middle of a body: the key keeps what it had."""
        try:
            _, writer = await self.wire.open()
            size = self.random.choice([100, 3_000_000])
            head = f"PUT /v1/kv/{self.pick()} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
            writer.write(head.encode() + FILLER[: size // 2])
            await asyncio.wait_for(writer.drain(), 60)
        except OSError as error:
            self.tally.blame("transport", f"half of a body: {error!r}")
        await self.wire.close()
        self.tally.notes["left in the middle of a body"] += 1


def _value(item: dict[str, Any]) -> bytes:
    return base64.b64decode(item["value_b64"]) if "value_b64" in item else item["value"].encode()
