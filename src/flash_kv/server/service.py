"""`Service`: what all resources of a server share: the store, the settings, threads, who watches requests.

A resource gets it once, when its routes are made. What runs beside requests (a task, a watcher) is started by a
function in `starters` and ended by one in `stoppers`, both in the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from flash_kv import DB
from flash_kv.errors import storage_error
from flash_kv.server.auth import Gate
from flash_kv.server.settings import ServerSettings

if TYPE_CHECKING:
    from flash_kv.server.http.requests import Request

# So many commits can wait for one sync together.
THREADS_MAX = 32

P = ParamSpec("P")
R = TypeVar("R")


class Service:
    """A store being served. Made before the event loop runs, ended by `close` after it."""

    def __init__(self, db: DB, settings: ServerSettings | None = None) -> None:
        """StorageError when the folder for backups is not there and cannot be made."""
        self.db = db
        self.settings = settings or ServerSettings()
        self.gate = Gate(self.settings.token_file)
        _make_directory(self.settings.backup_directory)
        # Each is called with every request once it has ended.
        self.observers: list[Callable[[Request], None]] = []
        # Figures of the parts, by their names in /metrics.
        self.gauges: dict[str, Callable[[], float]] = {}
        self.starters: list[Callable[[], Awaitable[None]]] = []
        self.stoppers: list[Callable[[], Awaitable[None]]] = []
        # True when every commit of the store waits for the disk, so that none belongs into the event loop.
        self.always_waits = db.options.durability != "process"
        self.started_at = time.time()
        self.started_monotonic = time.monotonic()
        # Set once the server is told to stop: streams without an end finish then.
        self.stopping = asyncio.Event()
        # How many connections there are; the server puts its own count here.
        self.connection_count: Callable[[], int] = lambda: 0
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="flash-kv-server")

    @property
    def is_stopping(self) -> bool:
        return self.stopping.is_set()

    async def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(...)` in a thread: for what may wait for the disk or takes more than a millisecond.

        A request that is cancelled meanwhile still waits for the call to end: what it uses stays valid until then.
        """
        future = self.submit(function, *args, **kwargs)
        wrapped = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(wrapped)
        except asyncio.CancelledError:
            while not future.done():
                try:
                    await asyncio.wait([wrapped])
                except asyncio.CancelledError:
                    # Cancelled again, at the end of the stop's time: the call is still to be waited for.
                    continue
            if not wrapped.cancelled():
                wrapped.exception()
            raise

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """`function(...)` in a thread, from anywhere; for jobs that no request waits for."""
        return self._threads.submit(function, *args, **kwargs)

    def close(self) -> None:
        """End the threads; what they do is finished first."""
        self._threads.shutdown()


def _make_directory(path: Path | None) -> None:
    """The folder that backups go into, for its owner alone if it is new: a wrong one is told before anybody waits."""
    if path is None:
        return
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path=path, operation="create") from error
