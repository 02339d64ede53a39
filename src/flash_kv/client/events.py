"""Server-sent events (the HTML standard, section 9.2), and what a watch tells.

Bytes in, events out. Invariant: no more than one event is held, and that within EVENT_BYTES_MAX.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

# A value of a few hundred MiB in base64: a watch is no way to carry larger ones.
EVENT_BYTES_MAX = 512 * 2**20


class RawEvent(NamedTuple):
    """One event as it came."""

    kind: str
    data: str
    last_id: str


class EventReader:
    """Bytes in, whole events out."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._seen = 0
        self._kind = ""
        self._data: list[str] = []
        self._data_size = 0
        self._last_id = ""

    def feed(self, data: bytes) -> Iterator[RawEvent]:
        """The events that `data` completes. ValueError for one without end."""
        self._pending += data
        if len(self._pending) + self._data_size > EVENT_BYTES_MAX:
            raise ValueError(f"an event of more than {EVENT_BYTES_MAX} bytes")
        while (end := self._pending.find(b"\n", self._seen)) >= 0:
            line = self._pending[:end].removesuffix(b"\r").decode("utf-8", "replace")
            del self._pending[: end + 1]
            self._seen = 0
            if event := self._take(line):
                yield event
        # Nothing is searched twice.
        self._seen = len(self._pending)

    def _take(self, line: str) -> RawEvent | None:
        if not line:
            event = RawEvent(self._kind or "message", "\n".join(self._data), self._last_id)
            is_whole = bool(self._data or self._kind)
            self._kind, self._data, self._data_size = "", [], 0
            return event if is_whole else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
            self._data_size += len(line) + 1
        elif name == "id":
            self._last_id = value
        return None


@dataclass(frozen=True)
class WatchEvent:
    """A key was stored ("put") or deleted ("delete"), or events before `lsn` were "missed"."""

    kind: Literal["put", "delete", "missed"]
    lsn: int
    key: bytes | None = None
    value: bytes | None = None
    """With `values=True`, for "put"."""


def watch_event(event: RawEvent) -> WatchEvent | None:
    """What an event of /v1/watch says; None for a beat, and for kinds of a later version."""
    if event.kind not in ("put", "delete", "missed"):
        return None
    fields = json.loads(event.data) if event.data else {}
    lsn = int(fields.get("lsn", event.last_id or 0))
    return WatchEvent(event.kind, lsn, bytes_of(fields, "key"), bytes_of(fields, "value"))  # type: ignore[arg-type]


def bytes_of(fields: dict[str, Any], name: str) -> bytes | None:
    """The bytes that stand in JSON as text under `name` or as base64 under `name`_b64; None for neither."""
    text = fields.get(name)
    if text is not None:
        return str(text).encode("utf-8")
    encoded = fields.get(f"{name}_b64")
    return None if encoded is None else base64.b64decode(encoded)
