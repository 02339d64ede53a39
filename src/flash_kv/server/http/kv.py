"""`/v1/kv/{key}`: one value, its bytes as they are, with its media type, its expiry and its LSN as entity tag."""

from __future__ import annotations

import mmap
from collections.abc import AsyncGenerator, Callable
from functools import partial

from flash_kv import ConflictError, Record
from flash_kv.server.http.answers import OCTETS, Answer, Common, Header
from flash_kv.server.http.attributes import TTL, content_type_of, expiry_headers, meta_of, ttl_of
from flash_kv.server.http.conditions import (
    IF_MATCH,
    IF_NONE_MATCH,
    RANGE,
    conflict,
    etag,
    part_of,
    require_readable,
    write_condition,
)
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import DurabilityWord, Request, too_large
from flash_kv.server.http.routing import Outcome, Route
from flash_kv.server.http.spool import buffered_body
from flash_kv.server.service import Service

# A longer value is sent in slices of this, each once the connection has room for it.
SLICE_BYTES = 256 << 10

ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")
# A value is data: a browser neither guesses what it is nor runs it as a page of this server.
NO_SNIFFING: Header = (b"x-content-type-options", b"nosniff")
SANDBOX: Header = (b"content-security-policy", b"sandbox; default-src 'none'")
# What every value's answer says, and what that of plain bytes says.
ANY = Common(NO_SNIFFING, ACCEPT_RANGES)
PLAIN = Common(OCTETS, *ANY.headers)


def routes(service: Service) -> list[Route]:
    values = Values(service)
    return [
        Route("GET", "/v1/kv/{key}", values.get, "read", is_immediate=True),
        Route("PUT", "/v1/kv/{key}", values.put, "write", is_immediate=True),
        Route("DELETE", "/v1/kv/{key}", values.delete, "write", is_immediate=True),
    ]


class Values:
    """The handlers of `/v1/kv/{key}`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.db = service.db
        self.limit = service.settings.value_bytes_max

    def get(self, request: Request) -> Answer:
        record = self.db.get_record(request.key, view=True)
        if record is None:
            raise missing()
        common, headers = _headers_of(record)
        asked = request.headers
        if (IF_NONE_MATCH in asked or IF_MATCH in asked) and require_readable(asked, record.lsn):
            return Answer(304, [header for header in headers if header[0] != b"content-type"], common=ANY)
        value: memoryview = record.value  # type: ignore[assignment]
        status = 200
        if RANGE in asked:
            part = part_of(asked, record.lsn, len(value))
            if part is not None:
                begin, end = part
                headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, len(value))))
                value, status = value[begin:end], 206
        if len(value) <= SLICE_BYTES:
            return Answer(status, headers, bytes(value), None, common)
        headers.append((b"content-length", b"%d" % len(value)))
        if request.method == "HEAD":
            return Answer(status, headers, common=common)
        return Answer(status, headers, stream=_slices(value), common=common)

    def put(self, request: Request) -> Outcome:
        key = request.key
        durability = request.durability()
        headers = request.headers
        content_type = headers.get(b"content-type")
        meta = b"" if content_type is None else meta_of(content_type)
        ttl_s = ttl_of(request) if TTL in headers else None
        waits = self.waits(durability)
        whole = request.whole
        if whole is None:
            write = partial(self._put, request, key, meta, ttl_s, durability)
            return self._put_arriving(request, write, self.limit, waits)
        if len(whole) > self.limit:
            raise too_large(self.limit)
        if waits:
            return self.service.call(self._put, request, key, meta, ttl_s, durability, whole)
        return self._put(request, key, meta, ttl_s, durability, whole)

    async def _put_arriving(
        self, request: Request, write: Callable[[bytes | mmap.mmap], Answer], limit: int, waits: bool
    ) -> Answer:
        async with buffered_body(self.service, request, limit) as value:
            if waits or isinstance(value, mmap.mmap):
                return await self.service.call(write, value)
            return write(value)

    def _put(
        self,
        request: Request,
        key: bytes,
        meta: bytes,
        ttl_s: float | None,
        durability: DurabilityWord | None,
        value: bytes | mmap.mmap,
    ) -> Answer:
        is_new = key not in self.db
        try:
            lsn = self.db.put_record(
                key,
                value,
                ttl_s=ttl_s,
                meta=meta,
                if_lsn=self._condition(request, key),
                durability=durability,
            )
        except ConflictError as error:
            raise conflict(error.lsn) from None
        return Answer(201 if is_new else 204, [(b"etag", etag(lsn))])

    def delete(self, request: Request) -> Outcome:
        key = request.key
        durability = request.durability()
        if self.waits(durability):
            return self.service.call(self._delete, request, key, durability)
        return self._delete(request, key, durability)

    def _delete(self, request: Request, key: bytes, durability: DurabilityWord | None) -> Answer:
        try:
            lsn = self.db.delete_record(key, if_lsn=self._condition(request, key), durability=durability)
        except ConflictError as error:
            raise conflict(error.lsn) from None
        if lsn is None:
            raise missing()
        return Answer(204, [(b"etag", etag(lsn))])

    def _condition(self, request: Request, key: bytes) -> int | None:
        headers = request.headers
        if IF_MATCH not in headers and IF_NONE_MATCH not in headers:
            return None
        record = self.db.get_record(key, view=True)
        return write_condition(headers, None if record is None else record.lsn)

    def waits(self, durability: DurabilityWord | None) -> bool:
        """True when a commit waits for the disk, which the event loop must not."""
        return durability == "always" or (durability is None and self.service.always_waits)


def missing() -> Problem:
    """There is no record under the key, or its time was up."""
    return Problem(404, "there is no such key", slug="no-key")


def _headers_of(record: Record) -> tuple[Common, list[Header]]:
    """What a record's answer says of it."""
    _, lsn, expires_at, meta = record
    tag = (b"etag", etag(lsn))
    if not meta and expires_at is None:
        return PLAIN, [tag]
    content_type = content_type_of(meta)
    headers = [(b"content-type", content_type), tag]
    if content_type != OCTETS[1]:
        headers.append(SANDBOX)
    if expires_at is not None:
        headers += expiry_headers(expires_at)
    return ANY, headers


async def _slices(value: memoryview) -> AsyncGenerator[bytes, None]:
    """The value slice by slice; it is let go at the end, whatever ends it."""
    with value:
        for at in range(0, len(value), SLICE_BYTES):
            yield bytes(value[at : at + SLICE_BYTES])
