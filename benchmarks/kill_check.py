"""Proof of what every adapter claims: a store killed by SIGKILL right after its last put has all of it.

A child process opens the store, writes, says so and is killed without closing anything; then the store is
opened again and every key is checked. A store that fails this has no place in the tables.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.dataset import Dataset, in_slices
from benchmarks.stores import STORES
from benchmarks.stores.base import BenchmarkError, Handle, Store

KEYS = 3_000
_DATA = Dataset(KEYS, 16, 100, seed=1)
_SINGLE, _BATCHED, _DELETED = in_slices(list(range(KEYS)), KEYS // 3)
_WRITTEN = b"written\n"
_ROOT = Path(__file__).resolve().parent.parent


def check_survives_kill(store: Store, directory: Path) -> None:
    """Raise `BenchmarkError` when `store` lost anything it acknowledged before it was killed."""
    path = directory / f"kill-{store.name}"
    path.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarks.kill_check", store.name, str(path)]
    try:
        with subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
            _check(store.name, handle)
        finally:
            handle.close()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write(handle: Handle) -> None:
    for key, value in _DATA.pairs(_SINGLE, 0) + _DATA.pairs(_DELETED, 0):
        handle.put(key, value)
    handle.put_many(_DATA.pairs(_BATCHED, 0))
    for key in _DATA.keys(_DELETED):
        handle.delete(key)


def _check(name: str, handle: Handle) -> None:
    for key, value in _DATA.pairs(_SINGLE + _BATCHED, 0):
        if handle.get_missing(key) != value:
            raise BenchmarkError(
                f"{name}: lost {key!r}, which it had acknowledged, when its process was killed"
            )
    for key in _DATA.keys(_DELETED):
        if handle.get_missing(key) is not None:
            raise BenchmarkError(f"{name}: brought back {key!r}, deleted before its process was killed")


def main() -> None:
    """The child process: writes, says so, and waits to be killed."""
    name, path = sys.argv[1:]
    # The handle is held until the kill: dropping it could close the store.
    handle = STORES[name].open(Path(path))
    _write(handle)
    if handle.kill_server is not None:
        # What is killed is what has the data.
        handle.kill_server()
    sys.stdout.buffer.write(_WRITTEN)
    sys.stdout.buffer.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
