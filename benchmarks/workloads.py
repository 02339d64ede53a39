"""The workloads: what one store does with one slice of ordinals, and how long it took.

Each is a function `(handle, dataset, ordinals, version) -> nanoseconds`. What it needs is made before the
clock starts; the runner divides by the number of ordinals, so a batch counts per record, a scan per item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.dataset import Dataset, in_slices
from benchmarks.stores.base import Handle
from benchmarks.timing import time_each_ns, time_items_ns, time_pairs_ns

BATCH_RECORDS = 1_000
HOT_KEYS = 16

Step = Callable[[Handle, Dataset, list[int], int], int]


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    name: str
    title: str
    step: Step


def _keep(handle: Handle, passed: object) -> None:
    if handle.kept is not None:
        handle.kept.append(passed)


def _put(handle: Handle, data: Dataset, ordinals: list[int], version: int) -> int:
    keys, values = data.keys(ordinals), data.values(ordinals, version)
    _keep(handle, (keys, values))
    return time_pairs_ns(handle.put, keys, values)


def _delete(handle: Handle, data: Dataset, ordinals: list[int], _version: int) -> int:
    return time_each_ns(handle.delete, data.keys(ordinals))


def _get(handle: Handle, data: Dataset, ordinals: list[int], _version: int) -> int:
    return time_each_ns(handle.get, data.keys(ordinals))


def _get_hot(handle: Handle, data: Dataset, ordinals: list[int], _version: int) -> int:
    hot = data.keys(ordinals[:HOT_KEYS])
    rounds = -(-len(ordinals) // len(hot))
    return time_each_ns(handle.get, (hot * rounds)[: len(ordinals)])


def _get_missing(handle: Handle, data: Dataset, ordinals: list[int], _version: int) -> int:
    return time_each_ns(handle.get_missing, data.missing_keys(ordinals))


def _get_many(handle: Handle, data: Dataset, ordinals: list[int], _version: int) -> int:
    return time_each_ns(handle.get_many, [data.keys(part) for part in in_slices(ordinals, BATCH_RECORDS)])


def _put_many(handle: Handle, data: Dataset, ordinals: list[int], version: int) -> int:
    batches = [data.pairs(part, version) for part in in_slices(ordinals, BATCH_RECORDS)]
    _keep(handle, batches)
    return time_each_ns(handle.put_many, batches)


def _batch(handle: Handle, data: Dataset, ordinals: list[int], version: int) -> int:
    batches = [data.pairs(part, version) for part in in_slices(ordinals, BATCH_RECORDS)]
    _keep(handle, batches)
    return time_each_ns(handle.batch, batches)


def _scan(handle: Handle, _data: Dataset, _ordinals: list[int], _version: int) -> int:
    return time_items_ns(handle.items)


PUT = Workload("put", "put, new keys in random order", _put)
OVERWRITE = Workload("overwrite", "overwrite, random", _put)
DELETE = Workload("delete", "delete, random", _delete)
GET = Workload("get", "get, random", _get)
GET_HOT = Workload("get_hot", f"get, hot ({HOT_KEYS} keys)", _get_hot)
GET_MISSING = Workload("get_missing", "get, missing", _get_missing)
GET_MANY = Workload("get_many", f"get_many({BATCH_RECORDS:,}), per key", _get_many)
SCAN = Workload("scan", "scan items, per item", _scan)
PUT_MANY = Workload("put_many", f"put_many({BATCH_RECORDS:,}), per record", _put_many)
BATCH = Workload("batch", f"batch of {BATCH_RECORDS:,} puts, per record", _batch)

# The order of the tables' rows.
WORKLOADS = (PUT, OVERWRITE, DELETE, PUT_MANY, BATCH, GET, GET_HOT, GET_MISSING, GET_MANY, SCAN)
