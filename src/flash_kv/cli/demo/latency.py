"""Latencies on this machine: each operation timed over many records, in several interleaved rounds.

A figure is the time of a whole loop divided by its operations, the loop itself included.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_kv.cli.progress import Bar

if TYPE_CHECKING:
    import flash_kv

ROUNDS = 5
KEY_BYTES = 16
VALUE_BYTES = 100
BATCH_RECORDS = 1000


@dataclass(frozen=True)
class Latency:
    """One row of the table: microseconds for one operation."""

    operation: str
    median_us: float
    lowest_us: float
    highest_us: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(open_new: Callable[[], flash_kv.DB], records: int, bar: Bar) -> list[Latency]:
    """The table; `open_new` gives an empty store, which is closed here."""
    timings: dict[str, list[float]] = {}
    with open_new() as db:
        for number in range(ROUNDS):
            bar.show(number, total=ROUNDS)
            for operation, seconds in _round(db, records, number):
                timings.setdefault(operation, []).append(seconds / records * 1e6)
        bar.show(ROUNDS, total=ROUNDS)
    return [
        Latency(operation, statistics.median(times), min(times), max(times))
        for operation, times in timings.items()
    ]


def _round(db: flash_kv.DB, records: int, number: int) -> Iterable[tuple[str, float]]:
    """Every operation once over `records` records: new keys, so that each round finds the same work."""
    rng = random.Random(number)
    value = rng.randbytes(VALUE_BYTES)
    keys = [b"%0*d" % (KEY_BYTES, number * 2 * records + place) for place in range(records)]
    others = [b"%0*d" % (KEY_BYTES, (number * 2 + 1) * records + place) for place in range(records)]
    rng.shuffle(keys)
    rng.shuffle(others)
    missing = [key[:-1] + b"x" for key in keys]
    pairs = [(key, value) for key in others]
    yield "put, new key", _timed(lambda: _put_all(db, keys, value))
    yield "put, overwrite", _timed(lambda: _put_all(db, keys, value))
    yield f"put_many, batches of {BATCH_RECORDS:,}, per record", _timed(lambda: _batches(db, pairs))
    rng.shuffle(keys)
    yield "get, random", _timed(lambda: _each(db.get, keys))
    yield "get, hot", _timed(lambda: _each(db.get, [keys[0]] * records))
    yield "get, missing key", _timed(lambda: _each(db.get, missing))
    # Scanned from the round's first key on, so that every round scans as many items.
    first = b"%0*d" % (KEY_BYTES, number * 2 * records)
    last = b"%0*d" % (KEY_BYTES, number * 2 * records + records)
    yield "scan, per item", _timed(lambda: _exhaust(db.items(start=first, stop=last)))
    yield "delete", _timed(lambda: _each(db.delete, keys))


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _put_all(db: flash_kv.DB, keys: list[bytes], value: bytes) -> None:
    put = db.put
    for key in keys:
        put(key, value)


def _batches(db: flash_kv.DB, pairs: list[tuple[bytes, bytes]]) -> None:
    for begin in range(0, len(pairs), BATCH_RECORDS):
        db.put_many(pairs[begin : begin + BATCH_RECORDS])


def _each(operation: Callable[[bytes], object], keys: list[bytes]) -> None:
    for key in keys:
        operation(key)


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def machine() -> str:
    """The machine and the Python the figures belong to."""
    return f"{_processor()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        # Only Linux has it; elsewhere the platform's own name has to do.
        return platform.processor() or platform.machine()
    return platform.machine()
