"""Operations on one key: /v1/kv/{key}, or the bulk resources where the key is too long for a URL.

Reading and then writing (pop, setdefault, popitem) is one step: the write has a condition on what was read, and where
another client came between, all of it is done again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import quote

from flash_kv.client.calls import Answer, Call, Steps, durability_params, json_call, lsn_of, not_ours
from flash_kv.client.events import bytes_of
from flash_kv.client.problems import error_of
from flash_kv.client.steps import bulk
from flash_kv.errors import ConflictError

# Servers and what stands before them take a request line of some 8,000 bytes; three for each byte of the key.
URL_KEY_BYTES_MAX = 2000
DEFAULT_TYPE = "application/octet-stream"


def url_of(key: bytes) -> str:
    """The path of a key. Dots are encoded too: a segment that is ".." means another resource to many a proxy."""
    return "/v1/kv/" + quote(key, safe="/").replace(".", "%2E")


def fetch(key: bytes) -> Steps[bulk.Found | None]:
    """The record of a key; None: it is absent."""
    if len(key) > URL_KEY_BYTES_MAX:
        (found,) = yield from bulk.fetch_many([key])
        return found
    answer = yield Call("GET", url_of(key), is_read=True, accepts=(404,))
    if answer.status == 404:
        _require_ours(answer)
        return None
    return _found(answer)


def contains(key: bytes) -> Steps[bool]:
    """Whether a key is there."""
    if len(key) > URL_KEY_BYTES_MAX:
        (found,) = yield from bulk.contains_many([key])
        return found
    answer = yield Call("HEAD", url_of(key), is_read=True, accepts=(404,))
    if answer.status == 404:
        _require_ours(answer)
        return False
    return True


def _require_ours(answer: Answer) -> None:
    if not answer.is_problem:
        raise not_ours(404, f"404 without a problem, {answer.content[:80]!r}")


def _found(answer: Answer) -> bulk.Found:
    expires = answer.headers.get("flashkv-expires")
    media_type = answer.headers.get("content-type", "")
    meta = b"" if media_type == DEFAULT_TYPE else media_type.encode("latin-1")
    return bulk.Found(answer.content, answer.lsn, None if expires is None else float(expires), meta)


def store(
    key: bytes,
    value: bytes,
    *,
    ttl_s: float | None = None,
    meta: bytes = b"",
    if_lsn: int | None = None,
    durability: object = None,
) -> Steps[int]:
    """Store one record; its LSN. ConflictError."""
    if len(key) > URL_KEY_BYTES_MAX:
        write = bulk.Write(key, value, ttl_s, meta)
        (lsn,) = yield from bulk.commit(_required(key, if_lsn), [write], durability)
        return lsn or 0
    headers = {"Content-Type": meta.decode("latin-1") or DEFAULT_TYPE, **_condition(if_lsn)}
    if ttl_s is not None:
        # Never with an exponent, which is no number of seconds in a header; to the millisecond, as it is kept.
        headers["FlashKV-TTL"] = f"{max(ttl_s, 0.001):.3f}" if ttl_s > 0 else repr(ttl_s)
    answer = yield Call(
        "PUT",
        url_of(key),
        durability_params(durability),
        headers,
        value,
        accepts=() if if_lsn is None else (412,),
    )
    if answer.status == 412:
        raise _conflict(answer, key, if_lsn)
    return answer.lsn


def remove(key: bytes, *, if_lsn: int | None = None, durability: object = None) -> Steps[int | None]:
    """Delete one key; the LSN of the tombstone, None: it was absent. ConflictError."""
    if len(key) > URL_KEY_BYTES_MAX:
        return (yield from _remove_long(key, if_lsn, durability))
    answer = yield Call(
        "DELETE",
        url_of(key),
        durability_params(durability),
        _condition(if_lsn),
        accepts=(404,) if if_lsn is None else (404, 412),
    )
    if answer.status == 412:
        raise _conflict(answer, key, if_lsn)
    if answer.status == 404:
        _require_ours(answer)
        return None
    return answer.lsn


def _remove_long(key: bytes, if_lsn: int | None, durability: object) -> Steps[int | None]:
    """A batch deletes also what is absent, so the key is looked up first, and is to be the same then."""
    while True:
        (found,) = yield from bulk.fetch_many([key])
        now = 0 if found is None else found.lsn
        if if_lsn is not None and if_lsn != now and not (if_lsn == -1 and now):
            raise ConflictError(key, if_lsn, now)
        if found is None:
            return None
        try:
            (lsn,) = yield from bulk.commit([(key, now)], [bulk.Write(key, None)], durability)
        except ConflictError:
            continue
        return lsn


def _condition(if_lsn: int | None) -> Mapping[str, str]:
    if if_lsn is None:
        return {}
    if if_lsn == 0:
        return {"If-None-Match": "*"}
    return {"If-Match": "*" if if_lsn < 0 else f'"{if_lsn}"'}


def _required(key: bytes, if_lsn: int | None) -> list[tuple[bytes, int]]:
    return [] if if_lsn is None else [(key, if_lsn)]


def _conflict(answer: Answer, key: bytes, if_lsn: int | None) -> Exception:
    if not answer.is_problem:
        return error_of(answer, "")
    return ConflictError(key, if_lsn or 0, lsn_of(answer.json().get("etag")) or 0)


def pop(key: bytes) -> Steps[bytes | None]:
    """Delete a key and return its value; None: it was absent."""
    while (found := (yield from fetch(key))) is not None:
        try:
            yield from remove(key, if_lsn=found.lsn)
        except ConflictError:
            continue
        return found.value
    return None


def popitem(*, is_ordered: bool = True) -> Steps[tuple[bytes, bytes] | None]:
    """Delete the greatest key, any one of an unordered store, and return it with its value; None: there is none."""
    while True:
        params = (("limit", "1"), *((("reverse", "true"),) if is_ordered else ()))
        answer = yield json_call("GET", "/v1/kv", params=params, is_read=True)
        items = answer.json()["items"]
        if not items:
            return None
        key, lsn = bytes_of(items[0], "key") or b"", int(items[0]["lsn"])
        try:
            yield from remove(key, if_lsn=lsn)
        except ConflictError:
            continue
        return key, bytes_of(items[0], "value") or b""


def setdefault(key: bytes, default: bytes) -> Steps[bytes]:
    """The value of a key, after storing `default` where there was none."""
    while (found := (yield from fetch(key))) is None:
        try:
            yield from store(key, default, if_lsn=0)
        except ConflictError:
            continue
        return default
    return found.value


def remaining(ttl_s: float | None, expires_at: float | None) -> float | None:
    """Seconds to live from either; a moment in the past leaves the least that a server takes."""
    if expires_at is None:
        return ttl_s
    return max(expires_at - time.time(), 0.001)
