"""A Redis server of its own over a unix socket, with an append-only file and without snapshots.

The server is another process, and the one that has to survive: killing the client says nothing. So the proof that other
stores give by a killed client is given here by a killed server. What a user of Redis pays for each call is the trip
over the socket, which is measured with it. `appendfsync everysec` writes before the answer, `always` syncs as well.
"""

from __future__ import annotations

import atexit
import importlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.stores.base import BenchmarkError, Handle, Pairs, Promise, Store

START_SECONDS_MAX = 20.0
SCAN_COUNT = 1_000


def _start(path: Path, appendfsync: str) -> tuple[subprocess.Popen[bytes], str]:
    program = shutil.which("redis-server")
    if program is None:
        raise BenchmarkError("redis-server is not installed")
    # The path of a unix socket has room for a hundred characters only.
    directory = tempfile.mkdtemp(prefix="fkv-redis-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    socket = f"{directory}/socket"
    command = [program, "--port", "0", "--unixsocket", socket, "--dir", str(path), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", appendfsync, "--daemonize", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(server.kill)
    return server, socket


def _connect(server: subprocess.Popen[bytes], socket: str) -> Any:
    redis: Any = importlib.import_module("redis")
    client = redis.Redis(unix_socket_path=socket)
    ends = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            client.ping()
            return client
        except redis.exceptions.RedisError:
            # Not there yet, or still loading its file.
            if time.monotonic() > ends or server.poll() is not None:
                raise
            time.sleep(0.02)


def _opener(appendfsync: str) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        server, socket = _start(path, appendfsync)
        client = _connect(server, socket)

        def put_many(pairs: Pairs) -> None:
            client.mset(dict(pairs))

        def batch(pairs: Pairs) -> None:
            with client.pipeline(transaction=True) as pipeline:
                for key, value in pairs:
                    pipeline.set(key, value)
                pipeline.execute()

        def items() -> Iterator[tuple[bytes, bytes]]:
            keys: list[bytes] = []
            for key in client.scan_iter(count=SCAN_COUNT):
                keys.append(key)
                if len(keys) == SCAN_COUNT:
                    yield from zip(keys, client.mget(keys), strict=True)
                    keys.clear()
            if keys:
                yield from zip(keys, client.mget(keys), strict=True)

        def close() -> None:
            client.close()
            server.terminate()
            server.wait()

        def kill() -> None:
            server.kill()
            server.wait()

        return Handle(
            put=client.set,
            get=client.get,
            get_missing=client.get,
            delete=client.delete,
            put_many=put_many,
            batch=batch,
            get_many=client.mget,
            items=items,
            close=close,
            kill_server=kill,
        )

    return open_store


def _store(name: str, appendfsync: str, promise: Promise, survives: str) -> Store:
    return Store(
        name=name,
        module="redis",
        distribution="redis",
        program="redis-server",
        settings=f"a server of its own over a unix socket, appendonly yes, appendfsync {appendfsync}, no snapshots",
        promise=promise,
        survives=survives,
        read_check="none",
        open=_opener(appendfsync),
        is_ordered=False,
    )


REDIS = _store(
    "redis", "everysec", "process", "death of the server: yes; power cut: what was synced, once a second"
)
REDIS_ALWAYS = _store("redis-always", "always", "power", "death of the server: yes; power cut: yes")
