"""What a client asks and what it is answered, as plain data: no I/O here.

An operation is a generator: it yields each `Call` (or `Pause`) it needs, is sent the `Answer`, and returns its result.
So pop, which takes several calls, is written once and driven by both kinds of client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from flash_kv.client.arguments import as_bound
from flash_kv.client.errors import RemoteError
from flash_kv.engine.views import Range
from flash_kv.errors import ForkedError, OptionsError

T = TypeVar("T")
PROBLEM = "application/problem+json"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `is_read`: asking again changes nothing. `accepts`: statuses from 400 on that are no error."""

    method: str
    path: str
    params: tuple[tuple[str, str | bytes], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Iterable[bytes] | None = None
    is_read: bool = False
    accepts: tuple[int, ...] = ()

    @property
    def target(self) -> str:
        """Path and query, percent-encoded."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in self.params)
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait between two calls."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, read to its end. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def is_problem(self) -> bool:
        """Whether it is a problem in the words of this interface, not those of something on the way."""
        return self.headers.get("content-type", "").startswith(PROBLEM)

    def json(self) -> Any:
        """The content. RemoteError when it is no JSON object."""
        try:
            found = json.loads(self.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise not_ours(self.status, f"what should be a JSON object begins {self.content[:80]!r}")
        return found

    @property
    def lsn(self) -> int:
        """That of its ETag. RemoteError when there is none."""
        return lsn_of(self.headers.get("etag")) or self._without_etag()

    def _without_etag(self) -> int:
        raise not_ours(self.status, "it has no ETag")


Steps: TypeAlias = Generator[Call | Pause, Answer, T]


def not_ours(status: int, why: str) -> RemoteError:
    """The error for an answer that no FlashKV server gives."""
    return RemoteError(
        status, "Not an answer of FlashKV", f"{why}: check the URL, and what stands before the server"
    )


def require_process(url: str, pid: int) -> None:
    """ForkedError unless this is process `pid`: who reads on in a child takes what its parent waits for."""
    if pid != os.getpid():
        raise ForkedError(url, pid)


def lsn_of(etag: str | None) -> int | None:
    """The LSN in an ETag; None when there is none."""
    digits = (etag or "").strip('"')
    return int(digits) if digits.isascii() and digits.isdigit() else None


def json_call(
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    params: tuple[tuple[str, str | bytes], ...] = (),
    is_read: bool = False,
    accepts: tuple[int, ...] = (),
) -> Call:
    """A call with a body of JSON, or with none."""
    headers = {"Accept": f"{JSON}, {PROBLEM}"}
    content = None
    if body is not None:
        headers["Content-Type"] = JSON
        content = json.dumps(body, separators=(",", ":")).encode()
    return Call(method, path, params, headers, content, is_read, accepts)


def durability_params(durability: object) -> tuple[tuple[str, str], ...]:
    """The parameter for one of the durabilities that a single request may have. OptionsError for another."""
    if durability is None:
        return ()
    if durability not in ("process", "always"):
        raise OptionsError([f'durability of a request must be "process" or "always", not {durability!r}'])
    return (("durability", str(durability)),)


@dataclass(frozen=True)
class Bounds:
    """A range of keys, as bytes; None for open."""

    prefix: bytes | None = None
    start: bytes | None = None
    stop: bytes | None = None

    @property
    def range(self) -> Range:
        """The same as the engine has it: which keys are inside, whether any can be."""
        return Range(self.prefix, self.start, self.stop)

    @property
    def params(self) -> tuple[tuple[str, bytes], ...]:
        """As parameters of a request."""
        given = (("prefix", self.prefix), ("start", self.start), ("stop", self.stop))
        return tuple((name, bound) for name, bound in given if bound)


def bounds_of(prefix: object, start: object, stop: object) -> Bounds:
    """Bounds as given, as bytes. KeyTypeError."""
    return Bounds(as_bound(prefix), as_bound(start), as_bound(stop))
