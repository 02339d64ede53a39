"""Problem answers (RFC 9457) as the errors that an embedded store raises for the same.

The type of a problem, `urn:flash-kv:<slug>`, says which; a status whose meaning is clear says it too, so that a
problem of a later version still is the nearest error. What has no embedded counterpart is a RemoteError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flash_kv.client.arguments import VALUE_BYTES_MAX
from flash_kv.client.calls import Answer, Call, lsn_of
from flash_kv.client.errors import AccessDeniedError, RemoteError
from flash_kv.client.events import bytes_of
from flash_kv.engine.views import ORDERED_KINDS
from flash_kv.errors import (
    ConflictError,
    CorruptionError,
    FlashKVError,
    PoisonedError,
    ReadOnlyError,
    StorageError,
    StoreFullError,
    UnorderedIndexError,
    ValueSizeError,
)

Fields = Mapping[str, Any]
URN = "urn:flash-kv:"


def error_of(answer: Answer, url: str, call: Call | None = None) -> FlashKVError:
    """The error that `answer` to `call`, of status 400 or more, stands for; `url` is that of the store."""
    fields = _fields(answer)
    kind = str(fields.get("type", "")).removeprefix(URN)
    if kind == "too-large" and call is not None and call.method == "PUT" and isinstance(call.content, bytes):
        return ValueSizeError(len(call.content), int(fields.get("limit") or VALUE_BYTES_MAX))
    build = _BY_KIND.get(kind) or _BY_STATUS.get(answer.status)
    if build is not None and answer.is_problem:
        return build(fields, url)
    if answer.status in (401, 403):
        return AccessDeniedError(answer.status, _title(answer, fields), _detail(answer, fields))
    return RemoteError(answer.status, _title(answer, fields), _detail(answer, fields), dict(fields))


def _fields(answer: Answer) -> Fields:
    if not answer.is_problem:
        return {}
    found: Fields = answer.json()
    return found


def _title(answer: Answer, fields: Fields) -> str:
    return str(fields.get("title") or "the server refused")


def _detail(answer: Answer, fields: Fields) -> str:
    if answer.is_problem:
        return str(fields.get("detail") or "")
    return f"not an answer of FlashKV, it begins {answer.content[:80]!r}: check the URL"


def _place(fields: Fields, url: str) -> str:
    return str(fields.get("path") or url)


def _words(fields: Fields) -> str:
    return str(fields.get("detail") or fields.get("title") or "the server gave no reason")


def _conflict(fields: Fields, url: str) -> FlashKVError:
    return ConflictError(bytes_of(dict(fields), "key") or b"", 0, lsn_of(fields.get("etag")) or 0)


def _poisoned(fields: Fields, url: str) -> FlashKVError:
    return PoisonedError(
        _place(fields, url), OSError(5, _words(fields)), bool(fields.get("is_in_doubt", False))
    )


def _corruption(fields: Fields, url: str) -> FlashKVError:
    return CorruptionError(
        _place(fields, url), int(fields.get("offset") or 0), str(fields.get("reason") or _words(fields))
    )


def _full(fields: Fields, url: str) -> FlashKVError:
    return StoreFullError(_place(fields, url), str(fields.get("operation") or "write"))


_BY_KIND: dict[str, Callable[[Fields, str], FlashKVError]] = {
    "unordered-index": lambda fields, url: UnorderedIndexError(str(fields.get("index")), ORDERED_KINDS),
    "read-only": lambda fields, url: ReadOnlyError(_place(fields, url)),
    "damaged": _corruption,
    "poisoned": _poisoned,
    "disk-full": _full,
    "storage": lambda fields, url: StorageError(
        int(fields.get("errno") or 5), _place(fields, url), _words(fields)
    ),
}
_BY_STATUS: dict[int, Callable[[Fields, str], FlashKVError]] = {412: _conflict, 507: _full}
