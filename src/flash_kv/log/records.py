"""Records and segment headers as bytes, made and checked one at a time in plain Python.

For what is not the hot path: repair, tests, and the 64 bytes at the head of a segment. The layout is that of
docs/format.md and of `format.pxd`:

    record           checksum u32 | kind u8 | flags u8 | sync distance u16 | key size u32 | value size u32 | LSN u64
                     | key | zeros, if it is aligned | attributes, of KIND_EXTENDED | value | zeros to 8 bytes
    attributes       size u16 | 0 u16 | 0 u32 | expires ms u64 | meta
    segment header   magic 8 | version u32 | origin u32 | store id 16 | segment id u64 | epoch u64 | created ns u64
                     | 0 u32 | checksum u32

Invariant: what is made here is what the writer makes, byte for byte; `scan_cy` accepts it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flash_kv.log.checksum_cy import crc32c

KIND_VALUE = 1
KIND_TOMBSTONE = 2
KIND_BATCH = 3
KIND_VOID = 4
KIND_EXTENDED = 5

FLAG_IN_BATCH = 1
FLAG_ALIGNED = 2
PAD_SHIFT = 2

FORMAT_VERSION = 1
SEGMENT_MAGIC = b"FLASHKV\x00"
SEGMENT_HEADER_SIZE = 64
HEADER_SIZE = 24

ORIGIN_WRITER = 0
ORIGIN_COMPACTION = 1

META_SIZE_MAX = 4096

_ATTRIBUTES = struct.Struct("<HHIQ")
_RECORD = struct.Struct("<IBBHIIQ")
_SEGMENT = struct.Struct("<8sII16sQQQI")
_CHECKSUM = struct.Struct("<I")


class Record(NamedTuple):
    """A value or tombstone record of a segment; sizes and offsets in bytes."""

    offset: int
    kind: int
    lsn: int
    key: bytes
    value_offset: int
    value_size: int
    is_aligned: bool = False


class Attributes(NamedTuple):
    """What stands before the value of a record of KIND_EXTENDED."""

    size: int
    """Bytes of all of it."""
    expires_ms: int
    """Milliseconds since 1970 from which on the value is gone; 0: never."""
    meta: bytes


def encode_attributes(expires_ms: int, meta: bytes) -> bytes:
    """The attributes as they stand before a value."""
    return _ATTRIBUTES.pack(_ATTRIBUTES.size + len(meta), 0, 0, expires_ms) + meta


def decode_attributes(data: bytes) -> Attributes:
    """Those at the start of `data`, of a sound record."""
    size, _, _, expires_ms = _ATTRIBUTES.unpack_from(data)
    return Attributes(size, expires_ms, data[_ATTRIBUTES.size : size])


class DamagedRange(NamedTuple):
    """Bytes of a segment that are no sound record."""

    offset: int
    size: int
    reason: str


HeaderProblem = Literal[
    "short", "blank", "magic", "checksum", "version", "store", "segment", "epoch", "field"
]


class SegmentHeaderError(ValueError):
    """The first 64 bytes are not the header this segment must have: `problem` for code, `reason` for people."""

    def __init__(self, problem: HeaderProblem, reason: str, version: int | None = None) -> None:
        super().__init__(reason)
        self.problem = problem
        self.reason = reason
        self.version = version
        """With problem "version": the format version found."""


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What a sound segment header says."""

    store_id: bytes
    segment_id: int
    epoch: int
    origin: int
    created_ns: int


def record_seed(store_id: bytes, segment_id: int, epoch: int) -> int:
    """The seed of all checksums of one segment: the CRC register after store id, segment id and epoch."""
    if len(store_id) != 16:
        raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
    return ~crc32c(store_id + struct.pack("<QQ", segment_id, epoch)) & 0xFFFFFFFF


def encode_record(
    seed: int,
    offset: int,
    kind: int,
    flags: int,
    key: bytes,
    value: bytes,
    lsn: int,
    sync_distance: int = 0,
) -> bytes:
    """One sound record of a value, with its attributes in front of it if it is extended, or of a tombstone, padded to
    8 bytes; between key and value as `flags` say."""
    header = _RECORD.pack(0, kind, flags, sync_distance, len(key), len(value), lsn)
    return _sealed(seed, offset, header + key + bytes(flags >> PAD_SHIFT) + value)


def encode_batch(
    seed: int,
    offset: int,
    flags: int,
    ops: Sequence[tuple[bytes, bytes | None]],
    first_lsn: int,
    sync_distance: int = 0,
) -> bytes:
    """A sound frame with one record for each (key, value); None deletes. LSNs count up from `first_lsn`."""
    body = bytearray()
    for index, (key, value) in enumerate(ops):
        kind = KIND_TOMBSTONE if value is None else KIND_VALUE
        place = offset + HEADER_SIZE + len(body)
        body += encode_record(seed, place, kind, FLAG_IN_BATCH, key, value or b"", first_lsn + index)
    header = _RECORD.pack(0, KIND_BATCH, flags, sync_distance, len(ops), len(body) // 8, first_lsn)
    return _sealed(seed, offset, header + body)


def encode_void(seed: int, offset: int, body: bytes, lsn: int) -> bytes:
    """A withdrawn record: `body` is padded to 8 bytes and stands under no checksum."""
    body += bytes(-len(body) % 8)
    return _sealed(seed, offset, _RECORD.pack(0, KIND_VOID, 0, 0, 0, len(body) // 8, lsn)) + body


def _sealed(seed: int, offset: int, record: bytes) -> bytes:
    """`record`, padded, with its checksum in the first four bytes."""
    record += bytes(-len(record) % 8)
    return _CHECKSUM.pack(crc32c(struct.pack("<Q", offset) + record[4:], ~seed & 0xFFFFFFFF)) + record[4:]


def make_segment_header(
    *, store_id: bytes, segment_id: int, epoch: int, origin: int, created_ns: int
) -> bytes:
    """The 64 bytes a segment begins with."""
    if len(store_id) != 16:
        raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
    head = _SEGMENT.pack(SEGMENT_MAGIC, FORMAT_VERSION, origin, store_id, segment_id, epoch, created_ns, 0)
    return head + _CHECKSUM.pack(crc32c(head))


def check_segment_header(
    data: bytes, *, store_id: bytes, segment_id: int, epoch: int | None = None
) -> SegmentInfo:
    """What the header at the start of `data` says; SegmentHeaderError unless it is sound and the expected one.

    A field is believed only once the checksum holds, so a damaged version is damage, not another version.
    """
    head = data[: SEGMENT_HEADER_SIZE - 4]
    if len(data) < SEGMENT_HEADER_SIZE:
        raise SegmentHeaderError("short", f"{len(data)} bytes are too few for a segment header")
    if not any(data[:SEGMENT_HEADER_SIZE]):
        raise SegmentHeaderError("blank", "zeros where the segment header should be")
    magic, version, origin, store, segment, found_epoch, created_ns, reserved = _SEGMENT.unpack(head)
    if magic != SEGMENT_MAGIC:
        raise SegmentHeaderError("magic", "not a FlashKV segment: it does not begin with the magic bytes")
    if crc32c(head) != _CHECKSUM.unpack_from(data, SEGMENT_HEADER_SIZE - 4)[0]:
        raise SegmentHeaderError("checksum", "checksum mismatch in the segment header")
    if version != FORMAT_VERSION:
        raise SegmentHeaderError(
            "version", f"format version {version}, this version reads {FORMAT_VERSION}", version
        )
    if store != store_id:
        raise SegmentHeaderError("store", f"segment of another store, {store.hex()}, not {store_id.hex()}")
    if segment != segment_id:
        raise SegmentHeaderError("segment", f"header of segment {segment}, not {segment_id}")
    if epoch is not None and found_epoch != epoch:
        raise SegmentHeaderError("epoch", f"segment of epoch {found_epoch}, not {epoch}")
    if origin not in (ORIGIN_WRITER, ORIGIN_COMPACTION) or reserved != 0:
        raise SegmentHeaderError("field", f"impossible origin {origin} or reserved field {reserved}")
    return SegmentInfo(store, segment, found_epoch, origin, created_ns)
