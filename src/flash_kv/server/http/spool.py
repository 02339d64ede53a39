"""The body of a request as one buffer: in memory while it is small, in an unnamed file when it is not.

The file lies in the file system of the store, where the value will go anyway, has no name that anyone could choose or
guess, and is gone with the request, also when the process is killed.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

from flash_kv.errors import naming_place
from flash_kv.log.names import TEMPORARY_PREFIX
from flash_kv.server.http.requests import Request
from flash_kv.server.service import Service

# Written at a time, in a thread.
WRITE_BYTES = 1 << 20


@contextlib.asynccontextmanager
async def buffered_body(
    service: Service, request: Request, limit: int
) -> AsyncGenerator[bytes | mmap.mmap, None]:
    """The whole body, valid until the block ends. Problem 413 beyond `limit`; StoreFullError for lack of space."""
    spool_bytes = service.settings.spool_bytes
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


def _unnamed(directory: Path) -> BinaryIO:
    with naming_place(directory, "keep a value that is arriving"):
        # Where the file system has no unnamed files it has a name for a moment, one of the store's temporary ones.
        return tempfile.TemporaryFile(dir=directory, prefix=TEMPORARY_PREFIX, buffering=0)


def _write(directory: Path, file: BinaryIO, pieces: list[bytes]) -> None:
    with naming_place(directory, "keep a value that is arriving"):
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
