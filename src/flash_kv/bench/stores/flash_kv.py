"""FlashKV, with each index and each durability; every other option as it comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import flash_kv
from flash_kv.bench.stores.base import Handle, Pairs, Promise, Store, reader
from flash_kv.bench.stores.power_cut import power_cutter
from flash_kv.options import IndexKind

_SURVIVES: dict[str, str] = {
    "process": "process death: every acknowledged write; power cut: what was synced",
    "always": "process death and power cut: every acknowledged write",
}


def _opener(index: IndexKind, durability: Literal["process", "always"]) -> Callable[[Path], Handle]:
    def open_store(path: Path) -> Handle:
        db = flash_kv.open(path, index=index, durability=durability)
        items = db.items

        def batch(pairs: Pairs) -> None:
            with db.batch() as write_batch:
                put = write_batch.put
                for key, value in pairs:
                    put(key, value)

        def scan_from(key: bytes, count: int) -> Pairs:
            return [pair for pair, _ in zip(items(start=key), range(count), strict=False)]

        is_ordered = index != "hash"
        return Handle(
            put=db.put,
            get=db.get,
            get_missing=db.get,
            delete=db.delete,
            put_many=db.put_many,
            batch=batch,
            get_many=db.get_many,
            items=items,
            reverse=(lambda: items(reverse=True)) if is_ordered else None,
            scan_from=scan_from if is_ordered else None,
            prefix=(lambda prefix: items(prefix=prefix)) if is_ordered else None,
            close=db.close,
            compact=lambda: db.compact().records_moved,
            index_bytes=lambda: db.stats().index_bytes,
        )

    return open_store


def _reader_opener(index: IndexKind) -> Callable[[Path], Handle]:
    def open_reader(path: Path) -> Handle:
        db = flash_kv.open(path, index=index, read_only=True)
        return reader(db.get, db.close)

    return open_reader


def _store(index: IndexKind, durability: Literal["process", "always"], promise: Promise) -> Store:
    return Store(
        name=f"flash_kv-{index}" + ("" if durability == "process" else f"-{durability}"),
        module="flash_kv",
        distribution="flash-kv",
        settings=f'flash_kv.open(path, index="{index}", durability="{durability}")',
        promise=promise,
        survives=_SURVIVES[durability],
        read_check="CRC32C of the whole record on every read",
        open=_opener(index, durability),
        open_reader=None if promise == "power" else _reader_opener(index),
        cut_power=None if promise == "power" else power_cutter(index),
        is_ours=True,
        is_ordered=index != "hash",
    )


KINDS: tuple[IndexKind, ...] = get_args(IndexKind)
FLASH_KV = [_store(index, "process", "process") for index in KINDS]
FLASH_KV_SYNCED = [_store(index, "always", "power") for index in KINDS]
