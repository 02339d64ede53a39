"""The server answers as /openapi.json says: schemathesis makes requests from it, right and wrong ones, and compares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

from flash_kv.client import frames
from flash_kv.server.openapi.document import document
from support.servers import Served

# Answers without an end: of these only the beginning can be compared, which has a test of its own. Nobody who follows
# changes wants them to end, so there is no parameter for it.
ENDLESS = ("/v1/watch", "/v1/live")
METHODS = ("get", "head", "put", "post", "delete")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


# Text of any kind is a text, so there is nothing to get wrong in these.
NOTHING_WRONG = {"key", "prefix", "start", "stop", "Range", "If-Range", "If-Match", "If-None-Match"}
# A condition, a bound or a folder is asked for that a schema does not know of: what is well-formed may be refused.
CONDITIONAL = ("/v1/kv/{key}", "/v1/kv", "/v1/batch", "/v1/backup", "/v1/backups")

# Bodies of load: JSON Schema has no words for a stream of lines or frames.
LINES = st.lists(
    st.fixed_dictionaries(
        {"value": st.text(st.characters(codec="utf-8"))},
        optional={
            "content_type": st.just("text/plain"),
            "expires_at": st.floats(0, 1e10, exclude_min=True),
            "lsn": st.integers(0),
        },
    ).flatmap(
        lambda line: st.text(st.characters(codec="utf-8"), min_size=1).map(lambda key: {**line, "key": key})
    ),
    max_size=5,
).map(lambda lines: b"".join(json.dumps(line).encode() + b"\n" for line in lines))
RECORDS = st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=50))
SENT_FRAMES = st.lists(RECORDS, max_size=5).map(
    lambda records: b"".join(frames.pack(key, value) for key, value in records) + frames.END
)


def _can_be_wrong(found: dict[str, Any]) -> bool:
    names = {
        part.get("name") or part["$ref"].rpartition("/")[2].lower() for part in found.get("parameters", ())
    }
    return bool(names - NOTHING_WRONG) or "requestBody" in found


CASES = [
    (method, path, mode)
    for method, path, found in operations()
    if path not in ENDLESS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or _can_be_wrong(found)
]
BEGINNINGS = {"/v1/watch": b"event: beat", "/v1/live": b"retry: "}


@pytest.fixture(scope="module")
def schema() -> Any:
    """Asked for before the server, whose thread imports as well: CPython 3.11 cannot parse in two threads at once."""
    schemathesis.openapi.media_type("application/x-ndjson", LINES)
    schemathesis.openapi.media_type(frames.MEDIA_TYPE, SENT_FRAMES)
    return schemathesis.openapi.from_dict(document())


@pytest.mark.parametrize(("method", "path", "mode"), CASES, ids=lambda part: getattr(part, "value", part))
def test_answers_are_those_of_the_document(
    schema: Any, server: Served, method: str, path: str, mode: GenerationMode
) -> None:
    excluded = [schemathesis.checks.positive_data_acceptance] if path in CONDITIONAL else []
    cases = schema[path][method].as_strategy(generation_mode=mode)

    @hypothesis.settings(max_examples=8, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=cases)
    def try_one(case: schemathesis.Case) -> None:
        with requests.Session() as session:
            case.call_and_validate(base_url=server.url, session=session, excluded_checks=excluded)

    try_one()


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/v1/watch", GenerationMode.POSITIVE),
        ("/v1/watch", GenerationMode.NEGATIVE),
        ("/v1/live", GenerationMode.POSITIVE),
    ],
    ids=lambda part: getattr(part, "value", part),
)
def test_streams_begin_as_the_document_says(
    schema: Any, server: Served, path: str, mode: GenerationMode
) -> None:
    cases = schema[path]["GET"].as_strategy(generation_mode=mode)

    @hypothesis.settings(max_examples=8, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=cases)
    def try_one(case: schemathesis.Case) -> None:
        request = case.as_transport_kwargs(base_url=server.url)
        with requests.Session() as session, session.request(**request, stream=True, timeout=60) as response:
            if response.status_code != 200:
                assert mode is GenerationMode.NEGATIVE, response.text
                case.validate_response(response)
                return
            assert mode is GenerationMode.POSITIVE, request
            assert response.headers["content-type"] == "text/event-stream"
            beginning = next(response.iter_content(1 << 16))
            assert BEGINNINGS[path] in beginning

    try_one()
