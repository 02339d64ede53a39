"""`/v1/kv`, `/v1/count` and `/v1/dump`: many keys at once, in pages or as one stream from one snapshot."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from flash_kv import Record, Snapshot
from flash_kv.server.http import frames
from flash_kv.server.http.answers import Answer, Header, json_answer, json_bytes
from flash_kv.server.http.attributes import content_type_of
from flash_kv.server.http.payloads import value_fields
from flash_kv.server.http.problems import Problem, key_fields
from flash_kv.server.http.ranges import RANGE_PARAMETERS, Bounds, bounds_of
from flash_kv.server.http.requests import Request, flag, number
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service

NDJSON: Header = (b"content-type", b"application/x-ndjson")
FRAMES: Header = (b"content-type", frames.MEDIA_TYPE)

PAGE_ITEMS = 100
# A page ends after the item that brings it to this size.
PAGE_BYTES_MAX = 8 << 20
# What a stream prepares at a time, in a thread; and what one send may hold of a long value.
SLICE_BYTES = 128 << 10
SLICE_ITEMS = 1000
KEYS_AT_A_TIME = 20_000
DELETES_AT_A_TIME = 1000
LIMIT_MAX = 2**63 - 1

Item = tuple[bytes, Record]


def routes(service: Service) -> list[Route]:
    lists = Lists(service)
    return [
        Route("GET", "/v1/kv", lists.get, "read"),
        Route("DELETE", "/v1/kv", lists.delete, "write"),
        Route("GET", "/v1/count", lists.count, "read"),
        Route("GET", "/v1/dump", lists.dump, "read"),
    ]


class Lists:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.db = service.db

    async def get(self, request: Request) -> Answer:
        parameters = request.query((*RANGE_PARAMETERS, "reverse", "limit", "keys_only", "cursor"))
        bounds = bounds_of(request, parameters)
        keys_only = flag(parameters, "keys_only")
        form = form_of(request)
        if form is not None:
            if "cursor" in parameters:
                raise Problem(400, "a cursor is for pages; a stream goes on to the end by itself")
            limit = number(parameters, "limit", LIMIT_MAX, 0, LIMIT_MAX)
            return self._stream(form, bounds, keys_only, limit)
        items_max = self.service.settings.page_items_max
        limit = number(parameters, "limit", min(PAGE_ITEMS, items_max), 1, items_max)
        # Pages need an order, also where the first could do without.
        self.db.keys(start=b"\0")
        left = bounds.after(parameters["cursor"]) if "cursor" in parameters else bounds
        return await self.service.call(self._page, bounds, left, keys_only, limit)

    async def dump(self, request: Request) -> Answer:
        bounds = bounds_of(request, request.query(RANGE_PARAMETERS))
        return self._stream(form_of(request) or NDJSON, bounds, False, LIMIT_MAX)

    async def count(self, request: Request) -> Answer:
        bounds = bounds_of(request, request.query(RANGE_PARAMETERS))
        if bounds.is_everything:
            # At once, whatever the size; as `len(db)` it counts what has expired until that is removed.
            return json_answer({"count": len(self.db)})
        with self.db.snapshot() as snapshot:
            keys = iter(snapshot.keys(**bounds.range))
            counted = 0
            while more := await self.service.call(
                lambda: sum(1 for _ in itertools.islice(keys, KEYS_AT_A_TIME))
            ):
                counted += more
        return json_answer({"count": counted})

    async def delete(self, request: Request) -> Answer:
        """Chunk after chunk: not one commit, and what is stored meanwhile stays."""
        parameters = request.query((*RANGE_PARAMETERS, "all", "durability"))
        bounds = bounds_of(request, parameters)
        is_all = flag(parameters, "all")
        if bounds.is_everything != is_all:
            raise Problem(
                400, "give prefix, start or stop; or, for every key there is, all=true and none of them"
            )
        durability = request.durability_of(parameters)
        deleted = 0
        with self.db.snapshot() as snapshot:
            keys = iter(snapshot.keys(**bounds.range))
            while chunk := await self.service.call(lambda: list(itertools.islice(keys, DELETES_AT_A_TIME))):
                deleted += await self.service.call(self.db.delete_many, chunk)
        if deleted and durability == "always":
            await self.service.call(self.db.sync)
        return json_answer({"deleted": deleted})

    def _page(self, bounds: Bounds, left: Bounds, keys_only: bool, limit: int) -> Answer:
        items: list[dict[str, Any]] = []
        size, cursor, last = 0, None, b""
        with self.db.snapshot() as snapshot:
            for key, record in scan(snapshot, left, keys_only):
                if len(items) == limit or size > PAGE_BYTES_MAX:
                    cursor = bounds.cursor(last)
                    break
                items.append(item_fields(key, record, keys_only))
                size += len(key) + (0 if keys_only else len(record.value))
                last = key
        return json_answer({"items": items, "cursor": cursor})

    def _stream(self, form: Header, bounds: Bounds, keys_only: bool, limit: int) -> Answer:
        # Errors of the range are told before the stream begins.
        self.db.keys(**bounds.view)
        encode = functools.partial(line if form is NDJSON else frame, keys_only=keys_only)
        end = b"" if form is NDJSON else frames.END
        return Answer(200, [form], stream=self._chunks(bounds, keys_only, limit, encode, end))

    async def _chunks(
        self,
        bounds: Bounds,
        keys_only: bool,
        limit: int,
        encode: Callable[[bytes, Record], bytes],
        end: bytes,
    ) -> AsyncGenerator[bytes, None]:
        with self.db.snapshot() as snapshot:
            items = itertools.islice(scan(snapshot, bounds, keys_only), limit)
            while encoded := await self.service.call(next_slice, items, encode):
                for at in range(0, len(encoded), SLICE_BYTES):
                    yield encoded[at : at + SLICE_BYTES]
        if end:
            yield end


def scan(snapshot: Snapshot, bounds: Bounds, keys_only: bool) -> Iterator[Item]:
    """The records of a range; without a copy of their values where only keys are wanted."""
    return snapshot.records(**bounds.view, view=keys_only)


def next_slice(items: Iterator[Item], encode: Callable[[bytes, Record], bytes]) -> bytes:
    """The next items encoded, so many that it is worth while; b"" at the end."""
    pieces, size = [], 0
    for key, record in items:
        pieces.append(encode(key, record))
        size += len(pieces[-1])
        if size >= SLICE_BYTES or len(pieces) >= SLICE_ITEMS:
            break
    return b"".join(pieces)


def item_fields(key: bytes, record: Record, keys_only: bool = False) -> dict[str, Any]:
    """A record as JSON has it; with `keys_only` the size of its value in the place of it."""
    fields: dict[str, Any] = key_fields(key)
    if keys_only:
        fields["value_bytes"] = len(record.value)
    else:
        fields.update(value_fields(record.value))
    fields["lsn"] = record.lsn
    if record.meta:
        fields["content_type"] = content_type_of(record.meta).decode()
    if record.expires_at is not None:
        fields["expires_at"] = record.expires_at
    return fields


def line(key: bytes, record: Record, *, keys_only: bool) -> bytes:
    """A record as one line of NDJSON."""
    return json_bytes(item_fields(key, record, keys_only)) + b"\n"


def frame(key: bytes, record: Record, *, keys_only: bool) -> bytes:
    """A record as one frame; with `keys_only` one without a value."""
    if keys_only:
        return frames.HEAD.pack(len(key), 0, record.lsn) + key
    return b"".join((frames.HEAD.pack(len(key), len(record.value), record.lsn), key, record.value))


def form_of(request: Request) -> Header | None:
    """The stream that `Accept` asks for; None for JSON in pages."""
    accepted = request.headers.get(b"accept", b"")
    if not accepted or accepted == b"*/*":
        return None
    for part in accepted.split(b","):
        match part.partition(b";")[0].strip().lower():
            case b"application/x-ndjson" | b"application/jsonl" | b"application/ndjson":
                return NDJSON
            case frames.MEDIA_TYPE:
                return FRAMES
            case b"application/json" | b"*/*" | b"application/*":
                return None
    raise Problem(
        406, "there is application/json, application/x-ndjson and application/vnd.flash-kv.frames here"
    )
