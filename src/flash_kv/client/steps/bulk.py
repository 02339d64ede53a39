"""Operations on many keys: /v1/mget, /v1/batch, /v1/count, ranges, /v1/load."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from flash_kv.client import frames
from flash_kv.client.calls import JSON, PROBLEM, Bounds, Call, Steps, durability_params, json_call, lsn_of
from flash_kv.client.errors import RemoteError
from flash_kv.client.events import bytes_of

# A look-up sends at most so many keys, and begins a new request when they have this many bytes.
KEYS_MAX = 1000
KEY_BYTES_MAX = 2**20
# A load sends pieces of about this size.
PIECE_BYTES = 2**16


class Write(NamedTuple):
    """One write of a batch; `value` None: a delete."""

    key: bytes
    value: bytes | None
    ttl_s: float | None = None
    meta: bytes = b""


class Found(NamedTuple):
    """A record as it was answered."""

    value: bytes
    lsn: int
    expires_at: float | None
    meta: bytes


def encoded(name: str, data: bytes) -> dict[str, str]:
    """Bytes as a field of JSON."""
    return {f"{name}_b64": base64.b64encode(data).decode("ascii")}


def fetch_many(keys: Iterable[bytes]) -> Steps[list[Found | None]]:
    """The records of the keys, in order."""
    found: list[Found | None] = []
    for some in _pieces(keys):
        found += yield from _fetch_piece(some)
    return found


def _fetch_piece(keys: list[bytes]) -> Steps[list[Found | None]]:
    try:
        items = yield from _look_up(keys, with_values=True)
    except RemoteError as error:
        if error.status != 413 or len(keys) == 1:
            raise
        # The values together are more than one answer holds.
        middle = len(keys) // 2
        first = yield from _fetch_piece(keys[:middle])
        return first + (yield from _fetch_piece(keys[middle:]))
    return [None if item is None else _found(item) for item in items]


def contains_many(keys: Iterable[bytes]) -> Steps[list[bool]]:
    """Whether each key is there."""
    found: list[bool] = []
    for some in _pieces(keys):
        items = yield from _look_up(some, with_values=False)
        found += [item is not None for item in items]
    return found


def _look_up(keys: list[bytes], *, with_values: bool) -> Steps[list[dict[str, Any] | None]]:
    body: dict[str, Any] = {"keys": [encoded("key", key) for key in keys]}
    if not with_values:
        body["values"] = False
    answer = yield json_call("POST", "/v1/mget", body, is_read=True)
    items: list[dict[str, Any] | None] = answer.json()["items"]
    return items


def _found(item: dict[str, Any]) -> Found:
    meta = str(item.get("content_type") or "").encode("latin-1")
    return Found(bytes_of(item, "value") or b"", int(item["lsn"]), item.get("expires_at"), meta)


def _pieces(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(keys)
    while True:
        piece: list[bytes] = []
        size = 0
        for key in islice(remaining, KEYS_MAX):
            piece.append(key)
            size += len(key)
            if size >= KEY_BYTES_MAX:
                break
        if not piece:
            return
        yield piece


def commit(
    required: Sequence[tuple[bytes, int]], writes: Sequence[Write], durability: object = None
) -> Steps[list[int | None]]:
    """All writes as one commit, if each required key has its LSN (0: is absent, -1: is there); the LSN of each."""
    body = {
        "require": [{**encoded("key", key), "etag": _etag(lsn)} for key, lsn in required],
        "ops": [_operation(write) for write in writes],
    }
    answer = yield json_call("POST", "/v1/batch", body, params=durability_params(durability))
    return [lsn_of(etag) for etag in answer.json()["etags"]]


def put_many(pairs: Iterable[tuple[bytes, bytes]]) -> Steps[None]:
    """All pairs as one commit."""
    writes = [Write(key, value) for key, value in pairs]
    if writes:
        yield from commit((), writes)


def delete_many(keys: Iterable[bytes]) -> Steps[int]:
    """All keys as one commit; how many were there, counted before."""
    distinct = list(dict.fromkeys(keys))
    there = yield from contains_many(distinct)
    writes = [Write(key, None) for key, is_there in zip(distinct, there, strict=True) if is_there]
    if writes:
        yield from commit((), writes)
    return len(writes)


def _etag(lsn: int) -> str | None:
    if lsn == 0:
        return None
    return "*" if lsn < 0 else f'"{lsn}"'


def _operation(write: Write) -> dict[str, Any]:
    if write.value is None:
        return {"op": "delete", **encoded("key", write.key)}
    operation: dict[str, Any] = {"op": "put", **encoded("key", write.key), **encoded("value", write.value)}
    if write.meta:
        operation["content_type"] = write.meta.decode("latin-1")
    if write.ttl_s is not None:
        operation["ttl_s"] = write.ttl_s
    return operation


def count(bounds: Bounds) -> Steps[int]:
    """How many keys a range has."""
    if bounds.range.is_empty:
        return 0
    answer = yield json_call("GET", "/v1/count", params=bounds.params, is_read=True)
    return int(answer.json()["count"])


def delete_range(bounds: Bounds, durability: object = None) -> Steps[int]:
    """Delete what a range has, as one commit; how many keys that were."""
    if bounds.range.is_empty:
        return 0
    params = bounds.params or (("all", "true"),)
    answer = yield json_call("DELETE", "/v1/kv", params=(*params, *durability_params(durability)))
    return int(answer.json()["deleted"])


def load(pairs: Iterable[tuple[bytes, bytes]]) -> Steps[int]:
    """Store pairs as they come, in chunks; how many."""
    headers = {"Content-Type": frames.MEDIA_TYPE, "Accept": f"{JSON}, {PROBLEM}"}
    answer = yield Call("POST", "/v1/load", headers=headers, content=_framed(pairs))
    return int(answer.json()["loaded"])


def _framed(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    piece = bytearray()
    for key, value in pairs:
        piece += frames.pack(key, value)
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + frames.END


def scan_call(bounds: Bounds, *, reverse: bool, keys_only: bool) -> Call:
    """The call whose answer is a stream of frames."""
    params: tuple[tuple[str, str | bytes], ...] = bounds.params
    if reverse:
        params += (("reverse", "true"),)
    if keys_only:
        params += (("keys_only", "true"),)
    return Call("GET", "/v1/kv", params, {"Accept": f"{frames.MEDIA_TYPE}, {PROBLEM}"}, is_read=True)
