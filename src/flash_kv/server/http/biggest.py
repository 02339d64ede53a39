"""`/v1/biggest`: which keys have the largest values, and which beginnings of keys take the most, by a bounded scan."""

from __future__ import annotations

import heapq
import time
from typing import Any, NamedTuple

from flash_kv import DB
from flash_kv.server.http.answers import Answer, json_answer
from flash_kv.server.http.problems import key_fields
from flash_kv.server.http.requests import Request, number
from flash_kv.server.service import Service

KEYS_MAX = 2_000_000
TIME_S_MAX = 2.0
# Looked at the clock after so many keys; others get their turn then.
STEP = 512
# Groups counted at the same time; a key that would begin one more is counted with no group.
GROUPS_MAX = 100_000
SEPARATORS = b"/:.|"
DEPTH_MAX = 10


class Found(NamedTuple):
    """What a scan came to."""

    keys: list[tuple[int, bytes]]
    groups: list[tuple[bytes, int, int]]
    scanned: int
    is_cut_short: bool


class Biggest:
    """The handler."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def get(self, request: Request) -> Answer:
        query = request.query(("prefix", "limit", "depth"))
        prefix = query.get("prefix", b"")
        if request.grant.prefixes:
            request.require_key(prefix)
        limit = number(query, "limit", 20, 1, 1000)
        depth = number(query, "depth", 1, 1, DEPTH_MAX)
        found = await self.service.call(scan, self.service.db, prefix, limit, depth)
        return json_answer(
            {
                "keys": [{**key_fields(key), "value_bytes": size} for size, key in found.keys],
                "prefixes": [_group(*group) for group in found.groups],
                "scanned": found.scanned,
                "is_cut_short": found.is_cut_short,
            }
        )


def _group(prefix: bytes, keys: int, size: int) -> dict[str, Any]:
    return {**key_fields(prefix, "prefix"), "keys": keys, "bytes": size}


def scan(db: DB, prefix: bytes, limit: int, depth: int) -> Found:
    """Go through the keys with a prefix, for as long as is allowed; values are looked at, not copied."""
    ends = time.monotonic() + TIME_S_MAX
    largest: list[tuple[int, bytes]] = []
    groups: dict[bytes, list[int]] = {}
    scanned = 0
    is_cut_short = False
    items = db.items(prefix=prefix, view=True) if prefix else db.items(view=True)
    for key, value in items:
        scanned += 1
        size = len(value)
        if len(largest) < limit:
            heapq.heappush(largest, (size, key))
        elif size > largest[0][0]:
            heapq.heapreplace(largest, (size, key))
        name = group_of(key, len(prefix), depth)
        group = groups.get(name)
        if group is None and len(groups) < GROUPS_MAX:
            group = groups[name] = [0, 0]
        if group is not None:
            group[0] += 1
            group[1] += len(key) + size
        if scanned % STEP == 0:
            if scanned >= KEYS_MAX or time.monotonic() > ends:
                is_cut_short = True
                break
            time.sleep(0)
    named = ((name, keys, size) for name, (keys, size) in groups.items())
    return Found(
        sorted(largest, reverse=True),
        heapq.nlargest(limit, named, key=lambda group: group[2]),
        scanned,
        is_cut_short,
    )


def group_of(key: bytes, start: int, depth: int) -> bytes:
    """The beginning of a key up to and with its `depth`-th separator after `start`, or its last one before that."""
    end = start
    place = start
    while depth and place < len(key):
        if key[place] in SEPARATORS:
            end = place + 1
            depth -= 1
        place += 1
    return key[:end]
