"""What operations refer to: parameters, headers, problem answers, the security scheme."""

from __future__ import annotations

from http import HTTPStatus

from flash_kv.server.openapi.parts import PROBLEM, Json, integer, number, query, schema, text

LSN_TEXT = "that of a record, or of the newest commit"
_BYTES = "Bytes, percent-encoded; text is its UTF-8."

PARAMETERS: dict[str, Json] = {
    "Key": {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "Everything behind `/v1/kv/`, percent-decoded to 1 to 65,536 bytes. `/` may stand as it is; "
        "dots mean themselves. A key that is too long for a URL goes through `/v1/batch` and `/v1/mget`.",
        "schema": {"type": "string", "minLength": 1},
        "example": "users/42",
    },
    "Prefix": query("prefix", f"Only keys that begin with it. {_BYTES}", text("A prefix."), example="users/"),
    "Start": query("start", f"Only keys from this one on. {_BYTES}", text("A key, included.")),
    "Stop": query("stop", f"Only keys before this one. {_BYTES}", text("A key, not included.")),
    "Durability": query(
        "durability",
        "When the write is answered: once it survives the death of the server's process, or of its machine. "
        "The store's own durability where it is not given.",
        text("A durability.", enum=["process", "always"]),
    ),
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": 'Only if the record has this ETag now (`"42"`), or is there at all (`*`); else 412.',
        "schema": text("An ETag, or *.", pattern=r'^("[0-9]+"|\*)$'),
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "`*`: only if the key is absent; else 412.",
        "schema": text("*", enum=["*"]),
    },
}

HEADERS: dict[str, Json] = {
    "ETag": {
        "description": "The LSN of the record, in quotes.",
        "required": True,
        "schema": text("An LSN.", pattern=r'^"[0-9]+"$'),
        "example": '"42"',
    },
    "FlashKV-Expires": {
        "description": "When the record expires, in seconds since 1970; absent when it does not.",
        "schema": number("Seconds since 1970."),
    },
    "FlashKV-TTL": {
        "description": "Seconds until the record expires; absent when it does not.",
        "schema": number("Seconds."),
    },
    "Accept-Ranges": {"description": "Ranges are in bytes.", "schema": text("A unit.", enum=["bytes"])},
    "Content-Range": {
        "description": "Which bytes these are, and of how many.",
        "schema": text("A range.", pattern=r"^bytes ([0-9]+-[0-9]+|\*)/[0-9]+$"),
    },
    "Allow": {"description": "The methods that are there.", "schema": text("Methods, with commas.")},
    "Retry-After": {"description": "Seconds to wait.", "schema": integer("Seconds.")},
}

# Status, what happened, and the headers of such an answer.
_PROBLEMS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (400, "Malformed: a parameter, a key, a body.", ()),
    (401, "A token is needed, or this one is not known.", ()),
    (403, "The token lacks the scope, or is not for these keys; or the store is read-only.", ()),
    (404, "There is no such key, or nothing at this path.", ()),
    (405, "This method is not there.", ("Allow",)),
    (408, "The request did not come in time.", ()),
    (409, "It exists already, or runs already.", ()),
    (411, "The length of the body is needed.", ()),
    (
        412,
        "A condition is not met: `etag` is the one now, null when the key is absent. Nothing was written.",
        (),
    ),
    (413, "More than the server takes: `limit` bytes.", ()),
    (415, "A body of a media type that is not taken here.", ()),
    (416, "The range is outside of the value.", ("Content-Range",)),
    (422, "Well-formed, but not for this store: an element is wrong, or the index has no order.", ()),
    (429, "Too many failures to give a right token.", ("Retry-After",)),
    (431, "The head of the request is too long.", ()),
    (500, "A damaged record, with `path` and `offset`; or an error that nobody foresaw.", ()),
    (503, "Stopping, or poisoned by an earlier failed sync: then reads go on.", ("Retry-After",)),
    (507, "The disk is full. Nothing was written; reads, deletes and compaction go on.", ()),
)


def responses() -> dict[str, Json]:
    """A response for each status of a problem."""
    found: dict[str, Json] = {}
    for status, description, headers in _PROBLEMS:
        example = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": description,
        }
        found[f"Problem{status}"] = {
            "description": description,
            "content": {PROBLEM: {"schema": schema("Problem"), "example": example}},
            **(
                {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers}}
                if headers
                else {}
            ),
        }
    return found


SECURITY: dict[str, Json] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token made by `flash-kv token`, with scopes (read, write, admin) and maybe key prefixes.",
    }
}
