"""`flash_kv.open`: options from keywords, then a `DB`."""

from __future__ import annotations

from typing import Any

from flash_kv.engine.db import DB
from flash_kv.errors import StrPath
from flash_kv.options import DurabilitySpec, IndexKind, IoKind, Options


def open_store(
    path: StrPath,
    *,
    index: IndexKind = "btree",
    durability: DurabilitySpec = "process",
    io: IoKind = "mmap",
    read_only: bool = False,
    codecs: tuple[str, str] | None = None,
    **options: Any,
) -> DB:
    """Open the store in the directory `path`, or make one there.

    `index`: "btree" or "skiplist" (ordered), "hash" (least memory, fastest point access) or "bptree" (ordered, on disk,
    for more keys than memory has room for); any store opens with any.
    `durability`: "process", "always", ("interval", seconds) or ("bytes", n). `io`: "mmap" or "file". Further options
    are the fields of `flash_kv.Options`.

    Raises OptionsError, LockedError (another process writes to it), StoreNotFoundError, NotAStoreError,
    FormatVersionError, CorruptionError, StorageError. A killed process or a power cut needs no repair: what was
    acknowledged is there.
    """
    chosen = Options.from_kwargs(index=index, durability=durability, io=io, read_only=read_only, **options)
    return DB(path, chosen, codecs=codecs)
