"""The whole document, and what has to be known to serve it."""

from __future__ import annotations

import functools

from flash_kv import __version__
from flash_kv.server.openapi import bulk, components, keys, looking_after, schemas
from flash_kv.server.openapi.parts import Json

_DESCRIPTION = """A durable key-value store over HTTP. Keys are 1 to 65,536 bytes, values any bytes.

In JSON, bytes that are UTF-8 stand as text (`key`, `value`), others in base64 (`key_b64`, `value_b64`); on the way in
either will do. Errors are problem documents (RFC 9457)."""

_TAGS = {
    "keys": "One key: its value, conditions, expiry.",
    "ranges": "Keys in order: pages, streams, counts, deletes.",
    "many keys": "Several keys in one request.",
    "changes": "What is committed, as it is.",
    "admin": "Figures and long operations.",
    "service": "The server itself.",
}


@functools.cache
def document() -> Json:
    """The OpenAPI 3.1 document. Not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "FlashKV",
            "version": __version__,
            "summary": "A durable key-value store.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "Where this document comes from."}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": {**keys.PATHS, **bulk.PATHS, **looking_after.PATHS},
        "components": {
            "schemas": schemas.SCHEMAS,
            "parameters": components.PARAMETERS,
            "headers": components.HEADERS,
            "responses": components.responses(),
            "securitySchemes": components.SECURITY,
        },
    }
