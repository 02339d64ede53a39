"""Power cuts and kills, simulated: whatever a crash leaves is a prefix of the commits that is long enough.

The engine is also broken on purpose, in ways that have broken others: the simulation has to notice each of them.
`flash-kv torture` runs the same for as long as one likes; FLASH_KV_TEST_CRASHES=N sets the seconds spent here.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from flash_kv import Options
from flash_kv.engine import recovery
from flash_kv.engine.db import DB
from flash_kv.engine.segment_set import SegmentSet
from flash_kv.io.crash import CrashSystem
from flash_kv.io.disk_image import EveryChooser, write_image
from flash_kv.log.segment import Segment
from flash_kv.options import parse_durability
from flash_kv.torture.crashes import CrashRun
from flash_kv.torture.journal import Journal
from flash_kv.torture.settings import Settings
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from flash_kv.torture.tally import Tally

SECONDS = float(os.environ.get("FLASH_KV_TEST_CRASHES", "8"))
SECONDS_TO_NOTICE = 60
COMBINATIONS_MAX = 15


def scratch_in(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_no_crash_breaks_a_promise(tmp_path: Path, rng: random.Random) -> None:
    seed = rng.randrange(2**31)
    ends = time.monotonic() + SECONDS
    total = Tally()
    while time.monotonic() < ends:
        run = CrashRun(
            seed + total.runs, Settings(), scratch_in(tmp_path), is_over=lambda: time.monotonic() > ends
        )
        total.add(run.run())
    assert [str(failure) for failure in total.failures] == []
    assert total.states > 20 * SECONDS
    assert total.kills > 0
    assert total.in_recovery > 0


def test_a_run_repeats_with_its_seed(tmp_path: Path, rng: random.Random) -> None:
    seed = rng.randrange(2**31)

    def run_once() -> tuple[dict[str, Any], list[str]]:
        moments: list[str] = []

        class Noting(CrashSystem):
            def _tell(self, moment: str) -> None:
                moments.append(moment)
                super()._tell(moment)

        run = CrashRun(
            seed, Settings(), scratch_in(tmp_path), make_system=Noting, is_over=lambda: len(moments) > 60
        )
        return run.run().as_dict(), moments

    first = run_once()
    assert len(first[1]) > 60
    assert run_once() == first


@pytest.mark.parametrize(("io", "durability"), [("mmap", "process"), ("file", "always")])
def test_every_state_that_a_power_cut_may_leave_of_a_short_history(
    tmp_path: Path, io: Any, durability: Any
) -> None:
    """Not by chance: all combinations of lost, kept and torn pages, sizes and names, at each call and operation."""
    options = Options(
        segment_bytes_max=65536, reserve_bytes=0, io=io, durability=durability, compaction="off"
    )
    journal = Journal({}, parse_durability(durability))
    wrong: list[str] = []
    states = 0
    root, image_root = tmp_path / "root", tmp_path / "image"
    root.mkdir()

    def look(moment: str) -> None:
        nonlocal states
        chooser = EveryChooser()
        system.disk.note()
        for image in islice(
            iter(lambda: chooser.has_next() and system.disk.choose(chooser), False), COMBINATIONS_MAX
        ):
            write_image(image, image_root)  # type: ignore[arg-type]
            (image_root / "db").mkdir(exist_ok=True)
            with DB(image_root / "db", options, UNSYNCED) as found:
                violation = journal.judge(dict(found.items()), journal.durable)
            if violation is not None:
                wrong.append(f"{moment}: {violation}")
            states += 1
            shutil.rmtree(image_root)

    with CrashSystem(root, watch=look) as system:
        db = open_stepped(root / "db", options, system)
        for writes in ({b"a": b"1" * 600}, {b"a": None, b"b": b"2" * 300}, {b"b": b"3"}):
            journal.begin(writes)
            with db.batch() as batch:
                for key, value in writes.items():
                    batch.put(key, value) if value is not None else batch.delete(key)
            journal.acknowledge()
            look("after a commit")
        db.close()
        journal.make_durable()
        look("closed")
    assert wrong == []
    assert states > 100


# Each breaks one rule of docs/design.md.


def _keep_everything(found: recovery.Recovery, unsealed: list[recovery.Recovered]) -> None:
    """Segments after a torn one are believed."""
    for one in unsealed:
        if one.first_lsn == 0:
            found.dropped.append(one)
            continue
        found.unsealed.append(one)
        found.last_lsn = max(found.last_lsn, one.seen_lsn)


def _seal_without_sync(segment: Segment, end: int) -> None:
    segment.system.truncate(segment.fd, end)
    segment.sealed_bytes = segment.allocated = end


def _unlink_first(install: Callable[..., None]) -> Callable[..., None]:
    def broken(segments: SegmentSet, outputs: list[Segment], inputs: list[Segment]) -> None:
        for segment in inputs:
            segments._unlink(segment)
        install(segments, outputs, inputs)

    return broken


def _forget_new_names(write: Callable[..., None]) -> Callable[..., None]:
    def broken(segments: SegmentSet) -> None:
        segments._has_new_names = False
        write(segments)

    return broken


# With the first seed to try: one that is known to notice soon.
BREAKAGES: dict[str, tuple[object, str, Any, int]] = {
    "a sync of data that does nothing": (CrashSystem, "sync_data", lambda self, fd: None, 0),
    "a sync of files that does nothing": (CrashSystem, "sync_file", lambda self, fd: None, 0),
    "a sync of directories that does nothing": (CrashSystem, "sync_directory", lambda self, path: None, 0),
    "segments behind a torn tail are believed": (recovery, "keep_prefix", _keep_everything, 2),
    "a segment is sealed without a sync": (Segment, "seal", _seal_without_sync, 4),
    "the manifest comes before the names it lists": (
        SegmentSet,
        "_write_manifest",
        _forget_new_names(SegmentSet._write_manifest),
        19,
    ),
    "inputs are removed before outputs are listed": (
        SegmentSet,
        "install",
        _unlink_first(SegmentSet.install),
        4,
    ),
    "what makes a record dead is not synced": (DB, "_sync_for_compaction", lambda self: None, 6),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_a_broken_engine_is_noticed(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, replacement, seed = BREAKAGES[what]
    monkeypatch.setattr(owner, name, replacement)
    ends = time.monotonic() + SECONDS_TO_NOTICE
    for tally in _runs(tmp_path, seed, ends):
        if not tally.is_ok:
            return
    pytest.fail(f"{what}: not noticed in {SECONDS_TO_NOTICE} s")


def _runs(tmp_path: Path, seed: int, ends: float) -> Iterator[Tally]:
    while time.monotonic() < ends:
        run: CrashRun

        def is_over() -> bool:
            return time.monotonic() > ends or not run.tally.is_ok

        run = CrashRun(seed, Settings(), scratch_in(tmp_path), is_over=is_over)
        yield run.run()
        seed += 1
