"""`Meter`: what requests take, counted as they end; for `/metrics`, `/v1/live`, `/v1/slowlog` and the log of requests.

It is called for every request, in the event loop, so it does little: one cell for each method, route and status, one
addition to a histogram whose buckets are an eighth of an octave wide, so a quantile is at most an eighth too high.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any, NamedTuple

from flash_kv.server.histogram_cy import BUCKETS, Cell, Counting, bucket_end
from flash_kv.server.http.problems import key_fields
from flash_kv.server.http.requests import Request, unquoted
from flash_kv.server.logs import NAME
from flash_kv.server.service import Service

requests_log = logging.getLogger(f"{NAME}.requests")

SLOW_MAX = 1000
PATH_BYTES_MAX = 512

# Their answers last as long as the client wants.
ENDLESS = frozenset(("/v1/watch", "/v1/live"))
KV = "/v1/kv/{key}"
LOAD = "/v1/load"
READ, WRITE, DELETE, LIST, OTHER = "read", "write", "delete", "list", "other"
CLASSES = (READ, WRITE, DELETE, LIST, OTHER)
# Lists, dumps and loads take as long as there is to send.
TIMED = frozenset((READ, WRITE, DELETE))
_CLASS_OF = {
    ("GET", KV): READ,
    ("HEAD", KV): READ,
    ("POST", "/v1/mget"): READ,
    ("PUT", KV): WRITE,
    ("POST", "/v1/batch"): WRITE,
    ("POST", LOAD): WRITE,
    ("DELETE", KV): DELETE,
    ("DELETE", "/v1/kv"): DELETE,
    ("GET", "/v1/kv"): LIST,
    ("GET", "/v1/count"): LIST,
    ("GET", "/v1/dump"): LIST,
}


class Finished(NamedTuple):
    """What is kept of a request that was answered."""

    method: str
    route: str
    """The path of its route as documented, such as "/v1/kv/{key}"; "" when there is none."""
    path: bytes
    """The path as the client wrote it."""
    status: int
    """That of the answer; 499 when the client went away before there was one."""
    at: float
    """When it began, in seconds since 1970."""
    duration_s: float
    """From its head to the last byte handed to the connection; a stream's whole life."""
    bytes_in: int
    bytes_out: int
    """Of the bodies."""
    client: str
    """The address it came from."""

    @classmethod
    def of(cls, request: Request) -> Finished:
        """A request without its body and headers."""
        began_at = time.time() - (time.perf_counter() - request.began)
        return cls(
            request.method,
            request.route,
            request.path,
            request.status,
            began_at,
            request.duration_s,
            request.bytes_in,
            request.bytes_out,
            request.client,
        )


class Totals(NamedTuple):
    """What all requests together came to at one moment."""

    counts: dict[str, int]
    """Requests by class."""
    buckets: list[int]
    """How long reads, writes and deletes of keys took."""
    bytes_in: int
    bytes_out: int


class Meter:
    """All that is counted of the requests of one service."""

    def __init__(self, service: Service) -> None:
        self.cells: dict[tuple[str, str, int], Cell] = {}
        self.slow: deque[Finished] = deque(maxlen=SLOW_MAX)
        self._slow_s = service.settings.slow_request_ms / 1000
        self._logs = requests_log.isEnabledFor(logging.INFO)
        counting = Counting(self.cells, self._new_cell, self._note, 0.0 if self._logs else self._slow_s)
        service.observers.append(counting.observe)

    def _note(self, request: Request) -> None:
        """Keep a slow request, and log it where all are."""
        one = Finished.of(request)
        if one.duration_s >= self._slow_s and one.route not in ENDLESS:
            self.slow.append(one)
        if self._logs:
            self._log(one)

    def _new_cell(self, method: str, route: str, status: int) -> Cell:
        """The cell of a kind of request that is not counted under its own name yet.

        What has no route is counted together: paths and methods that clients make up take no memory.
        """
        name = (method if route else "", route, status)
        return self.cells.setdefault(name, Cell(_CLASS_OF.get((method, route), OTHER)))

    def _log(self, one: Finished) -> None:
        fields = describe(one)
        what = fields.get("key", fields.get("key_b64", fields.get("path")))
        text = f"{one.method} {what!r} {one.status} {fields['duration_ms']} ms"
        requests_log.info("%s", text, extra={"fields": fields})

    def totals(self) -> Totals:
        """The sums over all cells."""
        counts = dict.fromkeys(CLASSES, 0)
        buckets = [0] * BUCKETS
        bytes_in = bytes_out = 0
        for (_, route, _), cell in self.cells.items():
            counts[cell.kind] += cell.count
            bytes_in += cell.bytes_in
            bytes_out += cell.bytes_out
            if cell.kind in TIMED and route != LOAD:
                buckets = [a + b for a, b in zip(buckets, cell.buckets, strict=True)]
        return Totals(counts, buckets, bytes_in, bytes_out)

    def slowest(self, limit: int) -> list[dict[str, Any]]:
        """The slow requests, the newest first."""
        newest = [self.slow[-1 - place] for place in range(min(limit, len(self.slow)))]
        return [describe(one) for one in newest]


def describe(one: Finished) -> dict[str, Any]:
    """A request as JSON: the key it was for, where it was for one, else its path; never the query."""
    what: dict[str, str] = {"path": _printable(one.path)}
    if one.route == KV:
        what = _key_of(one.path)
    return {
        "at": round(one.at, 3),
        "duration_ms": round(one.duration_s * 1000, 3),
        "method": one.method,
        **what,
        "status": one.status,
        "bytes": one.bytes_in + one.bytes_out,
        "client": one.client,
    }


def _key_of(path: bytes) -> dict[str, str]:
    raw = path[len(KV) - len("{key}") :][:PATH_BYTES_MAX]
    try:
        return key_fields(unquoted(raw))
    except Exception:  # noqa: BLE001 - what is no key is shown as it came
        return {"path": _printable(path)}


def _printable(path: bytes) -> str:
    return path[:PATH_BYTES_MAX].decode("utf-8", "backslashreplace")


def quantile(buckets: list[int], share: float) -> int:
    """The microseconds that this share of the requests did not take longer than; 0 without any."""
    total = sum(buckets)
    seen = 0
    for bucket, count in enumerate(buckets):
        seen += count
        if count and seen >= share * total:
            return bucket_end(bucket)
    return 0
