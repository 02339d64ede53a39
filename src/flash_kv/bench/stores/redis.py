"""A redis server of its own over a unix socket, with an append-only file that it writes before it answers.

The server dies with the process that started it, so that killing that process is a kill of the store too.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flash_kv.bench.stores.base import BenchmarkError, Handle, Pairs, Store, one_by_one, reader

SOCKET_PATH_BYTES_MAX = 100
START_TIMEOUT_S = 30.0
POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


def _has_server() -> bool:
    return sys.platform == "linux" and shutil.which("redis-server") is not None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(path: Path, socket: Path) -> subprocess.Popen[bytes]:
    if len(str(socket)) > SOCKET_PATH_BYTES_MAX:
        raise BenchmarkError(f"redis: {socket} is too long for a unix socket; use another --directory")
    # A killed server leaves its socket, which would look like a new one's.
    socket.unlink(missing_ok=True)
    settings = ["--port", "0", "--unixsocket", str(socket), "--dir", str(path)]
    settings += ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
    return subprocess.Popen(
        ["redis-server", *settings], stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )


def _open(path: Path) -> Handle:
    redis: Any = importlib.import_module("redis")
    socket = path / "s"
    server = _start(path, socket)
    client = redis.Redis(unix_socket_path=str(socket))
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            client.ping()
            break
        except redis.exceptions.ConnectionError:
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                server.wait()
                raise BenchmarkError("redis: the server did not start") from None
            time.sleep(POLL_S)

    def batch(pairs: Pairs) -> None:
        pipeline = client.pipeline(transaction=True)
        one_by_one(pipeline.set)(pairs)
        pipeline.execute()

    def items() -> Iterator[tuple[bytes, bytes]]:
        # A key may be found twice by SCAN while the table grows or shrinks; here nothing writes meanwhile.
        cursor = 0
        while True:
            cursor, keys = client.scan(cursor, count=1000)
            if keys:
                yield from zip(keys, client.mget(keys), strict=True)
            if cursor == 0:
                return

    def compact() -> None:
        # The server syncs the new file before it takes the place of the old one.
        client.bgrewriteaof()
        while (
            client.info("persistence")["aof_rewrite_in_progress"]
            or (client.info("persistence")["aof_rewrite_scheduled"])
        ):
            time.sleep(POLL_S)

    def close() -> None:
        client.close()
        server.terminate()
        server.wait()

    return Handle(
        put=client.set,
        get=client.get,
        get_missing=client.get,
        delete=client.delete,
        put_many=lambda pairs: client.mset(dict(pairs)),
        batch=batch,
        get_many=client.mget,
        items=items,
        close=close,
        compact=compact,
    )


def _open_reader(path: Path) -> Handle:
    """Another client of the server that the first process started."""
    redis: Any = importlib.import_module("redis")
    client = redis.Redis(unix_socket_path=str(path / "s"))
    return reader(client.get, client.close)


REDIS = Store(
    name="redis",
    module="redis",
    distribution="redis",
    settings="a server of its own, unix socket, appendonly yes, appendfsync no",
    promise="process",
    survives="process death, of the server too: yes; power cut: what the system had written back",
    read_check="none",
    open=_open,
    open_reader=_open_reader,
    has_readers_beside_writer=True,
    is_ready=_has_server,
    is_ordered=False,
)
