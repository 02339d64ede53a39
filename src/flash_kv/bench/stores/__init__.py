"""The stores the benchmarks know, in the order of the tables' columns: ours, the peers, the floors."""

from __future__ import annotations

from flash_kv.bench.stores.base import BenchmarkError, Handle, Store
from flash_kv.bench.stores.diskcache import DISKCACHE
from flash_kv.bench.stores.flash_kv import FLASH_KV, FLASH_KV_SYNCED
from flash_kv.bench.stores.floors import DICT, SORTED_DICT
from flash_kv.bench.stores.lmdb import LMDB, LMDB_PWRITE, LMDB_SYNCED
from flash_kv.bench.stores.lsm import LSM
from flash_kv.bench.stores.plyvel import PLYVEL, PLYVEL_SYNCED
from flash_kv.bench.stores.redis import REDIS
from flash_kv.bench.stores.rocksdict import ROCKSDICT, ROCKSDICT_SYNCED
from flash_kv.bench.stores.semidbm import SEMIDBM
from flash_kv.bench.stores.shelf import SHELVE
from flash_kv.bench.stores.sqlite import DBM_SQLITE, SQLITE, SQLITE_SYNCED
from flash_kv.bench.stores.unqlite import UNQLITE

_SAFE_FROM_KILLS = (LMDB, LMDB_PWRITE, PLYVEL, ROCKSDICT, SEMIDBM, SQLITE, DBM_SQLITE, DISKCACHE, LSM, REDIS)
_SAFE_FROM_POWER_CUTS = (LMDB_SYNCED, PLYVEL_SYNCED, ROCKSDICT_SYNCED, SQLITE_SYNCED, UNQLITE)
STORES: dict[str, Store] = {
    store.name: store
    for store in (
        *FLASH_KV,
        *_SAFE_FROM_KILLS,
        SHELVE,
        DICT,
        SORTED_DICT,
        *FLASH_KV_SYNCED,
        *_SAFE_FROM_POWER_CUTS,
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
