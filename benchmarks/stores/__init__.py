"""The stores the benchmarks know, in the order of the tables' columns: ours, the peers, the floors."""

from __future__ import annotations

from benchmarks.stores.base import BenchmarkError, Handle, Promise, Store
from benchmarks.stores.dbm_sqlite import DBM_SQLITE
from benchmarks.stores.dict_floor import DICT, SORTED_DICT
from benchmarks.stores.diskcache import DISKCACHE
from benchmarks.stores.flash_kv import FLASH_KV, FLASH_KV_ALWAYS
from benchmarks.stores.lmdb import LMDB, LMDB_PWRITE, LMDB_PWRITE_SYNC, LMDB_SYNC
from benchmarks.stores.lsm_db import LSM_DB, LSM_DB_FULL
from benchmarks.stores.plyvel import PLYVEL, PLYVEL_SYNC
from benchmarks.stores.redis import REDIS, REDIS_ALWAYS
from benchmarks.stores.rocksdict import ROCKSDICT, ROCKSDICT_SYNC
from benchmarks.stores.semidbm import SEMIDBM
from benchmarks.stores.shelve import SHELVE
from benchmarks.stores.sqlite import SQLITE, SQLITE_FULL
from benchmarks.stores.unqlite import UNQLITE

STORES: dict[str, Store] = {
    store.name: store
    for store in (
        *FLASH_KV,
        LMDB,
        LMDB_PWRITE,
        SEMIDBM,
        PLYVEL,
        ROCKSDICT,
        SQLITE,
        DBM_SQLITE,
        DISKCACHE,
        LSM_DB,
        REDIS,
        *FLASH_KV_ALWAYS,
        LMDB_SYNC,
        LMDB_PWRITE_SYNC,
        PLYVEL_SYNC,
        ROCKSDICT_SYNC,
        SQLITE_FULL,
        LSM_DB_FULL,
        UNQLITE,
        REDIS_ALWAYS,
        SHELVE,
        DICT,
        SORTED_DICT,
    )
}
# What takes ten times as long as the others at each operation, and the slower of two settings that promise the same: a
# run has them only when they are named, or with "all".
SLOW = {
    store.name for store in (LMDB_PWRITE, SQLITE, DBM_SQLITE, DISKCACHE, LSM_DB, REDIS, SHELVE, SORTED_DICT)
}
DEFAULT_STORES = [
    name for name, store in STORES.items() if store.promise in ("process", "nothing") and name not in SLOW
]

__all__ = ["DEFAULT_STORES", "STORES", "BenchmarkError", "Handle", "Promise", "Store", "names_of", "select"]


def names_of(given: str, promise: Promise) -> list[str]:
    """The names in a comma-separated list; "all": every store of that promise, and the floors."""
    if given == "all":
        return [name for name, store in STORES.items() if store.promise in (promise, "nothing")]
    return [name for name in given.split(",") if name]


def select(names: list[str]) -> tuple[list[Store], list[str]]:
    """The installed stores among `names`, and the names of those that are not. BenchmarkError: not to be compared."""
    unknown = [name for name in names if name not in STORES]
    if unknown:
        raise BenchmarkError(f"no such store: {', '.join(unknown)}; known are {', '.join(STORES)}")
    stores = [STORES[name] for name in names]
    promises = {store.promise: store.name for store in stores if store.promise != "nothing"}
    if len(promises) > 1:
        raise BenchmarkError(
            f"{' and '.join(promises.values())} do not promise the same: one of them survives a power cut"
        )
    return [s for s in stores if s.is_installed()], [s.name for s in stores if not s.is_installed()]
