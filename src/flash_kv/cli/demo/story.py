"""The steps of the demo, in order; each does, proves, and returns what it found."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_kv.cli.commands.compact import follow
from flash_kv.cli.demo import proofs
from flash_kv.cli.demo.corpus import Corpus, files_of
from flash_kv.cli.demo.kill import load_and_kill
from flash_kv.cli.demo.latency import Latency, measure
from flash_kv.cli.loading import Loader
from flash_kv.cli.progress import Bar

if TYPE_CHECKING:
    import flash_kv

# Small segments, so that a tree of some ten megabytes shows several; compaction only when the story says so.
OPTIONS: dict[str, Any] = {"segment_bytes_max": 4 << 20, "compaction": "off"}
BATCH_BYTES = 1 << 20

ProgressBars = Callable[..., AbstractContextManager[Bar]]


@dataclass(frozen=True)
class Space:
    """Disk space: what the store says and what the file system says."""

    disk_bytes: int
    du_bytes: int


class Story:
    """One run of the demo on `corpus`, in the store at `store`."""

    def __init__(self, store: Path, corpus: Corpus, progress: ProgressBars) -> None:
        self.store = store
        self.corpus = corpus
        self._progress = progress

    def load_until_killed(self) -> list[bytes]:
        with self._progress("loading in a child process", self.corpus.bytes_total) as bar:
            return load_and_kill(self.store, self.corpus, OPTIONS, bar)

    def reopen(self, acknowledged: list[bytes]) -> dict[str, Any]:
        """Open what the killed process left, and prove it."""
        began = time.perf_counter()
        with self._open() as db:
            duration_s = time.perf_counter() - began
            recovery = db.stats().recovery
            proofs.require(
                not recovery.was_clean, "the store says that it was closed, but its process was killed"
            )
            proved = proofs.prove_present(db, self.corpus, acknowledged)
            in_flight = proofs.prove_in_flight_only(db, self.corpus, acknowledged)
        return {
            "open_s": duration_s,
            "acknowledged": proved,
            "in_flight": in_flight,
            "recovery": recovery.as_dict(),
        }

    def resume(self) -> dict[str, Any]:
        """Store what is missing, then prove the whole tree equal, also after a clean close."""
        everything = self.corpus.sizes
        with self._open() as db, self._progress("loading the rest", self.corpus.bytes_total) as bar:
            rows = files_of(self.corpus.root)
            report = Loader(db, rows, batch_bytes=BATCH_BYTES, bar=bar, skip_identical=True).run()
            proofs.prove_nothing_else(db, self.corpus, everything)
        with self._open() as db:
            is_clean = db.stats().recovery.was_clean
            proofs.require(is_clean, "the store says that it was not closed, but it was")
            proofs.prove_present(db, self.corpus, everything)
            proofs.prove_nothing_else(db, self.corpus, everything)
            proofs.prove_undamaged(db)
        return report.as_dict()

    def delete_half_and_compact(self) -> dict[str, Any]:
        """Delete half of the files, compact, and prove what is gone, what is left, and the space won."""
        # By size, every second one: about half of the files and half of the bytes.
        by_size = sorted(self.corpus.sizes, key=lambda key: (-self.corpus.sizes[key], key))
        deleted, kept = by_size[1::2], by_size[0::2]
        with self._open() as db:
            number = db.delete_many(deleted)
            proofs.require(number == len(deleted), f"{number} keys deleted instead of {len(deleted)}")
            before = self._space(db)
            with self._progress("compacting", None) as bar:
                report = db.compact(progress=partial(follow, bar))
            after = self._space(db)
            proofs.require(not report.is_cancelled, "the compaction was cancelled")
            what = f"{before} before and {after} after the compaction"
            proofs.require(after.disk_bytes < before.disk_bytes, f"the store takes {what}")
            proofs.require(after.du_bytes < before.du_bytes, f"the file system counts {what}")
            self._prove_half(db, deleted, kept)
        with self._open() as db:
            self._prove_half(db, deleted, kept)
            proofs.prove_undamaged(db)
        return {
            "deleted": len(deleted),
            "deleted_bytes": sum(self.corpus.sizes[key] for key in deleted),
            "kept": len(kept),
            "disk_bytes_before": before.disk_bytes,
            "disk_bytes_after": after.disk_bytes,
            "du_bytes_before": before.du_bytes,
            "du_bytes_after": after.du_bytes,
            "compaction": report.as_dict(),
            "example_key": _example(kept).decode("utf-8", "backslashreplace"),
        }

    def latencies(self, records: int) -> list[Latency]:
        """Measured in a store of their own, which is removed."""
        scratch = self.store.with_name(self.store.name + ".latency")
        try:
            with self._progress("measuring", None, in_bytes=False) as bar:
                return measure(partial(_open, scratch), records, bar)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _open(self) -> flash_kv.DB:
        return _open(self.store, **OPTIONS)

    def _prove_half(self, db: flash_kv.DB, deleted: list[bytes], kept: list[bytes]) -> None:
        proofs.prove_absent(db, deleted)
        proofs.prove_present(db, self.corpus, kept)
        proofs.prove_nothing_else(db, self.corpus, kept)

    def _space(self, db: flash_kv.DB) -> Space:
        du_bytes = 0
        for path in self.store.rglob("*"):
            try:
                du_bytes += path.stat().st_blocks * 512
            except FileNotFoundError:
                # Renamed or removed since the directory was listed: the background works on.
                continue
        return Space(db.stats().disk_bytes, du_bytes)


def _open(path: Path, **options: Any) -> flash_kv.DB:
    import flash_kv

    db: flash_kv.DB = flash_kv.open(path, **options)
    return db


def _example(kept: list[bytes]) -> bytes:
    """A file worth looking at among those that are left."""
    for name in (b"this.py", b"heapq.py", b"bisect.py", b"json/decoder.py", b"abc.py"):
        if name in kept:
            return name
    return min((key for key in kept if key.endswith(b".py")), default=kept[0])
