"""Ranges of keys in a query, and the cursor that continues a list.

A cursor is a position: the last key that was listed. The next page begins behind it, whatever has been written in
between: no key that stays is listed twice or left out. It is bound to the range and the direction it was made for, and
narrows them; so any bytes are safe as one, they are only refused.

    version (1) | check (8): SHA-256 of range and direction | key      in base64url without padding
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request, flag

RANGE_PARAMETERS = ("prefix", "start", "stop")

_VERSION = b"\x01"
_CHECK_BYTES = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which keys, in which order: with `prefix`, from `start` (included) to `stop` (not included)."""

    prefix: bytes | None = None
    start: bytes | None = None
    stop: bytes | None = None
    reverse: bool = False

    @property
    def is_everything(self) -> bool:
        """True when no bound is given."""
        return not self.prefix and not self.start and self.stop is None

    @property
    def range(self) -> dict[str, Any]:
        """The bounds as arguments of `db.keys` and its kin; none for every key, which each index can answer."""
        named = {"prefix": self.prefix or None, "start": self.start or None, "stop": self.stop}
        return {name: bound for name, bound in named.items() if bound is not None}

    @property
    def view(self) -> dict[str, Any]:
        """`range` and the direction."""
        return {**self.range, "reverse": True} if self.reverse else dict(self.range)

    def after(self, cursor: bytes) -> Bounds:
        """What is left of these bounds behind the position of `cursor`. Problem 400 when it was made for others."""
        try:
            raw = base64.b64decode(cursor + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        head, key = raw[: 1 + _CHECK_BYTES], raw[1 + _CHECK_BYTES :]
        if head != _VERSION + self._check() or not key:
            raise Problem(400, "the cursor is none of this list", slug="cursor")
        if self.reverse:
            return Bounds(self.prefix, self.start, key if self.stop is None else min(self.stop, key), True)
        following = key + b"\0"
        return Bounds(self.prefix, max(self.start or b"", following), self.stop)

    def cursor(self, key: bytes) -> str:
        """The position behind `key` in these bounds."""
        return base64.urlsafe_b64encode(_VERSION + self._check() + key).rstrip(b"=").decode()

    def _check(self) -> bytes:
        parts = repr((self.prefix or b"", self.start or b"", self.stop, self.reverse))
        return hashlib.sha256(parts.encode()).digest()[:_CHECK_BYTES]


def bounds_of(request: Request, parameters: dict[str, bytes]) -> Bounds:
    """The range that a query asks for, within what the request's token may touch."""
    bounds = Bounds(
        parameters.get("prefix"), parameters.get("start"), parameters.get("stop"), flag(parameters, "reverse")
    )
    if request.grant.prefixes:
        # One prefix at a time: a token for "a/" lists with prefix=a/ or anything below it.
        request.require_key(bounds.prefix or b"")
    return bounds
