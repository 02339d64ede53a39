"""Proof of what every adapter claims: a store killed by SIGKILL right after its last put has all of it.

A child process opens the store, writes, says so and is killed without closing anything; then the store is
opened again and every key is checked. A store that fails this has no place in the tables.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError, Handle, Store

KEYS = {"nothing": 3_000, "process": 3_000, "power": 60}
"""A store that syncs each write gets fewer."""
_DATA = Dataset(max(KEYS.values()), 16, 100, seed=1)
_WRITTEN = b"written\n"


def check_survives_kill(store: Store, directory: Path) -> None:
    """Raise `BenchmarkError` when `store` lost anything it acknowledged before it was killed."""
    path = directory / f"kill-{store.name}"
    path.mkdir(parents=True)
    command = [sys.executable, "-m", "flash_kv.bench.kill_check", store.name, str(path)]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            told = child.stdout.readline()
            child.kill()
            reason = child.stderr.read().decode("utf-8", "replace").strip()
        if told != _WRITTEN:
            raise BenchmarkError(f"{store.name}: the process to be killed ended by itself: {reason}")
        handle = store.open(path)
        try:
            _check(store, handle)
        finally:
            handle.close()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _thirds(store: Store) -> tuple[list[int], list[int], list[int]]:
    """What is put one by one, in a batch, and put and deleted."""
    count = KEYS[store.promise]
    single, batched, deleted = in_slices(list(range(count)), count // 3)
    return single, batched, deleted


def _write(store: Store, handle: Handle) -> None:
    single, batched, deleted = _thirds(store)
    for key, value in _DATA.pairs(single, 0) + _DATA.pairs(deleted, 0):
        handle.put(key, value)
    handle.put_many(_DATA.pairs(batched, 0))
    for key in _DATA.keys(deleted):
        handle.delete(key)


def _check(store: Store, handle: Handle) -> None:
    name = store.name
    single, batched, deleted = _thirds(store)
    for key, value in _DATA.pairs(single + batched, 0):
        if handle.get_missing(key) != value:
            raise BenchmarkError(
                f"{name}: lost {key!r}, which it had acknowledged, when its process was killed"
            )
    for key in _DATA.keys(deleted):
        if handle.get_missing(key) is not None:
            raise BenchmarkError(f"{name}: brought back {key!r}, deleted before its process was killed")


def main() -> None:
    """The child process: writes, says so, and waits to be killed."""
    name, path = sys.argv[1:]
    # The handle is held until the kill: dropping it could close the store.
    handle = STORES[name].open(Path(path))
    _write(STORES[name], handle)
    sys.stdout.buffer.write(_WRITTEN)
    sys.stdout.buffer.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
