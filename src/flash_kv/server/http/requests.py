"""`Request`: the parts of one request, taken apart when a handler asks for them, and its body within limits."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, MutableMapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_to_bytes

from flash_kv.server.auth import EVERYTHING, Grant
from flash_kv.server.http.problems import Problem

if TYPE_CHECKING:
    from flash_kv.server.http.routing import Route

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DurabilityWord = Literal["process", "always"]

_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What a client may still send after a refusal before the connection is closed on it, and the refusal perhaps lost.
DISCARD_BYTES_MAX = 64 << 20


class Disconnected(Exception):
    """The client went away before its request was whole."""


class Request:
    """One request. `rest` is what follows the route's path, percent-decoded: a key, a name, or b""."""

    # Of these most requests need no other values, and the class's own cost them nothing.
    receive: Receive
    raw_rest = b""
    grant: Grant = EVERYTHING
    # The whole body, where it was there before the handler was called.
    whole: bytes | None = None
    is_body_read = False
    _query: dict[str, bytes] | None = None
    # The route once it is found, and its path; "" while there is none.
    found: Route | None = None
    route = ""
    # For the observers; the last three once it has ended: the status of the answer, 499 when the client went away
    # before there was one; from the head to the last byte handed to the connection, a stream's whole life.
    bytes_in = 0
    bytes_out = 0
    status = 0
    duration_s = 0.0

    def __init__(
        self, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes], client: str
    ) -> None:
        self.began = time.perf_counter()
        self.method = method
        # As the client wrote it.
        self.path = path
        self.query_string = query
        # By their names in lower case.
        self.headers = headers
        # The address of the other side.
        self.client = client

    @classmethod
    def of_scope(cls, scope: Scope) -> Request:
        """The request that ASGI speaks of."""
        client = scope.get("client")
        return cls(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            dict(scope["headers"]),
            client[0] if client else "",
        )

    # -- the head

    @property
    def rest(self) -> bytes:
        """What follows the route's path, percent-decoded."""
        return unquoted(self.raw_rest)

    @property
    def key(self) -> bytes:
        """`rest` as a key the request's token may touch. Problem 400 when it is empty, 403 when it may not."""
        raw = self.raw_rest
        key = unquoted(raw) if b"%" in raw else raw
        if not key:
            raise Problem(400, "a key must have at least one byte", slug="key-size")
        if self.grant.prefixes:
            self.require_key(key)
        return key

    def require_key(self, key: bytes) -> None:
        """Problem 403 unless the request's token may touch `key` (or all keys with that prefix)."""
        if not self.grant.may_touch(key):
            raise Problem(403, "the token is not for this key", slug="prefix")

    # -- the query

    def query(self, allowed: Collection[str]) -> dict[str, bytes]:
        """The query's parameters, decoded as a form's are. Problem 400 for one that is not `allowed` or there twice."""
        if self._query is None:
            self._query = parse_query(self.query_string)
        for name in self._query:
            if name not in allowed:
                raise Problem(
                    400, f"there is no parameter {name!r} here; there are: {', '.join(allowed) or 'none'}"
                )
        return self._query

    def durability(self) -> DurabilityWord | None:
        """`?durability=process|always` where that is the only parameter; None when it is not given."""
        if not self.query_string:
            return None
        return self.durability_of(self.query(("durability",)))

    def durability_of(self, parameters: dict[str, bytes]) -> DurabilityWord | None:
        """The same among other parameters."""
        match parameters.get("durability"):
            case None:
                return None
            case b"process":
                return "process"
            case b"always":
                return "always"
        raise Problem(400, "durability must be process or always")

    # -- the body

    async def chunks(self, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Problem 413 beyond `limit` bytes; Disconnected when it ends too soon."""
        self.require_announced(limit)
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Disconnected
            body = message.get("body", b"")
            self.bytes_in += len(body)
            self.is_body_read = not message.get("more_body", False)
            if limit is not None and self.bytes_in > limit:
                raise too_large(limit)
            if body:
                yield body
            if self.is_body_read:
                return

    async def body(self, limit: int) -> bytes:
        """The whole body, in memory; as it arrives, never as announced."""
        pieces = [piece async for piece in self.chunks(limit)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def json(self, limit: int) -> Any:
        """The body as JSON. Problem 400 when it is none."""
        body = await self.body(limit)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Problem(400, f"the body is not JSON: {error}", slug="json") from None

    def require_announced(self, limit: int | None) -> None:
        """Problem 413 when the body is announced to be longer than `limit`."""
        if limit is None:
            return
        announced = self.headers.get(b"content-length")
        if announced is not None and int(announced) > limit:
            raise too_large(limit)

    async def discard(self) -> bool:
        """Read and drop what is left of the body, within bounds; False when there is more than that."""
        dropped = 0
        while not self.is_body_read:
            message = await self.receive()
            if message["type"] != "http.request":
                return False
            dropped += len(message.get("body", b""))
            self.bytes_in += len(message.get("body", b""))
            self.is_body_read = not message.get("more_body", False)
            if dropped > DISCARD_BYTES_MAX:
                return False
        return True


def too_large(limit: int) -> Problem:
    """The body is longer than the server takes."""
    return Problem(413, f"the body has more than {limit} bytes", slug="too-large", limit=limit)


def unquoted(raw: bytes) -> bytes:
    """`raw` percent-decoded; "+" is plus. Problem 400 for a percent sign without two hexadecimal digits."""
    if b"%" not in raw:
        return raw
    if _BAD_PERCENT.search(raw):
        raise Problem(400, "a percent sign needs two hexadecimal digits behind it")
    return unquote_to_bytes(raw)


def parse_query(raw: bytes) -> dict[str, bytes]:
    """Parameters of a query as forms write them: "+" is a space. Problem 400 for one that is there twice."""
    found: dict[str, bytes] = {}
    for part in raw.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        decoded = unquoted(name).decode("utf-8", "backslashreplace")
        if decoded in found:
            raise Problem(400, f"the parameter {decoded!r} is there twice")
        found[decoded] = unquoted(value.replace(b"+", b" "))
    return found


def flag(parameters: dict[str, bytes], name: str) -> bool:
    """A parameter that is true or false; false when it is not there."""
    match parameters.get(name):
        case None | b"false":
            return False
        case b"true":
            return True
    raise Problem(400, f"{name} must be true or false")


def number(parameters: dict[str, bytes], name: str, default: int, low: int, high: int) -> int:
    """A parameter that is a whole number from `low` to `high`."""
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise Problem(400, f"{name} must be a whole number from {low} to {high}")
    return int(text)
