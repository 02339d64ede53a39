"""Damaging a store's files on purpose, and looking at what is in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flash_kv.io.system import REAL
from flash_kv.log.manifest import Manifest, SegmentEntry, read_manifest
from flash_kv.log.names import hint_name, segment_name
from flash_kv.log.records import Record
from flash_kv.log.scan_cy import SegmentScan, scan_segment


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write into the file where it is, as a bad disk would."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int, mask: int = 0x10) -> None:
    """Flip bits of one byte; a second time takes it back."""
    with path.open("rb") as file:
        file.seek(offset)
        byte = file.read(1)
    overwrite(path, offset, bytes([byte[0] ^ mask]))


def cut(path: Path, size: int) -> None:
    """Let the file end here."""
    os.truncate(path, size)


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    """All there is in a directory: content and time of the last change."""
    return {
        path.name: (path.read_bytes() if path.is_file() else b"", path.lstat().st_mtime_ns)
        for path in sorted(directory.iterdir())
    }


def manifest_of(directory: Path) -> Manifest:
    """The store's manifest, which must be sound."""
    return read_manifest(REAL, directory)


def segments(directory: Path) -> list[Path]:
    """The segment files, oldest first."""
    return sorted(directory.glob("*.seg"))


def hint_of(segment: Path) -> Path:
    """The hint file beside a segment."""
    return segment.with_suffix(".hint")


@dataclass(frozen=True)
class Placed:
    """A record and where it stands."""

    path: Path
    entry: SegmentEntry
    record: Record

    @property
    def size(self) -> int:
        """Bytes it takes, padding included."""
        end = self.record.value_offset + self.record.value_size - self.record.offset
        return -(-end // 8) * 8


def scan_of(directory: Path, entry: SegmentEntry) -> SegmentScan:
    """A scan of one segment as it is on disk."""
    content = (directory / segment_name(entry.segment_id)).read_bytes()
    return scan_segment(
        content,
        len(content) if entry.sealed_bytes is None else entry.sealed_bytes,
        store_id=manifest_of(directory).store_id,
        segment_id=entry.segment_id,
        epoch=entry.epoch,
        is_sealed=entry.sealed_bytes is not None,
    )


def records(directory: Path) -> list[Placed]:
    """Every sound record of the listed segments, in order of their LSNs."""
    found = [
        Placed(directory / segment_name(entry.segment_id), entry, record)
        for entry in manifest_of(directory).segments
        for record in scan_of(directory, entry).records()
    ]
    return sorted(found, key=lambda one: one.record.lsn)


def hints_removed(directory: Path) -> None:
    """Remove all hint files."""
    for entry in manifest_of(directory).segments:
        (directory / hint_name(entry.segment_id)).unlink(missing_ok=True)
