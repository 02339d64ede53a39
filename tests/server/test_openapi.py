"""/openapi.json is a valid document of the routes there are, each with the scope that it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import openapi_spec_validator

from flash_kv.server.http.resources import all_routes
from flash_kv.server.http.routing import Route
from flash_kv.server.openapi.document import document
from support.servers import Served

# Pages for people, which have no place in a description for programs.
PAGES = re.compile(r"/(console/.*)?")
METHODS = ("get", "head", "put", "post", "delete", "patch", "options", "trace")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def routes(server: Served) -> list[Route]:
    return [route for route in all_routes(server.service) if not PAGES.fullmatch(route.path)]


def test_the_document_is_one_of_openapi_3_1() -> None:
    openapi_spec_validator.validate(document())


def test_the_document_is_served(server: Served) -> None:
    answer = server.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document()


def test_every_route_is_in_the_document_and_nothing_else_is(server: Served) -> None:
    served = {(route.method, route.path) for route in routes(server)}
    # A route for GET answers HEAD as well; the document says so where a client would ask.
    described = {(method, path) for method, path, _ in operations() if method != "HEAD"}
    assert served == described
    assert {path for method, path, _ in operations() if method == "HEAD"} <= {path for _, path in served}


def test_the_document_says_what_scope_a_token_needs(server: Served) -> None:
    needed = {(route.method, route.path): route.scope for route in routes(server)}
    for method, path, found in operations():
        scope = needed["GET" if method == "HEAD" else method, path]
        assert found["security"] == ([] if scope is None else [{"token": [scope]}, {}]), (method, path)


def test_names_of_operations_are_told_apart() -> None:
    names = [found["operationId"] for _, _, found in operations()]
    assert len(set(names)) == len(names)


def test_everything_described_is_used_and_every_operation_has_a_tag() -> None:
    text = repr(document())
    for kind, parts in document()["components"].items():
        for name in parts:
            assert kind == "securitySchemes" or f"'#/components/{kind}/{name}'" in text, (kind, name)
    assert {tag for *_, found in operations() for tag in found["tags"]} == {
        tag["name"] for tag in document()["tags"]
    }
