"""Many keys in one request: batches, look-ups, loads and dumps, and changes as they happen."""

from __future__ import annotations

from flash_kv.server.openapi.parts import (
    EVENTS,
    FRAMES,
    NDJSON,
    WRITING,
    Json,
    answer,
    body,
    flag,
    header,
    integer,
    json_answer,
    json_body,
    operation,
    query,
    schema,
    shared,
    text,
)

_STREAMS: dict[str, Json] = {NDJSON: {"schema": {"type": "string"}}, FRAMES: {"schema": {}}}

BATCH: Json = operation(
    "commitBatch",
    "Commit several writes as one",
    {
        200: json_answer(
            "All of it is committed; the ETags of its writes, in order.",
            schema("Committed"),
            {"etags": ['"43"', '"44"']},
        )
    },
    tag="many keys",
    scope="write",
    description="All or nothing, also across a crash. `require` is checked in one step with the writes: where it is "
    "not met, 412 names the first key whose ETag is another.",
    parameters=shared("Durability"),
    request=json_body(
        schema("Batch"),
        {
            "require": [{"key": "users/42", "etag": '"42"'}],
            "ops": [
                {"op": "put", "key": "users/42", "value": "Ann", "ttl_s": 3600},
                {"op": "delete", "key_b64": "/w=="},
            ],
        },
    ),
    problems=(412, 415, 422, *WRITING),
)

LOOK_UP: Json = operation(
    "getMany",
    "Read many keys",
    {
        200: json_answer(
            "A record or null for each key.",
            schema("Items"),
            {"items": [{"key": "a", "value": "1", "lsn": 7}, None]},
        )
    },
    tag="many keys",
    scope="read",
    request=json_body(schema("Keys"), {"keys": ["a", {"key_b64": "/w=="}]}),
    problems=(413, 415, 422),
)

LOAD: Json = operation(
    "load",
    "Load a stream of records",
    {
        200: json_answer(
            "How many were stored.",
            {"type": "object", "required": ["loaded"], "properties": {"loaded": integer("Records.")}},
            {"loaded": 2},
        )
    },
    tag="many keys",
    scope="write",
    description="Committed in chunks as they come: after a problem, which names the line (or frame), the chunks before "
    "it are stored. Lines are objects as `/v1/dump` gives them; of frames, the LSN is ignored.",
    parameters=shared("Durability"),
    request=body(_STREAMS),
    problems=(411, 415, 422, *WRITING),
)

DUMP: Json = operation(
    "dump",
    "Read the whole store as a stream",
    {200: answer("Every record, as of one moment; NDJSON, or frames as in a list.", _STREAMS)},
    tag="many keys",
    scope="read",
)

WATCH: Json = operation(
    "watch",
    "Follow changes as they are committed",
    {
        200: answer(
            "Server-sent events without an end: `put`, `delete`, `missed` (the client was too slow, or `since` is too "
            "long ago: read anew) and `beat` (nothing happened). `id` is the LSN, `data` the key, the LSN, and with "
            "`values=true` the value.",
            {
                EVENTS: {
                    "schema": {"type": "string"},
                    "example": 'id: 42\\nevent: put\\ndata: {"key":"a","lsn":42}\\n\\n',
                }
            },
        )
    },
    tag="changes",
    scope="read",
    parameters=[
        *shared("Prefix"),
        query(
            "since",
            "Changes above this LSN; those from now on, where it is not given.",
            integer("An LSN.", maximum=2**63 - 1),
        ),
        query("values", "With the values.", flag("With the values.")),
        header(
            "Last-Event-ID",
            "As `since`; what an EventSource sends when it comes back.",
            text("An LSN.", pattern="^[0-9]{1,18}$"),
        ),
    ],
)

PATHS: dict[str, Json] = {
    "/v1/batch": {"post": BATCH},
    "/v1/mget": {"post": LOOK_UP},
    "/v1/load": {"post": LOAD},
    "/v1/dump": {"get": DUMP},
    "/v1/watch": {"get": WATCH},
}
