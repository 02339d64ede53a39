"""The server answers as /openapi.json says: schemathesis makes requests from it, right and wrong ones, and compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import GenerationMode

from flash_kv.server.openapi.document import document
from support.servers import Served

# Answers without an end: test_watch reads them.
ENDLESS = ("/v1/watch", "/v1/live")
METHODS = ("get", "head", "put", "post", "delete")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


# What needs a body that no schema describes.
STREAMED = ("/v1/load",)
# Text of any kind is a text, so there is nothing to get wrong in these.
NOTHING_WRONG = {"key", "prefix", "start", "stop", "Range", "If-Range", "If-Match", "If-None-Match"}
# A condition, a bound or a folder is asked for that a schema does not know of: what is well-formed may be refused.
CONDITIONAL = ("/v1/kv/{key}", "/v1/kv", "/v1/batch", "/v1/backup", "/v1/backups")


def _can_be_wrong(found: dict[str, Any]) -> bool:
    names = {
        part.get("name") or part["$ref"].rpartition("/")[2].lower() for part in found.get("parameters", ())
    }
    return bool(names - NOTHING_WRONG) or "requestBody" in found


CASES = [
    (method, path, mode)
    for method, path, found in operations()
    if path not in (*ENDLESS, *STREAMED)
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or _can_be_wrong(found)
]


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(document())


@pytest.mark.parametrize(("method", "path", "mode"), CASES, ids=lambda part: getattr(part, "value", part))
def test_answers_are_those_of_the_document(
    server: Served, schema: Any, method: str, path: str, mode: GenerationMode
) -> None:
    excluded = [schemathesis.checks.positive_data_acceptance] if path in CONDITIONAL else []
    cases = schema[path][method].as_strategy(generation_mode=mode)

    @hypothesis.settings(max_examples=8, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=cases)
    def try_one(case: schemathesis.Case) -> None:
        with requests.Session() as session:
            case.call_and_validate(base_url=server.url, session=session, excluded_checks=excluded)

    try_one()
