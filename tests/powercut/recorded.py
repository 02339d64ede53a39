"""Power cuts under a real file system: any moment of a recorded device, with any subset of what was not flushed.

A store lives on ext4 or xfs on a device that remembers (blockdevice.py). Afterwards the device is put together again as
a power cut would have left it: everything up to a flush, and of the blocks written since then each one kept, lost or
torn, by chance. The kernel's own file system recovers it, the store is opened, and what it holds is judged.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flash_kv import DB, FlashKVError, Options
from flash_kv.torture.journal import Violation
from powercut.blockdevice import Counter, Entry, RecordingDisk, read_log
from powercut.mounts import IMAGE_BYTES, loop_device, make_file_system, mounted
from powercut.tally import Tally

BLOCK_BYTES = 4096
SECTOR_BYTES = 512
# Of the blocks that were not flushed, this part is kept: none, some, nearly all.
KEPT = (0.0, 0.2, 0.5, 0.8, 0.97)
TORN = 0.1


class Work(Protocol):
    """What is done to the store, and how what is left of it is judged."""

    seed: int
    options: Options
    acknowledged: int
    """Commits that have returned."""

    def run(self, db: DB, note: Callable[[int], object]) -> None:
        """Write. `note` is told what is promised each time that this changes, as a number."""

    def promised(self) -> int:
        """What is promised when the store was closed."""

    def judge(self, path: Path, floor: int) -> Violation | None:
        """What is wrong with the store at `path`, of which `floor` was promised."""


@dataclass(frozen=True)
class Recording:
    """What a device was told from its making to the closing of the store, and what was done meanwhile."""

    file_system: str
    work: Work
    entries: list[Entry]
    first: int
    """The first entry after the file system was made and mounted once."""
    compactions: int
    """How often the store was compacted meanwhile."""


def record(file_system: str, work: Work, scratch: Path) -> Recording:
    """Let a store live on a new file system in the empty directory `scratch`."""
    counter = Counter()
    mount_point = scratch / "mounted"
    try:
        with (
            RecordingDisk(scratch, IMAGE_BYTES[file_system], counter) as disk,
            loop_device(disk.path) as device,
        ):
            make_file_system(file_system, device)
            with mounted(file_system, device, mount_point):
                pass
            log_bytes = os.path.getsize(disk.log_path)
            with mounted(file_system, device, mount_point):
                with DB(mount_point / "db", work.options) as db:
                    work.run(db, counter.set)
                    compactions = db.stats().compactions
                counter.set(work.promised())
            log_path = disk.log_path
    finally:
        counter.close()
    entries = list(read_log(log_path))
    return Recording(file_system, work, entries, _entry_at(entries, log_bytes), compactions)


def _entry_at(entries: list[Entry], log_bytes: int) -> int:
    """The number of the entry that begins at this place of the log."""
    ends = []
    end = 0
    for entry in entries:
        end += entry.stored_bytes
        ends.append(end)
    return bisect_left(ends, log_bytes) + 1


def cuts(recording: Recording, count: int, rng: random.Random, image: Path) -> Iterator[int]:
    """Make `count` states at `image`, in the order of their moments; yields what each was promised to hold."""
    entries = recording.entries
    moments = sorted(rng.choices(range(recording.first, len(entries) + 1), k=count))
    flushed = bytearray(IMAGE_BYTES[recording.file_system])
    waiting: list[Entry] = []
    position = 0
    for moment in moments:
        for entry in entries[position:moment]:
            waiting.append(entry)
            if not entry.data:
                for write in waiting:
                    flushed[write.offset : write.offset + len(write.data)] = write.data
                waiting.clear()
        position = moment
        _write_image(image, flushed, _left(waiting, rng))
        yield entries[moment].promised if moment < len(entries) else recording.work.promised()


def _left(waiting: list[Entry], rng: random.Random) -> Iterator[tuple[int, bytes]]:
    """Of what was not flushed, what the cut leaves."""
    kept = rng.choice(KEPT)
    for entry in waiting:
        for start in range(0, len(entry.data), BLOCK_BYTES):
            if rng.random() >= kept:
                continue
            block = entry.data[start : start + BLOCK_BYTES]
            if rng.random() < TORN:
                for sector in range(0, len(block), SECTOR_BYTES):
                    if rng.random() < 0.5:
                        yield entry.offset + start + sector, block[sector : sector + SECTOR_BYTES]
            else:
                yield entry.offset + start, block


def _write_image(path: Path, flushed: bytearray, left: Iterator[tuple[int, bytes]]) -> None:
    with open(path, "wb") as file:
        zeros = bytes(BLOCK_BYTES * 16)
        for start in range(0, len(flushed), len(zeros)):
            piece = flushed[start : start + len(zeros)]
            if piece != zeros:
                file.seek(start)
                file.write(piece)
        file.truncate(len(flushed))
        for offset, data in left:
            file.seek(offset)
            file.write(data)


def try_cuts(recording: Recording, count: int, scratch: Path) -> Tally:
    """Make and judge `count` states."""
    work = recording.work
    rng = random.Random(f"{work.seed}/cuts")
    tally = Tally(acknowledged=work.acknowledged)
    image = scratch / "image"
    for number, floor in enumerate(cuts(recording, count, rng, image)):
        tally.states += 1
        try:
            with mounted(recording.file_system, image, scratch / "cut") as directory:
                violation = work.judge(directory / "db", floor)
        except FlashKVError as error:
            violation = Violation("failed open", f"{type(error).__name__}: {error}")
        if violation is not None:
            where = f"{type(work).__name__}, {recording.file_system}, seed {work.seed}"
            tally.record(f"{where}, cut {number} of {count}, promised {floor:#x}", violation)
    image.unlink(missing_ok=True)
    return tally
