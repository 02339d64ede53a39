"""The JSON that requests and answers are made of.

The reports of a store are described from their dataclasses, so that a field that is added there is described here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from flash_kv.engine import reports
from flash_kv.server.openapi.parts import Json, array, flag, integer, number, record, schema, text

_BASE64 = {
    "contentEncoding": "base64",
    "pattern": r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
LSN = integer("A log sequence number: that of a record is its ETag.", low=1)
ETAG = text('`"42"`: the LSN of a record, in quotes.', pattern=r'^"[0-9]+"$')


def _bytes(name: str, what: str, **more: Any) -> dict[str, Json]:
    return {
        name: text(f"The {what}, when its bytes are UTF-8.", **more),
        f"{name}_b64": text(f"The {what} in base64; for any bytes.", **_BASE64, **more),
    }


KEY = _bytes("key", "key")
VALUE = _bytes("value", "value")
KEY_IN = _bytes("key", "key", minLength=1)


def _either(name: str) -> list[Json]:
    return [{"required": [name]}, {"required": [f"{name}_b64"]}]


def _schemas() -> dict[str, Json]:
    key_in = record({}, KEY_IN, oneOf=_either("key"), additionalProperties=False)
    named = {
        "content_type": text("The media type kept with the value."),
        "expires_at": number("Seconds since 1970."),
    }
    return {
        "Problem": record(
            {
                "type": text(
                    "`urn:flash-kv:<word>` for what a program may want to tell apart, else `about:blank`."
                ),
                "title": text("The name of the status."),
                "status": integer("The status.", low=400),
                "detail": text("What happened, for people."),
            },
            {
                **KEY,
                "etag": {"type": ["string", "null"], "description": "That of the record now; null: absent."},
                "limit": integer("What the server takes at most."),
                "path": text("The damaged file."),
                "offset": integer("Where in it."),
                "line": integer("The line, or frame, counted from 1, that is wrong.", low=1),
                "index": {
                    "type": ["string", "integer"],
                    "description": "The index; or the element that is wrong.",
                },
            },
            description="RFC 9457.",
        ),
        "KeyIn": {"oneOf": [text("A key that is text.", minLength=1), key_in]},
        "Item": record(
            {},
            {**KEY, **VALUE, "value_bytes": integer("Of the value, with `keys_only`."), "lsn": LSN, **named},
            oneOf=_either("key"),
        ),
        "Found": {"oneOf": [schema("Item"), {"type": "null"}]},
        "Page": record(
            {
                "items": array(schema("Item")),
                "cursor": {
                    "type": ["string", "null"],
                    "description": "For the next page; null: this is the last.",
                },
            }
        ),
        **_batches(),
        **_reports(),
        **_observed(),
    }


def _batches() -> dict[str, Json]:
    lsn_or_null = {"oneOf": [ETAG, {"type": "null"}]}
    put = record(
        {"op": {"const": "put"}},
        {
            **KEY_IN,
            **VALUE,
            "content_type": text(
                "Kept with the value.", pattern=r"^[!-~]+/[!-~]+(; ?[!-~ ]+)?$", maxLength=255
            ),
            "ttl_s": number("Seconds after which it expires.", low=0.001, maximum=3.15e9),
        },
        allOf=[{"oneOf": _either("key")}, {"oneOf": _either("value")}],
        additionalProperties=False,
    )
    delete = record({"op": {"const": "delete"}}, KEY_IN, oneOf=_either("key"), additionalProperties=False)
    condition = record(
        {
            "etag": {
                "oneOf": [ETAG, {"const": "*"}, {"type": "null"}],
                "description": "null: absent; *: there.",
            }
        },
        KEY_IN,
        oneOf=_either("key"),
        additionalProperties=False,
    )
    return {
        "Batch": record(
            {},
            {"ops": array({"oneOf": [put, delete]}), "require": array(condition)},
            additionalProperties=False,
        ),
        "Committed": record(
            {
                "etags": array(
                    lsn_or_null,
                    description="Of each write, in order; in a batch of deletes alone, of those whose keys were there.",
                )
            }
        ),
        "Keys": record(
            {"keys": array(schema("KeyIn"))},
            {"values": flag("False: without the values.")},
            additionalProperties=False,
        ),
        "Items": record(
            {"items": array(schema("Found"), description="In the order of the keys; null: absent.")}
        ),
    }


_REPORTS = (
    reports.BackupReport,
    reports.CompactionProgress,
    reports.CompactionReport,
    reports.Damage,
    reports.RecoveryReport,
    reports.SegmentStats,
    reports.VerifyReport,
)


def _reports() -> dict[str, Json]:
    found = {kind.__name__: _of_dataclass(kind) for kind in (*_REPORTS, reports.Stats)}
    return found


def _observed() -> dict[str, Json]:
    """What a server shows of itself and of its store."""
    job = {
        "progress": number("Done, as a share of 1.", maximum=1),
        "bytes_done": integer("Bytes gone through."),
        "bytes_total": integer("Bytes to go through."),
        "error": schema("Problem"),
        "started_at": {"type": ["number", "null"]},
        "ended_at": {"type": ["number", "null"]},
    }
    states = ["idle", "running", "done", "failed", "cancelled"]
    return {
        "Compaction": record(
            {"state": text("Where it is.", enum=states)},
            {**job, "report": {"oneOf": [schema("CompactionReport"), {"type": "null"}]}},
        ),
        "Verification": record(
            {"state": text("Where it is.", enum=states)},
            {**job, "report": {"oneOf": [schema("VerifyReport"), {"type": "null"}]}},
        ),
        "Job": record({"state": text("Where it is.", enum=states)}, job),
        "Segment": record(
            {
                "id": integer("Its number."),
                "state": text("What is done with it.", enum=["active", "spare", "sealed", "compacting"]),
                "bytes": integer("Bytes of records."),
                "live_bytes": integer("Of these, of the newest records of their keys."),
                "dead_bytes": integer("Of these, what a compaction gives back."),
                "records": integer("Records."),
            }
        ),
        "Biggest": record(
            {
                "keys": array(record({"value_bytes": integer("Bytes.")}, KEY, oneOf=_either("key"))),
                "prefixes": array(
                    record(
                        {"keys": integer("Keys."), "bytes": integer("Bytes.")},
                        _bytes("prefix", "prefix"),
                        oneOf=_either("prefix"),
                    )
                ),
            },
        ),
        "Health": record({"status": text("`ok`, or what is wrong.")}, {"detail": text("The cause.")}),
        "SlowRequests": record(
            {
                "threshold_ms": number("Milliseconds from which on a request is slow."),
                "requests": array(
                    record({"at": number("Seconds since 1970."), "duration_ms": number("Milliseconds.")})
                ),
            }
        ),
    }


def _of_dataclass(kind: type[Any]) -> Json:
    hints = typing.get_type_hints(kind)
    required = {field.name: _of_type(hints[field.name]) for field in dataclasses.fields(kind)}
    return record(required, description=(kind.__doc__ or "").strip())


def _of_type(hint: Any) -> Json:
    simple: dict[Any, Json] = {
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number"},
        str: {"type": "string"},
        Path: {"type": "string"},
    }
    if hint in simple:
        return dict(simple[hint])
    if dataclasses.is_dataclass(hint):
        return schema(typing.cast(type[Any], hint).__name__)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"oneOf": [{"type": "null"} if one is type(None) else _of_type(one) for one in arguments]}
    if origin is tuple:
        return array(_of_type(arguments[0]))
    if origin is Literal:
        return {"enum": list(arguments)}
    raise TypeError(f"no schema for {hint!r}")


SCHEMAS = _schemas()
