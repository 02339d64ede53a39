"""The table of routes: a path, or a path's beginning, and a method lead to a handler and the scope it needs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from flash_kv.server.auth import Scope
from flash_kv.server.http.answers import Answer
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request

Outcome = Answer | Coroutine[Any, Any, Answer]
Handler = Callable[[Request], Outcome]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one resource.

    `path` is as documented: "/v1/count", or with a tail "/v1/kv/{key}", which is everything from there on, slashes too,
    and may be empty: `Request.rest`. A route for GET answers HEAD as well.
    """

    method: str
    path: str
    handle: Handler
    scope: Scope | None
    """What a token needs for it; None: no token at all."""
    is_immediate: bool = False
    """The handler is no `async def`: it gives its answer at once where it can, and else a coroutine. `Request.whole` is
    the body then, if that was small; it is None for one that the handler has to read."""


class Table:
    """Routes, to be found by path and method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[bytes, dict[str, Route]] = {}
        self._tails: dict[bytes, dict[str, Route]] = {}
        for route in self.routes:
            head, brace, _ = route.path.partition("{")
            methods = (self._tails if brace else self._exact).setdefault(head.encode(), {})
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                if method in methods:
                    raise ValueError(f"two routes for {method} {route.path}")
                methods[method] = route
        # The longest first: the more special one wins.
        self._heads = sorted(self._tails, key=len, reverse=True)
        # The beginning of the paths of immediate routes, as long as no route could be meant by more of a path.
        heads = {route.path.partition("{")[0].encode() for route in self.routes if route.is_immediate}
        others = [*self._exact, *self._tails]
        self._immediate = tuple(
            (head, self._tails[head])
            for head in sorted(heads)
            if head in self._tails and not any(other != head and other.startswith(head) for other in others)
        )

    def immediate(self, method: str, path: bytes) -> tuple[Route, bytes] | None:
        """As `find`, of a route that is immediate; None when there is none, or when it takes `find` to see."""
        for head, methods in self._immediate:
            if path.startswith(head):
                route = methods.get(method)
                return (route, path[len(head) :]) if route is not None and route.is_immediate else None
        return None

    def find(self, method: str, path: bytes) -> tuple[Route, bytes]:
        """The route and what follows its path, still encoded. Problem 404 or 405 when there is none."""
        methods = self._exact.get(path)
        rest = b""
        if methods is None:
            for head in self._heads:
                if path.startswith(head):
                    methods, rest = self._tails[head], path[len(head) :]
                    break
            else:
                raise Problem(404, "there is nothing at this path", slug="no-route")
        route = methods.get(method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise Problem(405, f"there is {allowed} here", headers=[(b"allow", allowed.encode())])
        return route, rest
