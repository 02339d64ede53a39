"""FlashKV, once with each index: `flash_kv.open(path, index=...)` and every other option as it comes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stores.base import Handle, Pairs, Store


def _opener(index: str) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        flash_kv: Any = importlib.import_module("flash_kv")
        db = flash_kv.open(path, index=index)

        def batch(pairs: Pairs) -> None:
            with db.batch() as write_batch:
                put = write_batch.put
                for key, value in pairs:
                    put(key, value)

        def compact() -> int:
            return int(db.compact().records_moved)

        return Handle(
            put=db.put,
            get=db.get,
            get_missing=db.get,
            delete=db.delete,
            put_many=db.put_many,
            batch=batch,
            get_many=db.get_many,
            items=db.items,
            close=db.close,
            compact=compact,
            index_bytes=lambda: int(db.stats().index_bytes),
        )

    return open_store


def _store(index: str, *, is_ordered: bool) -> Store:
    return Store(
        name=f"flash_kv-{index}",
        module="flash_kv",
        distribution="flash-kv",
        settings=f'flash_kv.open(path, index="{index}"), every other option as it comes',
        survives='process death: every acknowledged write (durability="process"); power cut: what was synced',
        read_check="CRC32C of the whole record on every read",
        open=_opener(index),
        is_ours=True,
        is_ordered=is_ordered,
    )


FLASH_KV_HASH = _store("hash", is_ordered=False)
FLASH_KV_BTREE = _store("btree", is_ordered=True)
FLASH_KV_SKIPLIST = _store("skiplist", is_ordered=True)
FLASH_KV_BPTREE = _store("bptree", is_ordered=True)
