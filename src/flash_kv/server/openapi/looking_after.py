"""Looking after a store and its server: figures, long operations, health, the pages for people and machines."""

from __future__ import annotations

from typing import Any

from flash_kv.server.openapi.parts import (
    EVENTS,
    JSON,
    Json,
    answer,
    array,
    flag,
    integer,
    json_answer,
    json_body,
    operation,
    query,
    record,
    schema,
    shared,
    text,
)


def _admin(name: str, summary: str, answers: dict[int, Json], *, scope: str = "admin", **more: Any) -> Json:
    return operation(name, summary, answers, tag="admin", scope=scope, **more)


def _shown(name: str, summary: str, found: Json, **more: Any) -> Json:
    return _admin(name, summary, {200: json_answer("As it is now.", found)}, scope="read", **more)


_STATS = {
    "allOf": [
        schema("Stats"),
        record(
            {
                "server": record(
                    {"uptime_s": {"type": "number"}}, description="What the server says of itself."
                )
            }
        ),
    ]
}
_SEGMENTS = record({"segments": array(schema("Segment"))})
_BACKUPS = record({"backups": array({"type": "object"})})
_NAME = text("A new name.", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")

_COMPACTION: Json = {
    "get": _admin(
        "getCompaction",
        "See how far a compaction is",
        {200: json_answer("The last or running one.", schema("Compaction"))},
    ),
    "post": _admin(
        "startCompaction",
        "Start a compaction, or ask what it would gain",
        {
            200: json_answer("With `dry_run`: what it would do.", schema("Compaction")),
            202: json_answer("It has begun.", schema("Compaction")),
        },
        request=json_body(
            record({}, {"dry_run": flag("Only predict.")}, additionalProperties=False),
            {"dry_run": True},
            is_required=False,
        ),
        problems=(409, 413, 507),
    ),
    "delete": _admin(
        "cancelCompaction",
        "End a compaction early",
        {202: json_answer("It is being ended; nothing is lost.", schema("Compaction"))},
        problems=(409,),
    ),
}
_VERIFY: Json = {
    "get": _admin(
        "getVerification",
        "See what a verification has found",
        {200: json_answer("The last or running one.", schema("Verification"))},
    ),
    "post": _admin(
        "startVerification",
        "Read and check every record",
        {202: json_answer("It has begun.", schema("Verification"))},
        problems=(409,),
    ),
    "delete": _admin(
        "cancelVerification",
        "End a verification early",
        {202: json_answer("It ends with the segment that it reads.", schema("Verification"))},
        problems=(409,),
    ),
}

PATHS: dict[str, Json] = {
    "/v1/stats": {"get": _shown("getStats", "Read the figures of the store and the server", _STATS)},
    "/v1/options": {
        "get": _admin(
            "getOptions",
            "Read the options of the store and the settings of the server",
            {200: json_answer("None of them is a secret.", {"type": "object"})},
        )
    },
    "/v1/segments": {
        "get": _shown("listSegments", "List the segments with their live and dead bytes", _SEGMENTS)
    },
    "/v1/sync": {
        "post": operation(
            "sync",
            "Make everything durable",
            {204: answer("All that was committed survives a power cut.")},
            tag="admin",
            scope="write",
            problems=(507,),
        )
    },
    "/v1/compaction": _COMPACTION,
    "/v1/verify": _VERIFY,
    "/v1/backup": {
        "post": _admin(
            "makeBackup",
            "Copy the store into the folder of backups",
            {201: json_answer("It is complete.", schema("BackupReport"))},
            request=json_body(
                record({"name": _NAME}, additionalProperties=False), {"name": "before-upgrade"}
            ),
            problems=(404, 409, 413, 422, 507),
        ),
        "delete": _admin(
            "cancelBackup",
            "End a backup early",
            {202: json_answer("It is being ended; nothing of it will be left.", schema("Job"))},
            problems=(409,),
        ),
    },
    "/v1/backups": {
        "get": _admin(
            "listBackups", "List the backups", {200: json_answer("By name.", _BACKUPS)}, problems=(404,)
        )
    },
    "/v1/biggest": {
        "get": _shown(
            "findBiggest",
            "Find the biggest values and prefixes",
            schema("Biggest"),
            parameters=[
                *shared("Prefix"),
                query("limit", "Of each, so many.", integer("A number.", low=1, maximum=1000)),
                query(
                    "depth", "Separators that a prefix goes through.", integer("A number.", low=1, maximum=10)
                ),
            ],
            problems=(422,),
        )
    },
    "/v1/slowlog": {
        "get": _admin(
            "getSlowLog",
            "List the slowest requests of late",
            {200: json_answer("The newest first.", schema("SlowRequests"))},
            parameters=[query("limit", "So many at most.", integer("A number.", low=1, maximum=1000))],
        ),
        "delete": _admin("clearSlowLog", "Forget the slow requests", {204: answer("Forgotten.")}),
    },
    "/v1/live": {
        "get": operation(
            "followFigures",
            "Follow the figures, once a second",
            {200: answer("Server-sent events without an end.", {EVENTS: {"schema": {"type": "string"}}})},
            tag="admin",
            scope="read",
        )
    },
    "/healthz": {
        "get": operation(
            "getHealth",
            "Ask whether the server is alive and can write",
            {200: json_answer("It is.", schema("Health"))},
            tag="service",
            scope=None,
        )
    },
    "/readyz": {
        "get": operation(
            "getReadiness",
            "Ask whether the server takes requests",
            {200: json_answer("It does.", schema("Health"))},
            tag="service",
            scope=None,
        )
    },
    "/metrics": {
        "get": operation(
            "getMetrics",
            "Read the figures as Prometheus does",
            {200: answer("Metrics in the text format.", {"text/plain": {"schema": {"type": "string"}}})},
            tag="service",
            scope="read",
        )
    },
    "/openapi.json": {
        "get": operation(
            "getDocument",
            "Read this document",
            {200: answer("The document.", {JSON: {"schema": {"type": "object"}}})},
            tag="service",
            scope=None,
        )
    },
}
