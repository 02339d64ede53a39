"""`POST /v1/load` and `POST /v1/mget`: many records in, many keys out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from flash_kv.server.http import frames
from flash_kv.server.http.answers import Answer, json_answer
from flash_kv.server.http.listing import item_fields
from flash_kv.server.http.payloads import (
    KEY_FIELDS,
    expiry_in,
    invalid,
    key_of,
    meta_in,
    require_fields,
    value_of,
)
from flash_kv.server.http.problems import Problem, key_fields
from flash_kv.server.http.requests import DurabilityWord, Request
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service

MGET_KEYS_MAX = 10_000
# One commit of a load holds about this.
COMMIT_BYTES = 1 << 20
COMMIT_RECORDS = 5000

MGET_FIELDS = frozenset(("keys", "values"))
# Those of a streamed list; a record gets an LSN of its own.
LINE_FIELDS = frozenset(("key", "key_b64", "value", "value_b64", "lsn", "content_type", "expires_at"))


class Loaded(NamedTuple):
    """One record of a load."""

    key: bytes
    value: bytes
    meta: bytes = b""
    expires_at: float | None = None


def routes(service: Service) -> list[Route]:
    bulk = Bulk(service)
    return [
        Route("POST", "/v1/load", bulk.load, "write"),
        Route("POST", "/v1/mget", bulk.mget, "read"),
    ]


class Reader(Protocol):
    """Records out of chunks of a body."""

    def feed(self, chunk: bytes) -> Iterator[Loaded]: ...
    def finish(self) -> Iterator[Loaded]: ...


class Bulk:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.db = service.db

    async def mget(self, request: Request) -> Answer:
        limit = self.service.settings.body_bytes_max
        content = await request.json(limit)
        wanted = content.get("keys") if isinstance(content, dict) else None
        if not isinstance(wanted, list) or len(wanted) > MGET_KEYS_MAX:
            raise invalid(f"the body is an object with 'keys', a list of at most {MGET_KEYS_MAX}", {})
        require_fields(content, MGET_FIELDS, {})
        keys = [_wanted_key(key, {"element": number}) for number, key in enumerate(wanted)]
        for key in keys:
            request.require_key(key)
        with_values = content.get("values", True)
        if type(with_values) is not bool:
            raise invalid("'values' is true or false", {})
        return await self.service.call(self._found, keys, limit, with_values)

    def _found(self, keys: list[bytes], limit: int, with_values: bool) -> Answer:
        items: list[dict[str, Any] | None] = []
        size = 0
        for key in keys:
            record = self.db.get_record(key, view=not with_values)
            if record is not None and not with_values:
                items.append({**key_fields(key), "lsn": record.lsn})
                continue
            size += len(key) + (0 if record is None else len(record.value))
            if size > limit:
                raise Problem(
                    413, f"the answer has more than {limit} bytes: ask for fewer keys", slug="too-large"
                )
            items.append(None if record is None else item_fields(key, record))
        return json_answer({"items": items})

    async def load(self, request: Request) -> Answer:
        """In commits of about a megabyte: what was committed before a bad line stays."""
        durability = request.durability()
        loading = Loading(request, self, durability)
        reader = self._reader(request)
        async for chunk in request.chunks():
            await loading.take(reader.feed(chunk))
        await loading.take(reader.finish())
        await loading.commit()
        return json_answer({"loaded": loading.committed})

    def _reader(self, request: Request) -> Reader:
        media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        settings = self.service.settings
        if media_type == frames.MEDIA_TYPE:
            return Frames(min(settings.value_bytes_max, settings.body_bytes_max))
        if media_type in (b"", b"application/x-ndjson", b"application/jsonl", b"application/ndjson"):
            return Lines(settings.value_bytes_max, settings.body_bytes_max)
        raise Problem(415, "a load is application/x-ndjson or application/vnd.flash-kv.frames")


def _wanted_key(element: Any, where: dict[str, Any]) -> bytes:
    if isinstance(element, dict):
        require_fields(element, KEY_FIELDS, where)
    return key_of(element, where)


class Loading:
    """One load on its way."""

    def __init__(self, request: Request, bulk: Bulk, durability: DurabilityWord | None) -> None:
        self.request = request
        self.bulk = bulk
        self.durability = durability
        self.committed = 0
        self.seen = 0
        self._pending: list[Loaded] = []
        self._pending_bytes = 0

    async def take(self, records: Iterator[Loaded]) -> None:
        """Keep these, and commit when there are enough. A problem says how many records were loaded before."""
        try:
            for record in records:
                self.request.require_key(record.key)
                self._pending.append(record)
                self.seen += 1
                self._pending_bytes += len(record.key) + len(record.value)
                if self._pending_bytes >= COMMIT_BYTES or len(self._pending) >= COMMIT_RECORDS:
                    await self.commit()
        except Problem as problem:
            await self.commit()
            problem.more["loaded"] = self.committed
            raise
        except frames.FrameError as error:
            await self.commit()
            where = {"record": self.seen + 1, "loaded": self.committed}
            raise invalid(f"record {self.seen + 1}: {error}", where) from error

    async def commit(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if pending:
            await self.bulk.service.call(self._commit, pending)
            self.committed += len(pending)

    def _commit(self, records: list[Loaded]) -> None:
        with self.bulk.db.batch(durability=self.durability) as batch:
            for key, value, meta, expires_at in records:
                if meta or expires_at is not None:
                    batch.put_record(key, value, meta=meta, expires_at=expires_at)
                else:
                    batch.put(key, value)


class Lines:
    """NDJSON: one record per line, as the streamed list has it."""

    def __init__(self, value_bytes_max: int, line_bytes_max: int) -> None:
        self._value_bytes_max = value_bytes_max
        self._line_bytes_max = line_bytes_max
        self._pending = bytearray()
        self._line = 0

    def feed(self, chunk: bytes) -> Iterator[Loaded]:
        """The records whose lines are whole by now. Problem 422 for a line that is none, with its number."""
        self._pending += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(self._pending).split(b"\n")
            self._pending[:] = rest
            for line in whole:
                yield from self._records(line)
        if len(self._pending) > self._line_bytes_max:
            limit = self._line_bytes_max
            raise Problem(
                413, f"line {self._line + 1} has more than {limit} bytes", slug="too-large", limit=limit
            )

    def finish(self) -> Iterator[Loaded]:
        yield from self._records(bytes(self._pending))

    def _records(self, line: bytes) -> Iterator[Loaded]:
        self._line += 1
        if not line.strip():
            return
        where = {"line": self._line}
        try:
            element = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise invalid(f"line {self._line} is not JSON: {error}", where) from None
        if not isinstance(element, dict):
            raise invalid(f"line {self._line} is no object", where)
        require_fields(element, LINE_FIELDS, where)
        value = value_of(element, self._value_bytes_max, where)
        yield Loaded(key_of(element, where), value, meta_in(element, where), expiry_in(element, where))


class Frames(frames.FrameReader):
    """The frames of frames.py."""

    def feed(self, chunk: bytes) -> Iterator[Loaded]:
        return itertools.starmap(Loaded, self.pairs(chunk))

    def finish(self) -> Iterator[Loaded]:
        self.require_end()
        yield from ()
