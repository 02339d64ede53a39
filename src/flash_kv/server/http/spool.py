"""The body of a request as one buffer: in memory while it is small, in an unnamed file when it is not.

The file lies in the file system of the store, where the value will go anyway, has no name that anyone could choose or
guess, and is gone with the request, also when the process is killed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

from flash_kv.errors import StoreFullError, naming_place
from flash_kv.log.names import TEMPORARY_PREFIX
from flash_kv.server.http.requests import Request
from flash_kv.server.service import Service

# Written at a time, in a thread.
WRITE_BYTES = 1 << 20
ARRIVING = "keep a value that arrives in"


@contextlib.asynccontextmanager
async def buffered_body(
    service: Service, request: Request, limit: int
) -> AsyncGenerator[bytes | mmap.mmap, None]:
    """The whole body, valid until the block ends. Problem 413 beyond `limit`; StoreFullError for lack of space.

    A body that says how long it is and is longer than the space that is free is refused before it is read.
    """
    spool_bytes = service.settings.spool_bytes
    announced = int(request.headers.get(b"content-length", 0))
    if spool_bytes < announced <= limit:
        await service.call(_require_space, service.db.path, announced)
    pieces: list[bytes] = []
    size = 0
    chunks = request.chunks(limit)
    async for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > spool_bytes:
            break
    else:
        yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(await service.call(_unnamed, service.db.path))
        async for chunk in chunks:
            pieces.append(chunk)
            if sum(map(len, pieces)) >= WRITE_BYTES:
                await service.call(_write, service.db.path, file, pieces)
                pieces = []
        await service.call(_write, service.db.path, file, pieces)
        yield stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _require_space(directory: Path, size: int) -> None:
    with naming_place(directory, ARRIVING):
        status = os.statvfs(directory)
    # The store's reserve is allocated, so it is not among what is free.
    if size > status.f_bavail * status.f_frsize:
        raise StoreFullError(directory, ARRIVING)


def _unnamed(directory: Path) -> BinaryIO:
    with naming_place(directory, ARRIVING):
        # Where the file system has no unnamed files it has a name for a moment, one of the store's temporary ones.
        return tempfile.TemporaryFile(dir=directory, prefix=TEMPORARY_PREFIX, buffering=0)


def _write(directory: Path, file: BinaryIO, pieces: list[bytes]) -> None:
    with naming_place(directory, ARRIVING):
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
