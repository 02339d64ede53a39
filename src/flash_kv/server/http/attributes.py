"""What is kept with a value beside its bytes: its media type (in the record's `meta`) and when it expires."""

from __future__ import annotations

import math
import re
import time

from flash_kv.server.http.answers import OCTETS, Header
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request

TTL, EXPIRES = b"flashkv-ttl", b"flashkv-expires"
TTL_S_MAX = 10_000_000_000.0
CONTENT_TYPE_BYTES_MAX = 1000

# `meta` is lines like headers; a client of the embedded store may write them too, or anything else.
_META = re.compile(rb"content-type: ([\x20-\x7e]{1,1000})\n")
_PRINTABLE = re.compile(rb"[\x20-\x7e]{1,1000}")
_SECONDS = re.compile(rb"\d{1,12}(?:\.\d{1,9})?")


def meta_of(content_type: bytes | None) -> bytes:
    """The `meta` of a record with this media type; nothing for plain bytes."""
    if not content_type or content_type == OCTETS[1]:
        return b""
    if not _PRINTABLE.fullmatch(content_type):
        raise Problem(400, f"a Content-Type has at most {CONTENT_TYPE_BYTES_MAX} printable ASCII characters")
    return b"content-type: %s\n" % content_type


def content_type_of(meta: bytes) -> bytes:
    """The media type in a record's `meta`; that of plain bytes when there is none."""
    match = _META.match(meta) if meta else None
    return OCTETS[1] if match is None else match[1]


def ttl_of(request: Request) -> float | None:
    """`FlashKV-TTL` in seconds; None when it is not given."""
    text = request.headers.get(TTL)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text):
        raise Problem(400, "FlashKV-TTL is a number of seconds", slug="ttl")
    return require_ttl(float(text))


def require_ttl(seconds: float) -> float:
    """`seconds`, if something can live so long. Problem 400 when it cannot."""
    if not math.isfinite(seconds) or not 0 < seconds <= TTL_S_MAX:
        raise Problem(400, f"a time to live is above 0 and at most {TTL_S_MAX:.0f} seconds", slug="ttl")
    return seconds


def expiry_headers(expires_at: float) -> list[Header]:
    """When a record is gone, and how long that is from now."""
    left = max(0.0, expires_at - time.time())
    return [(EXPIRES, b"%.3f" % expires_at), (TTL, b"%.3f" % left)]
