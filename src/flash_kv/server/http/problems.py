"""Errors as problem documents (RFC 9457): `Problem` is raised by handlers, the store's own errors are translated."""

from __future__ import annotations

import base64
import http
from collections.abc import Sequence
from typing import Any

from flash_kv import errors
from flash_kv.server.http.answers import Answer, Header, json_bytes

PROBLEM = (b"content-type", b"application/problem+json")


class Problem(Exception):
    """An answer that is an error: status, a text for people, more fields for programs."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        slug: str | None = None,
        headers: Sequence[Header] = (),
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.slug = slug
        self.headers = tuple(headers)
        self.more = more

    def answer(self) -> Answer:
        """The problem as `application/problem+json`."""
        body = json_bytes(self.document())
        return Answer(self.status, [PROBLEM, *self.headers], body)

    def document(self) -> dict[str, Any]:
        """The document's fields."""
        return {
            "type": f"urn:flash-kv:{self.slug}" if self.slug else "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }


def describe(error: errors.FlashKVError) -> Problem:
    """The problem that an error of the store is for a client."""
    text = str(error)
    match error:
        case errors.KeySizeError():
            return Problem(400, text, slug="key-size", limit=error.limit)
        case errors.ValueSizeError():
            return Problem(413, text, slug="too-large", limit=error.limit)
        case errors.UnorderedIndexError():
            return Problem(422, text, slug="unordered-index", index=error.index)
        case errors.ReadOnlyError():
            return Problem(403, text, slug="read-only")
        case errors.CorruptionError():
            return Problem(500, text, slug="damaged", path=error.path, offset=error.offset)
        case errors.StoreFullError():
            return Problem(507, text, slug="disk-full")
        case errors.PoisonedError():
            return Problem(503, text, slug="poisoned")
        case errors.ClosedError():
            return Problem(503, text, slug="stopping")
        case errors.KeyTypeError() | errors.ValueTypeError() | errors.OptionsError():
            return Problem(400, text)
    return Problem(500, text, slug="storage")


def key_fields(key: bytes, name: str = "key") -> dict[str, str]:
    """`key` as a field for JSON: text where it is UTF-8, else base64 under `<name>_b64`."""
    try:
        return {name: key.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(key).decode()}
