"""The scan of a segment, and the hint file that is built from it.

Input: flags (1 sealed, 2 ordered, 4 checksums put right), the LSN before, then the segment.
"""

from __future__ import annotations

from flash_kv.errors import CorruptionError
from flash_kv.log.hints_cy import build_hint, load_hint
from flash_kv.log.records import HEADER_SIZE, KIND_TOMBSTONE, SEGMENT_HEADER_SIZE
from flash_kv.log.scan_cy import SegmentScan, scan_segment
from fuzz.checksums import identity_of, seal_segment
from fuzz.outcomes import size_class, tell


def run(data: bytes) -> None:
    """Scan it, and hold what the scan says against the bytes."""
    if len(data) < 2:
        return
    flags, previous_lsn, content = data[0], data[1], data[2:]
    if flags & 4:
        content = seal_segment(content)
    store_id, segment_id, epoch = identity_of(content)
    scan = scan_segment(
        content,
        len(content),
        store_id=store_id,
        segment_id=segment_id,
        epoch=epoch,
        is_sealed=bool(flags & 1),
        is_ordered=bool(flags & 2),
        previous_lsn=previous_lsn,
    )
    _check_records(scan, content)
    _check_damage(scan, len(content))
    if scan.is_sound:
        _check_hint(scan, len(content))
    tell(flags & 3, scan.reason, size_class(scan.record_count), scan.batches, scan.voids, scan.orphans)
    tell("damage", [found.reason for found in scan.damage[:4]], size_class(scan.torn_bytes))


def _check_records(scan: SegmentScan, content: bytes) -> None:
    end = SEGMENT_HEADER_SIZE
    count = 0
    for record in scan.records():
        assert record.offset >= end
        assert record.offset % 8 == 0
        end = record.value_offset + record.value_size
        assert end <= len(content)
        assert record.value_offset == record.offset + HEADER_SIZE + len(record.key)
        assert 1 <= len(record.key) <= 65536
        assert record.kind != KIND_TOMBSTONE or record.value_size == 0
        assert scan.min_lsn <= record.lsn <= scan.max_lsn <= scan.seen_lsn
        count += 1
    assert count == scan.record_count == scan.value_records + scan.tombstones
    assert len(list(scan.records(orphans=True))) == count + scan.orphans


def _check_damage(scan: SegmentScan, size: int) -> None:
    try:
        scan.require_sound("segment")
    except CorruptionError as error:
        assert not scan.is_sound
        assert error.offset == scan.bad_offset
    else:
        assert scan.is_sound
    end = SEGMENT_HEADER_SIZE if size >= SEGMENT_HEADER_SIZE else 0
    for found in scan.damage:
        assert found.offset >= end
        assert found.size > 0
        end = found.offset + found.size
    assert not scan.is_sealed or scan.torn_bytes == 0
    if scan.is_sealed and scan.is_sound:
        assert scan.end == size
    assert scan.end + scan.torn_bytes <= max(size, SEGMENT_HEADER_SIZE)


def _check_hint(scan: SegmentScan, size: int) -> None:
    run = build_hint(scan)
    loaded = load_hint(
        b"".join(run.chunks()),
        store_id=scan.store_id,
        segment_id=scan.segment_id,
        epoch=scan.epoch,
        sealed_bytes=run.sealed_bytes,
    )
    newest: dict[bytes, int] = {}
    for record in scan.records():
        newest[record.key] = max(record.lsn, newest.get(record.key, 0))
    assert {key: lsn for key, _, lsn, _, _ in loaded.items()} == newest
