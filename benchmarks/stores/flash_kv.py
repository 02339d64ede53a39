"""FlashKV, once with each index: every other option as it comes, and once more with each write synced."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from benchmarks.stores.base import Handle, Pairs, Store
from flash_kv.engine.views import ORDERED_KINDS
from flash_kv.options import IndexKind


def _opener(index: str, durability: str) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        flash_kv: Any = importlib.import_module("flash_kv")
        db = flash_kv.open(path, index=index, durability=durability)

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


def _store(index: str) -> Store:
    return Store(
        name=f"flash_kv-{index}",
        module="flash_kv",
        distribution="flash-kv",
        settings=f'flash_kv.open(path, index="{index}"), every other option as it comes',
        survives='process death: every acknowledged write (durability="process"); power cut: what was synced',
        read_check=READ_CHECK,
        open=_opener(index, "process"),
        is_ours=True,
        is_ordered=index in ORDERED_KINDS,
    )


def _always(index: str) -> Store:
    return replace(
        _store(index),
        name=f"flash_kv-{index}-always",
        settings=f'flash_kv.open(path, index="{index}", durability="always")',
        promise="power",
        survives="process death and power cut: every acknowledged write",
        open=_opener(index, "always"),
    )


READ_CHECK = "CRC32C of the whole record on every read"
FLASH_KV = [_store(index) for index in get_args(IndexKind)]
FLASH_KV_ALWAYS = [_always(index) for index in get_args(IndexKind)]
