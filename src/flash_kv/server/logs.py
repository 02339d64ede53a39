"""What the server writes to its log, by `logging`: lines for people, or one JSON object a line for programs.

The standard library's, with a formatter: whoever embeds the server configures `flash_kv.server` as any other logger. A
record's attribute `fields`, given as `extra={"fields": {...}}`, is merged into its JSON object.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flash_kv.server.settings import ServerSettings

# Requests are told to this one, a child of it each.
NAME = "flash_kv.server"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: nothing that a client sends can begin another line."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        shown |= getattr(record, "fields", {})
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        return json.dumps(shown, default=str)


class TextFormatter(logging.Formatter):
    """A line for people; what a client sends cannot begin another one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        # The message alone: a traceback behind it has lines.
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


@contextmanager
def logging_to_stderr(settings: ServerSettings) -> Iterator[None]:
    """Have the server's log, and that of what it is built on, on stderr as `settings` say; afterwards as before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    requests = logging.getLogger(f"{NAME}.requests")
    loggers = [logging.getLogger(NAME), logging.getLogger("uvicorn")]
    before = [(one, one.level, one.propagate) for one in (*loggers, requests)]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO if one.name == NAME else logging.WARNING)
        one.propagate = False
    requests.setLevel(logging.INFO if settings.log_requests else logging.WARNING)
    try:
        yield
    finally:
        for one, level, propagate in before:
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = propagate
