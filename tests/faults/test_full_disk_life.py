"""A life on a disk that is full again and again: filled to the error, read, thinned out, compacted, and filled again.

On file systems of 8 MB, one in memory and an ext4. FLASH_KV_TEST_DISK_ROUNDS says how often; 50 takes about a minute
for each. A SIGBUS would end the child that does it.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flash_kv import DB, StoreFullError
from support.processes import Report, run_forked
from support.small_disks import ext4, thin_out, tmpfs
from support.workload import Model, content, difference, open_with

ROUNDS = int(os.environ.get("FLASH_KV_TEST_DISK_ROUNDS", "2"))
DISK_BYTES = 8_000_000
OPTIONS = {"segment_bytes_max": 256 * 1024, "reserve_bytes": 512 * 1024}
VALUE_SIZES = (0, 10, 100, 1000, 5000, 30_000, 100_000)


@pytest.fixture(params=[tmpfs, ext4], ids=["tmpfs", "ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 8 MB."""
    with request.param(tmp_path / "disk", DISK_BYTES) as directory:
        yield directory


class Life:
    """A store on a disk that is full most of the time, and what has come of it."""

    def __init__(self, directory: Path, rng: random.Random, **options: object) -> None:
        self._open: Callable[[], DB] = lambda: open_with(directory / "db", **OPTIONS, **options)
        self._directory = directory
        self._rng = rng
        self._model: Model = {}
        self.figures = {
            "rounds": 0,
            "refused puts": 0,
            "puts": 0,
            "bytes put": 0,
            "deletes": 0,
            "bytes read": 0,
        }

    def live(self, rounds: int) -> None:
        """So many rounds; each ends with half of the keys gone and their space back."""
        db = self._open()
        for _ in range(rounds):
            self._fill(db)
            self._read(db)
            before = len(self._model)
            thin_out(db, self._model)
            self.figures["deletes"] += before - len(self._model)
            db.compact()
            disk = os.statvfs(self._directory)
            assert disk.f_bavail * disk.f_frsize > DISK_BYTES // 8
            self._read(db)
            if self._rng.random() < 0.3:
                db.close()
                db = self._open()
                self._read(db)
            self.figures["rounds"] += 1
        db.close()
        with self._open() as db:
            self._read(db)

    def _fill(self, db: DB) -> None:
        """Put until there is no room even for the smallest value."""
        start = self.figures["bytes put"]
        size_max = max(VALUE_SIZES)
        while True:
            key = b"%d" % self._rng.randrange(3000)
            size = self._rng.choice([size for size in VALUE_SIZES if size <= size_max])
            value = (b"%d:" % self.figures["puts"]) * (size // 4 + 1)
            try:
                db.put(key, value)
            except StoreFullError:
                self.figures["refused puts"] += 1
                assert db.get(key) == self._model.get(key)
                if size == 0:
                    break
                size_max = max(smaller for smaller in VALUE_SIZES if smaller < size)
                continue
            self._model[key] = value
            self.figures["puts"] += 1
            self.figures["bytes put"] += len(value)
        # It was full because it holds something, and not because space is lost.
        assert self.figures["bytes put"] - start > DISK_BYTES // 8

    def _read(self, db: DB) -> None:
        assert difference(content(db), self._model) == ""
        self.figures["bytes read"] += sum(map(len, self._model.values()))


@pytest.mark.parametrize(
    ("index", "io"), [("btree", "mmap"), ("hash", "file"), ("skiplist", "mmap"), ("bptree", "mmap")]
)
def test_a_store_lives_on_a_full_disk(
    disk: Path, index: str, io: str, rng: random.Random, request: pytest.FixtureRequest
) -> None:
    def body(report: Report) -> None:
        life = Life(disk, rng, index=index, io=io)
        life.live(ROUNDS)
        report(json.dumps(life.figures).encode())

    messages, status = run_forked(body, timeout_s=30.0 * ROUNDS + 60)
    assert status == 0
    figures = json.loads(messages[0])
    print(request.node.name, figures)
    assert figures["rounds"] == ROUNDS
    assert figures["refused puts"] >= ROUNDS
