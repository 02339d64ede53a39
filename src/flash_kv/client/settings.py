"""What a client is told once: where the server is, who asks, how long to wait."""

from __future__ import annotations

import math
import os
from dataclasses import KW_ONLY, dataclass, field
from urllib.parse import urlsplit

from flash_kv.errors import OptionsError, StrPath


@dataclass(frozen=True)
class Settings:
    """All settings of a client. OptionsError lists everything that is wrong with them. Picklable, token included."""

    # Where the server is: http:// or https://, a host, maybe a port and a path in front of /v1.
    url: str
    _: KW_ONLY

    # The bearer token; None: none is sent. It is kept out of every text.
    token: str | None = field(default=None, repr=False)

    # Seconds to wait for a connection, for the next bytes of an answer, for the server to take the next bytes of a
    # request, and for a free connection; each counted for itself.
    timeout_s: float = 30.0

    # How often a read that got no answer, or "not now", is asked again. Writes are never sent twice.
    retries: int = 2

    # Connections at a time; an iteration that is not at its end holds one.
    connections_max: int = 100

    # A file of certificates to trust instead of the system's.
    ca_file: StrPath | None = None

    # The client's own certificate and its key, where the server asks for one (mutual TLS).
    certificate_file: StrPath | None = None
    key_file: StrPath | None = None

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise OptionsError(faults)
        object.__setattr__(self, "url", self.url.rstrip("/"))
        for name in ("ca_file", "certificate_file", "key_file"):
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else os.fspath(path))

    def _faults(self) -> list[str]:
        faults = []
        if not _is_address(self.url):
            faults.append(f"url must be http:// or https:// and a host, without query, not {self.url!r}")
        if self.token is not None and not (self.token and self.token.isascii() and self.token.isprintable()):
            faults.append("token must be printable ASCII")
        if not _is_number(self.timeout_s) or not 0 < self.timeout_s < math.inf:
            faults.append(f"timeout_s must be a number above 0, not {self.timeout_s!r}")
        for name, least in (("retries", 0), ("connections_max", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                faults.append(f"{name} must be a whole number from {least}, not {value!r}")
        if self.key_file is not None and self.certificate_file is None:
            faults.append("key_file needs a certificate_file")
        return faults


def _is_address(url: object) -> bool:
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        # The port is looked at only when it is asked for.
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and not parts.query


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
