"""The file in which an index keeps the pages that do not fit in memory.

It is made anew by each open, since the index is built from the log, and loses its name at once: so it takes space on
the store's own disk, ends with the process whatever happens, and nothing that reads the directory meets it. What a kill
between the two steps leaves is removed by the next open.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flash_kv.errors import storage_error
from flash_kv.index.bptree_cy import BPTreeIndex
from flash_kv.index.index_cy import Index
from flash_kv.io.system import System
from flash_kv.log.names import INDEX, temporary_name
from flash_kv.options import Options


def give_file(index: Index, system: System, directory: Path, options: Options) -> Index:
    """The new index, with a file if it needs one. A failure that names no segment is one of this file's pages."""
    if isinstance(index, BPTreeIndex):
        fd = _open_index_file(system, None if options.read_only else directory)
        index.use_file(fd, options.index_cache_bytes)
    return index


def close_file(index: Index | None, system: System) -> None:
    """Close the file of an index that has one; the index is of no use any more."""
    if isinstance(index, BPTreeIndex) and (fd := index.take_file()) >= 0:
        system.close(fd)


def _open_index_file(system: System, directory: Path | None) -> int:
    """A new, empty file without a name in the store's directory, or, for None, among the temporary files.

    StorageError when it cannot be made. The caller closes it.
    """
    if directory is None:
        # Where nothing in the directory may change.
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    path = directory / temporary_name(INDEX)
    try:
        fd = system.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        try:
            system.unlink(path)
        except BaseException:
            system.close(fd)
            raise
    except OSError as error:
        raise storage_error(error, path=path, operation="create") from error
    return fd
