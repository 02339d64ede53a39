"""The stores the benchmarks know, in the order of the tables' columns: ours, the peers, the floor."""

from __future__ import annotations

from benchmarks.stores.base import BenchmarkError, Handle, Store
from benchmarks.stores.dict_floor import DICT
from benchmarks.stores.flash_kv import FLASH_KV_BPTREE, FLASH_KV_BTREE, FLASH_KV_HASH, FLASH_KV_SKIPLIST
from benchmarks.stores.lmdb import LMDB, LMDB_PWRITE
from benchmarks.stores.plyvel import PLYVEL
from benchmarks.stores.rocksdict import ROCKSDICT
from benchmarks.stores.semidbm import SEMIDBM

STORES: dict[str, Store] = {
    store.name: store
    for store in (
        FLASH_KV_HASH,
        FLASH_KV_BTREE,
        FLASH_KV_SKIPLIST,
        FLASH_KV_BPTREE,
        LMDB,
        LMDB_PWRITE,
        SEMIDBM,
        PLYVEL,
        ROCKSDICT,
        DICT,
    )
}
# lmdb-pwrite is the slower of LMDB's two kill-safe settings on every write; it runs only when it is named.
DEFAULT_STORES = [name for name in STORES if name != LMDB_PWRITE.name]

__all__ = ["DEFAULT_STORES", "STORES", "BenchmarkError", "Handle", "Store", "select"]


def select(names: list[str]) -> tuple[list[Store], list[str]]:
    """The installed stores among `names`, and the names of those that are not installed."""
    unknown = [name for name in names if name not in STORES]
    if unknown:
        raise BenchmarkError(f"no such store: {', '.join(unknown)}; known are {', '.join(STORES)}")
    stores = [STORES[name] for name in names]
    return [s for s in stores if s.is_installed()], [s.name for s in stores if not s.is_installed()]
