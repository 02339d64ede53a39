"""Real power cuts: what a file system has left of a store is judged, and the judge is judged.

A few cuts of each kind where the machine has what they need; `make powercut` makes many. Root, loop devices, FUSE and
user-mode-linux are not to be had everywhere: what is missing stands in the line of the test that was skipped.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flash_kv.engine.segment_set import SegmentSet
from flash_kv.io.system import System
from powercut import guest, recorded
from powercut.commits import SEGMENT_BYTES, OneWriter, options
from powercut.mounts import FILE_SYSTEMS, make_image
from powercut.process import journal_after, judge_image
from powercut.requirements import what_is_missing
from powercut.run import KINDS
from powercut.tally import Tally

pytestmark = [pytest.mark.powercut, pytest.mark.usefixtures("real_syncs")]

# The files are on a disk: a guest has a /dev of its own, and so not what is in memory below the host's.
COUNTS = {"recorded": 6, "recorded threads": 4, "guests": 1, "shutdowns": 3}
SEEDS_TO_NOTICE = 8
LONG = pytest.mark.skipif(
    os.environ.get("FLASH_KV_TEST_POWERCUTS") != "all",
    reason="whether power cuts notice a broken engine is tried by `make powercut`",
)


def require(kind: str, file_system: str) -> None:
    if missing := what_is_missing(kind, file_system):
        pytest.skip(f"no power cuts ({kind}, {file_system}): {missing}")


def seed_with(durability: str, first: int) -> int:
    """The first seed from `first` on whose store has this durability."""
    while options(first).durability != durability:
        first += 1
    return first


@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_power_cut_breaks_a_promise(
    disk_path: Path, kind: str, file_system: str, rng: random.Random
) -> None:
    require(kind, file_system)
    tally = KINDS[kind](file_system, rng.randrange(2**31), disk_path, COUNTS[kind])
    assert tally.failures == []
    assert tally.states == COUNTS[kind]


def _do_nothing(*_: object) -> None:
    return None


def _unlink_first(install: Callable[..., None]) -> Callable[..., None]:
    def broken(segments: SegmentSet, outputs: Any, inputs: Any) -> None:
        for segment in inputs:
            segments._unlink(segment)
        install(segments, outputs, inputs)

    return broken


# Each breaks a rule that only a power cut can show to be broken.
BREAKAGES: dict[str, tuple[object, str, Callable[..., None]]] = {
    "a sync of data that does nothing": (System, "sync_data", _do_nothing),
    "a sync of directories that does nothing": (System, "sync_directory", _do_nothing),
    "inputs are removed before outputs are listed": (
        SegmentSet,
        "install",
        _unlink_first(SegmentSet.install),
    ),
}


@LONG
@pytest.mark.parametrize("what", BREAKAGES)
def test_a_recorded_cut_notices_a_broken_engine(
    disk_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("recorded", "ext4")
    total = Tally()
    for seed in range(SEEDS_TO_NOTICE):
        scratch = disk_path / str(seed)
        scratch.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(*BREAKAGES[what])
            recording = recorded.record("ext4", OneWriter(seed_with("always", 100 * seed)), scratch)
        total.add(recorded.try_cuts(recording, 12, scratch))
        if total.failures:
            return
    pytest.fail(f"{what}: not noticed in {total.states} cuts")


@LONG
def test_a_guest_that_is_cut_loses_what_was_not_synced(disk_path: Path) -> None:
    """A kill of the guest's processes is a power cut, not the death of a process."""
    require("guests", "ext4")
    total = Tally()
    for number in range(SEEDS_TO_NOTICE):
        seed = seed_with("process", 100 * number)
        image = disk_path / f"disk-{number}"
        make_image("ext4", image)
        done = guest.run_until_cut("ext4", seed, image, disk_path, 0.5)
        journal = journal_after(seed, {}, done)
        # As if each of the commits had been promised. By chance the last of them was synced.
        journal.make_durable()
        total.add(judge_image("ext4", image, disk_path, seed, journal, journal.durable, "cut")[1])
        if total.failures:
            break
    assert total.violations == {"lost": 1}, total


def test_the_same_seed_makes_the_same_cuts(disk_path: Path) -> None:
    require("recorded", "ext4")
    recording = recorded.record("ext4", OneWriter(1), disk_path)
    first, second = (
        [
            (floor, (disk_path / "image").read_bytes())
            for floor in recorded.cuts(recording, 3, random.Random(1), disk_path / "image")
        ]
        for _ in range(2)
    )
    assert first == second
    assert len(first) == 3


def test_segments_rotate_and_are_compacted_meanwhile(disk_path: Path) -> None:
    require("recorded", "ext4")
    recording = recorded.record("ext4", OneWriter(2), disk_path)
    assert recording.compactions > 2
    assert sum(len(entry.data) for entry in recording.entries[recording.first :]) > 5 * SEGMENT_BYTES
