"""Segments as bytes, put together record by record, as the writer or a crash would have left them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flash_kv.log.records import (
    FLAG_ALIGNED,
    HEADER_SIZE,
    KIND_TOMBSTONE,
    KIND_VALUE,
    PAD_SHIFT,
    SEGMENT_HEADER_SIZE,
    Record,
    encode_batch,
    encode_record,
    encode_void,
    make_segment_header,
    record_seed,
)
from flash_kv.log.scan_cy import SegmentScan, scan_segment

STORE_ID = bytes(range(16))


class SegmentBuilder:
    """`content` is the segment so far, `expected` its value and tombstone records in file order."""

    def __init__(
        self, segment_id: int = 7, epoch: int = 3, first_lsn: int = 1, store_id: bytes = STORE_ID
    ) -> None:
        self.segment_id = segment_id
        self.epoch = epoch
        self.store_id = store_id
        self.seed = record_seed(store_id, segment_id, epoch)
        self.next_lsn = first_lsn
        self.expected: list[Record] = []
        self._content = bytearray(
            make_segment_header(store_id=store_id, segment_id=segment_id, epoch=epoch, origin=0, created_ns=1)
        )

    @property
    def content(self) -> bytes:
        return bytes(self._content)

    @property
    def end(self) -> int:
        return len(self._content)

    def put(self, key: bytes, value: bytes, *, lsn: int | None = None, sync_distance: int = 0) -> int:
        """Append a value record; its offset."""
        return self._append(KIND_VALUE, key, value, lsn, sync_distance)

    def put_aligned(self, key: bytes, value: bytes) -> int:
        """Append a value record whose value begins at a multiple of 64; its offset."""
        offset = self.end
        pad = -(offset + HEADER_SIZE + len(key)) % 64
        flags = FLAG_ALIGNED | pad << PAD_SHIFT
        self._content += encode_record(self.seed, offset, KIND_VALUE, flags, key, value, self.next_lsn)
        place = offset + HEADER_SIZE + len(key) + pad
        self.expected.append(Record(offset, KIND_VALUE, self.next_lsn, key, place, len(value), True))
        self.next_lsn += 1
        return offset

    def delete(self, key: bytes, *, lsn: int | None = None, sync_distance: int = 0) -> int:
        """Append a tombstone; its offset."""
        return self._append(KIND_TOMBSTONE, key, b"", lsn, sync_distance)

    def batch(self, ops: Sequence[tuple[bytes, bytes | None]], *, sync_distance: int = 0) -> int:
        """Append a frame with its records; its offset."""
        offset = self.end
        at = offset + HEADER_SIZE
        for index, (key, value) in enumerate(ops):
            kind = KIND_TOMBSTONE if value is None else KIND_VALUE
            body = value or b""
            self.expected.append(
                Record(at, kind, self.next_lsn + index, key, at + HEADER_SIZE + len(key), len(body))
            )
            at += -(-(HEADER_SIZE + len(key) + len(body)) // 8) * 8
        self._content += encode_batch(self.seed, offset, 0, ops, self.next_lsn, sync_distance)
        self.next_lsn += len(ops)
        return offset

    def void(self, body: bytes) -> int:
        """Append a withdrawn record; its offset."""
        offset = self.end
        self._content += encode_void(self.seed, offset, body, self.next_lsn)
        self.next_lsn += 1
        return offset

    def raw(self, data: bytes) -> int:
        """Append bytes as they are; their offset."""
        offset = self.end
        self._content += data
        return offset

    def _append(self, kind: int, key: bytes, value: bytes, lsn: int | None, sync_distance: int) -> int:
        offset = self.end
        if lsn is None:
            lsn = self.next_lsn
        self._content += encode_record(self.seed, offset, kind, 0, key, value, lsn, sync_distance)
        self.expected.append(Record(offset, kind, lsn, key, offset + HEADER_SIZE + len(key), len(value)))
        self.next_lsn = max(self.next_lsn, lsn + 1)
        return offset

    def scan(self, content: bytes | None = None, *, is_sealed: bool = True, **options: Any) -> SegmentScan:
        """Scan `content`, or the segment so far, as this segment."""
        content = self.content if content is None else content
        return scan_segment(
            content,
            options.pop("size", len(content)),
            store_id=options.pop("store_id", self.store_id),
            segment_id=options.pop("segment_id", self.segment_id),
            epoch=options.pop("epoch", self.epoch),
            is_sealed=is_sealed,
            **options,
        )


def sample_segment() -> SegmentBuilder:
    """A small segment with every kind of record."""
    built = SegmentBuilder()
    built.put(b"a", b"value of a")
    built.put(b"b" * 20, b"")
    built.batch([(b"c", b"in a batch"), (b"a", None), (b"d", b"x" * 40)])
    built.void(b"what was here was taken back")
    built.delete(b"b" * 20)
    built.put(b"e", b"\x00" * 64)
    return built


__all__ = ["HEADER_SIZE", "SEGMENT_HEADER_SIZE", "STORE_ID", "SegmentBuilder", "sample_segment"]
