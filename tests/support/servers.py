"""A server in a thread of the test run: one store, the real parser and sockets, a port of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

import flash_kv
from flash_kv.server.process import running
from flash_kv.server.service import THREADS_MAX, Service
from flash_kv.server.settings import ServerSettings

# A hang is a failure, a busy machine is not.
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Served:
    """A store being served, and a client of it."""

    db: flash_kv.DB
    url: str
    client: httpx.Client
    service: Service

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def connect(self) -> socket.socket:
        """A plain connection, to write bytes of one's own."""
        return socket.create_connection(self.address, timeout=DEADLINE_S)

    def talk(self, request: bytes) -> bytes:
        """What comes back for these bytes until the server closes the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes; a reset counts as an end."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def served(path: Path, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Served]:
    """`path` served at a free port until the block ends; then the store is closed."""
    checked = ServerSettings(**{"http": "127.0.0.1:0", **(settings or {})})
    with flash_kv.open(path, **options) as db, served_db(db, checked) as one:
        yield one


@contextlib.contextmanager
def served_db(db: flash_kv.DB, settings: ServerSettings) -> Iterator[Served]:
    """An open store served; it stays open."""
    service = Service(db, settings)
    # All threads now: one that starts in a test would be taken for one that the test left behind.
    barrier = threading.Barrier(THREADS_MAX + 1)
    for _ in range(THREADS_MAX):
        service.submit(barrier.wait)
    barrier.wait()
    with running(service) as url, httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        yield Served(db, url, client, service)
