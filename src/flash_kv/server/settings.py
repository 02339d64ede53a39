"""Every setting of a server: meaning, unit, default, cost. Flags, environment and file are made of these fields.

`ServerSettings` is checked as a whole when it is made: OptionsError lists all faults, not the first. Nothing here
reads a file or opens a socket.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from flash_kv.errors import OptionsError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
SECONDS_MAX = 86_400.0

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host (a name or an IP address) and a port, 0 for one that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it; a name other than localhost may mean anything."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`HOST:PORT` or `[IPv6]:PORT`. ValueError when it is neither."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text!r} is no address; write 127.0.0.1:7380 or [::1]:7380")
    return Address(match["v6"] or match["host"], int(match["port"]))


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """All settings of a server. OptionsError lists everything that is wrong with them."""

    # Who may come in
    # --------------------------------------------------------------------------------------------------------

    # Where to listen for HTTP: HOST:PORT, [IPv6]:PORT; port 0 takes a free one. Any address that other machines can
    # reach needs `token_file`, or the server refuses to start.
    http: str = "127.0.0.1:7380"

    # The file of tokens, made by `flash-kv token`; every request then needs one. Default None: no tokens, loopback
    # only. It is read again when it changes.
    token_file: Path | None = None

    # The certificate (PEM, with its chain) for TLS; needs `tls_key`. Default None: plain HTTP.
    tls_certificate: Path | None = None

    # The private key (PEM) of `tls_certificate`.
    tls_key: Path | None = None

    # Certificates (PEM) of which one has to have signed the client's own: mutual TLS. Default None: clients need none.
    tls_client_ca: Path | None = None

    # How much of it
    # --------------------------------------------------------------------------------------------------------

    # Bytes of one value, at most; default 64 MiB. A longer one is refused with 413.
    value_bytes_max: int = 64 * MIB

    # Bytes of one JSON body (batches, lists of keys) and of one line or frame of a load, at most; default 16 MiB. It is
    # held in memory, and nothing else is served while it is parsed.
    body_bytes_max: int = 16 * MIB

    # Bytes of a value from which on it is spooled to an unnamed file beside the store while it arrives; default 1 MiB.
    spool_bytes: int = 1 * MIB

    # Bytes of a request's head, request line and headers together; default 32 KiB.
    header_bytes_max: int = 32 * KIB

    # Headers of one request, at most; default 100.
    headers_max: int = 100

    # Connections at a time; default 1000. One more is answered 503 and closed.
    connections_max: int = 1000

    # Items of one page of a list, at most; default 1000.
    page_items_max: int = 1000

    # For how long
    # --------------------------------------------------------------------------------------------------------

    # Seconds a client has for the head of a request; default 10.
    header_timeout_s: float = 10.0

    # Seconds a client has for the TLS handshake; default 10.
    tls_handshake_timeout_s: float = 10.0

    # Seconds a client may take for 4 KiB of a body, and for taking 48 KiB of an answer; default 30.
    transfer_timeout_s: float = 30.0

    # Seconds a connection may stay without a request; default 300.
    idle_timeout_s: float = 300.0

    # Seconds that requests in flight have to finish once the server is told to stop; default 30.
    stop_timeout_s: float = 30.0

    # What for
    # --------------------------------------------------------------------------------------------------------

    # The folder that backups go into, each under a name of its own. Default None: no backups over HTTP.
    backup_directory: Path | None = None

    # Milliseconds from which on a request is kept in the slow log; default 100.
    slow_request_ms: float = 100.0

    # How the log on stderr is written: "text", lines for people, the default; "json", an object a line.
    log_format: Literal["text", "json"] = "text"

    # A line of the log for each request; default False. Costs some 20 us a request, and keys stand in it.
    log_requests: bool = False

    def __post_init__(self) -> None:
        faults = [*self._address_faults(), *self._tls_faults(), *self._amount_faults()]
        if faults:
            raise OptionsError(faults)

    @property
    def address(self) -> Address:
        """`http`, taken apart."""
        return parse_address(self.http)

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values. There is no secret among them: paths only."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in named.items()}

    def _address_faults(self) -> list[str]:
        try:
            address = parse_address(self.http)
        except ValueError as error:
            return [f"http: {error}"]
        if address.is_loopback or self.token_file is not None:
            return []
        return [
            f"http={self.http!r} can be reached from other machines, which needs token_file: make one with "
            "'flash-kv token FILE NAME --scope read', or listen at 127.0.0.1"
        ]

    def _tls_faults(self) -> list[str]:
        if (self.tls_certificate is None) != (self.tls_key is None):
            return ["tls_certificate and tls_key need each other"]
        if self.tls_client_ca is not None and self.tls_certificate is None:
            return ["tls_client_ca needs tls_certificate and tls_key"]
        return []

    def _amount_faults(self) -> list[str]:
        limits = {
            "value_bytes_max": (0, 1 << 40),
            "body_bytes_max": (1, 1 << 32),
            "spool_bytes": (0, 1 << 30),
            "header_bytes_max": (1 * KIB, 60 * KIB),
            "headers_max": (1, 10_000),
            "connections_max": (1, 1_000_000),
            "page_items_max": (1, 1_000_000),
        }
        faults = [
            f"{name} must be a whole number from {low} to {high}, not {getattr(self, name)!r}"
            for name, (low, high) in limits.items()
            if type(getattr(self, name)) is not int or not low <= getattr(self, name) <= high
        ]
        for name in (
            "header_timeout_s",
            "tls_handshake_timeout_s",
            "transfer_timeout_s",
            "idle_timeout_s",
            "stop_timeout_s",
        ):
            if not _is_positive(getattr(self, name)):
                faults.append(
                    f"{name} must be above 0 and at most 86400 seconds, not {getattr(self, name)!r}"
                )
        if not isinstance(self.slow_request_ms, (int, float)) or not self.slow_request_ms >= 0:
            faults.append(f"slow_request_ms must be 0 or more, not {self.slow_request_ms!r}")
        if self.log_format not in ("text", "json"):
            faults.append(f'log_format must be "text" or "json", not {self.log_format!r}')
        if type(self.log_requests) is not bool:
            faults.append(f"log_requests must be True or False, not {self.log_requests!r}")
        return faults


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and 0 < value <= SECONDS_MAX
