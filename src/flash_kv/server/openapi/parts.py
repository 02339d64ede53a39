"""The words that operations are described in: parameters, bodies, answers, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

JSON = "application/json"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"
FRAMES = "application/vnd.flash-kv.frames"
OCTETS = "application/octet-stream"
EVENTS = "text/event-stream"

# What any request may be answered: malformed, no or a wrong token, not this token, unknown method, too slow, too many
# failures, too long a head, damage on the disk, stopping or poisoned.
ALWAYS = (400, 401, 403, 405, 408, 429, 431, 500, 503)
# And what a write may be answered: too large, no space.
WRITING = (413, 507)


def ref(kind: str, name: str) -> Json:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def schema(name: str) -> Json:
    """A reference to a schema."""
    return ref("schemas", name)


def array(items: Json, **more: Any) -> Json:
    """The schema of a list."""
    return {"type": "array", "items": items, **more}


def record(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None, **more: Any) -> Json:
    """The schema of an object: fields it always has, and fields it may have."""
    fields = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": fields, **more}


def integer(description: str, *, low: int = 0, **more: Any) -> Json:
    """The schema of a whole number."""
    return {"type": "integer", "minimum": low, "description": description, **more}


def number(description: str, *, low: float = 0.0, **more: Any) -> Json:
    """The schema of a number."""
    return {"type": "number", "minimum": low, "description": description, **more}


def text(description: str, **more: Any) -> Json:
    """The schema of a text."""
    return {"type": "string", "description": description, **more}


def flag(description: str) -> Json:
    """The schema of true or false."""
    return {"type": "boolean", "description": description}


def query(name: str, description: str, kind: Json, **more: Any) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": kind, **more}


def header(name: str, description: str, kind: Json, **more: Any) -> Json:
    """A header of the request."""
    return {"name": name, "in": "header", "description": description, "schema": kind, **more}


def shared(*names: str) -> list[Json]:
    """Parameters that several operations have."""
    return [ref("parameters", name) for name in names]


def body(content: Mapping[str, Json], *, is_required: bool = True, description: str = "") -> Json:
    """The body of a request, by media type."""
    return {"required": is_required, "content": dict(content), **_described(description)}


def json_body(kind: Json, example: Any, *, is_required: bool = True) -> Json:
    """A body of JSON."""
    return body({JSON: {"schema": kind, "example": example}}, is_required=is_required)


def answer(description: str, content: Mapping[str, Json] | None = None, headers: Sequence[str] = ()) -> Json:
    """A response: its bodies by media type, and the names of its headers."""
    found: Json = {"description": description}
    if headers:
        found["headers"] = {name: ref("headers", name) for name in headers}
    if content:
        found["content"] = dict(content)
    return found


def json_answer(description: str, kind: Json, example: Any = None, headers: Sequence[str] = ()) -> Json:
    """A response of JSON."""
    media: Json = {"schema": kind}
    if example is not None:
        media["example"] = example
    return answer(description, {JSON: media}, headers)


def operation(
    name: str,
    summary: str,
    answers: Mapping[int, Json],
    *,
    tag: str,
    scope: str | None,
    description: str = "",
    parameters: Sequence[Json] = (),
    request: Json | None = None,
    problems: Sequence[int] = (),
) -> Json:
    """One method of one resource. `scope`: what a token needs for it; None: nothing, no token is looked at."""
    responses: Json = {str(status): found for status, found in answers.items()}
    for status in (*ALWAYS, *problems):
        responses.setdefault(str(status), ref("responses", f"Problem{status}"))
    if scope is None:
        for status in (401, 403, 429):
            responses.pop(str(status))
    found: Json = {
        "operationId": name,
        "summary": summary,
        **_described(description),
        "tags": [tag],
        # A server without a file of tokens takes requests without one.
        "security": [] if scope is None else [{"token": [scope]}, {}],
        "responses": dict(sorted(responses.items())),
    }
    if parameters:
        found["parameters"] = list(parameters)
    if request is not None:
        found["requestBody"] = request
    return found


def _described(description: str) -> Json:
    return {"description": description} if description else {}
