"""What answers are made of, and those that are JSON; `Answer` itself is in answer_cy.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flash_kv.server.http.answer_cy import Answer as Answer
from flash_kv.server.http.answer_cy import Common as Common

Header = tuple[bytes, bytes]

OCTETS = (b"content-type", b"application/octet-stream")
JSON = (b"content-type", b"application/json")


def json_answer(content: Any, status: int = 200, headers: Sequence[Header] = ()) -> Answer:
    """`content` as JSON."""
    return Answer(status, [JSON, *headers], json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """`content` as compact JSON in UTF-8; ValueError for what JSON has no word for (NaN)."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
