"""Keys and values in JSON: text where the bytes are UTF-8, else base64 under `<name>_b64`; on the way in either."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from flash_kv.server.http.attributes import TTL_S_MAX, meta_of, require_ttl
from flash_kv.server.http.problems import Problem, key_fields

KEY_BYTES_MAX = 65536
KEY_FIELDS = frozenset(("key", "key_b64"))


def value_fields(value: bytes | memoryview) -> dict[str, str]:
    """`value` as a field for JSON."""
    return key_fields(bytes(value), "value")


def bytes_of(element: dict[str, Any], name: str, where: dict[str, Any]) -> bytes:
    """The bytes of `name` or `<name>_b64`. Problem 422 with the fields `where` when it is not one of them."""
    text, encoded = element.get(name), element.get(f"{name}_b64")
    if (text is None) == (encoded is None):
        raise invalid(f"one of {name!r} and '{name}_b64' is needed", where)
    try:
        if isinstance(text, str):
            return text.encode()
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
    except UnicodeEncodeError:
        raise invalid(f"{name!r} has half of a surrogate pair: send '{name}_b64'", where) from None
    except (binascii.Error, ValueError):
        raise invalid(f"'{name}_b64' is not base64", where) from None
    raise invalid(f"{name!r} has to be a string", where)


def key_of(element: Any, where: dict[str, Any]) -> bytes:
    """The key of an element: a string, or an object with `key` or `key_b64`. Problem 422 when there is none."""
    if isinstance(element, str):
        element = {"key": element}
    if not isinstance(element, dict):
        raise invalid("a key is a string, or an object with 'key' or 'key_b64'", where)
    key = bytes_of(element, "key", where)
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise invalid(f"a key has 1 to {KEY_BYTES_MAX} bytes, this one {len(key)}", where)
    return key


def value_of(element: dict[str, Any], limit: int, where: dict[str, Any]) -> bytes:
    """The value of an element. Problem 422 when there is none, 413 when it has more than `limit` bytes."""
    value = bytes_of(element, "value", where)
    if len(value) > limit:
        raise Problem(413, f"a value may have {limit} bytes", slug="too-large", limit=limit, **where)
    return value


def ttl_in(element: dict[str, Any], where: dict[str, Any]) -> float | None:
    """`ttl_s` of an element, in seconds."""
    seconds = _number(element, "ttl_s", where)
    if seconds is None:
        return None
    try:
        return require_ttl(seconds)
    except Problem as problem:
        raise invalid(problem.detail, where) from None


def expiry_in(element: dict[str, Any], where: dict[str, Any]) -> float | None:
    """`expires_at` of an element, in seconds since 1970; the past is fine for what is loaded."""
    seconds = _number(element, "expires_at", where)
    if seconds is not None and not 0 < seconds <= TTL_S_MAX:
        raise invalid(f"'expires_at' is above 0 and at most {TTL_S_MAX:.0f} seconds", where)
    return seconds


def _number(element: dict[str, Any], name: str, where: dict[str, Any]) -> float | None:
    number = element.get(name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise invalid(f"{name!r} is a number of seconds", where)
    try:
        return float(number)
    except OverflowError:
        raise invalid(f"{name!r} is too large", where) from None


def meta_in(element: dict[str, Any], where: dict[str, Any]) -> bytes:
    """`content_type` of an element, as the record's `meta`."""
    content_type = element.get("content_type")
    if content_type is None:
        return b""
    if not isinstance(content_type, str):
        raise invalid("'content_type' is a string", where)
    try:
        return meta_of(content_type.encode("utf-8", "replace"))
    except Problem as problem:
        raise invalid(problem.detail, where) from None


def require_fields(element: dict[str, Any], allowed: frozenset[str], where: dict[str, Any]) -> None:
    """Problem 422 for a field that means nothing here: better than to leave out what a client asked for.

    Null means something in an `etag` only.
    """
    for name, content in element.items():
        if name not in allowed:
            raise invalid(f"there is no field {name!r} here", where)
        if content is None and name != "etag":
            raise invalid(f"{name!r} is null: leave it out, or give it a value", where)


def invalid(detail: str, where: dict[str, Any]) -> Problem:
    """One element of a body is wrong."""
    return Problem(422, detail, slug="element", **where)
