"""One key, and ranges of keys."""

from __future__ import annotations

from typing import Any

from flash_kv.server.openapi.parts import (
    FRAMES,
    JSON,
    NDJSON,
    OCTETS,
    WRITING,
    Json,
    answer,
    body,
    flag,
    header,
    integer,
    json_answer,
    number,
    operation,
    query,
    schema,
    shared,
    text,
)

_BINARY: Json = {"schema": {}}
_VALUE_HEADERS = ("ETag", "Accept-Ranges", "FlashKV-Expires", "FlashKV-TTL")
_ANY_TYPE = {OCTETS: _BINARY, "*/*": _BINARY}
_READING: list[Json] = [
    *shared("Key"),
    header("Range", "One range of bytes: `bytes=0-99`, `bytes=100-`, `bytes=-100`.", text("A range.")),
    header("If-Range", "The range only if the record still has this ETag, else all of it.", text("An ETag.")),
    header("If-Match", "412 unless the record has one of these ETags.", text("ETags.")),
    header("If-None-Match", "304 if the record has one of these ETags.", text("ETags.")),
]
_ITEM = {"key": "users/42", "value": "Ann", "lsn": 42}


def _reading(name: str, summary: str, *, has_body: bool) -> Json:
    content: Any = _ANY_TYPE if has_body else None
    return operation(
        name,
        summary,
        {
            200: answer("The value, in the media type it was stored with.", content, _VALUE_HEADERS),
            206: answer("A part of the value.", content, (*_VALUE_HEADERS, "Content-Range")),
            304: answer("The record is the one the client has.", None, ("ETag",)),
        },
        tag="keys",
        scope="read",
        parameters=_READING,
        problems=(404, 412, 416),
    )


KEY_PATH: Json = {
    "get": _reading("getValue", "Read the value of a key", has_body=True),
    "head": _reading("hasKey", "Ask whether a key is there", has_body=False),
    "put": operation(
        "putValue",
        "Store the value of a key",
        {
            201: answer("The key is new.", None, ("ETag",)),
            204: answer("The value took the place of another.", None, ("ETag",)),
        },
        tag="keys",
        scope="write",
        description="The body is the value, any bytes. Its `Content-Type` is kept and given back.",
        parameters=[
            *shared("Key", "Durability", "IfMatch", "IfNoneMatch"),
            header(
                "FlashKV-TTL",
                "Seconds after which the record expires.",
                number("Seconds.", low=0.001, maximum=3.15e9),
            ),
        ],
        request=body({OCTETS: _BINARY, "*/*": _BINARY}, is_required=False, description="The value."),
        problems=(412, *WRITING),
    ),
    "delete": operation(
        "deleteKey",
        "Delete a key",
        {204: answer("It is gone; the ETag is the LSN of the delete.", None, ("ETag",))},
        tag="keys",
        scope="write",
        parameters=shared("Key", "Durability", "IfMatch"),
        problems=(404, 412, 507),
    ),
}

_BOUNDS = shared("Prefix", "Start", "Stop")

LIST_PATH: Json = {
    "get": operation(
        "listItems",
        "List keys and values of a range",
        {
            200: answer(
                "By `Accept`: a page of JSON; all of the range, one JSON object a line; or all of it in frames. The "
                "two streams show one moment, and end with a last frame, or with a line that holds the problem that "
                "ended it. A frame, little-endian: u32 bytes of the key, u32 bytes of the value, u64 LSN, key, value; "
                "the last one has no key.",
                {
                    JSON: {"schema": schema("Page"), "example": {"items": [_ITEM], "cursor": None}},
                    NDJSON: {"schema": {"type": "string", "description": "Items, one a line."}},
                    FRAMES: _BINARY,
                },
            )
        },
        tag="ranges",
        scope="read",
        description="In the order of bytes. A cursor stays right while others write: what was there all the time is "
        "met once. A range or `reverse` needs a store with an ordered index.",
        parameters=[
            *_BOUNDS,
            query("reverse", "In falling order.", flag("Falling.")),
            query("limit", "Items of a page.", integer("Items.", low=1, maximum=1000)),
            query("keys_only", "Without the values: their sizes.", flag("No values.")),
            query("cursor", "From the page before; the other parameters as they were.", text("A cursor.")),
        ],
        problems=(422,),
    ),
    "delete": operation(
        "deleteRange",
        "Delete the keys of a range",
        {
            200: json_answer(
                "How many there were.",
                {"type": "object", "required": ["deleted"], "properties": {"deleted": integer("Keys.")}},
                {"deleted": 3},
            )
        },
        tag="ranges",
        scope="write",
        description="In chunks of 1,000: not one commit. A bound is required, or `all=true` for every key.",
        parameters=[*_BOUNDS, *shared("Durability"), query("all", "Every key.", flag("Every key."))],
        problems=(422, 507),
    ),
}

COUNT_PATH: Json = {
    "get": operation(
        "countKeys",
        "Count the keys of a range",
        {
            200: json_answer(
                "The number of keys; at once for all keys of the store.",
                {"type": "object", "required": ["count"], "properties": {"count": integer("Keys.")}},
                {"count": 3},
            )
        },
        tag="ranges",
        scope="read",
        parameters=_BOUNDS,
        problems=(422,),
    )
}

PATHS: dict[str, Json] = {"/v1/kv/{key}": KEY_PATH, "/v1/kv": LIST_PATH, "/v1/count": COUNT_PATH}
