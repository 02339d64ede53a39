"""Checksums of changed files, put right, so that what stands behind them is reached."""

from __future__ import annotations

import struct

from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.records import (
    HEADER_SIZE,
    KIND_BATCH,
    KIND_TOMBSTONE,
    KIND_VALUE,
    KIND_VOID,
    SEGMENT_HEADER_SIZE,
    record_seed,
)

HINT_HEADER_SIZE = 128
_RECORD = struct.Struct("<IBBHIIQ")
_IDENTITY = struct.Struct("<16x16sQQ")


def identity_of(content: bytes) -> tuple[bytes, int, int]:
    """Store id, segment id and epoch, as the header of a segment or of a hint file says them."""
    return _IDENTITY.unpack(content[: _IDENTITY.size].ljust(_IDENTITY.size, b"\0"))


def seal_segment(content: bytes) -> bytes:
    """A segment with the checksums that its header and records should have, as far as it can be followed."""
    changed = bytearray(content)
    if len(changed) < SEGMENT_HEADER_SIZE:
        return content
    struct.pack_into("<I", changed, 60, crc32c(bytes(changed[:60])))
    seed = record_seed(*identity_of(content))
    frames = []
    offset = SEGMENT_HEADER_SIZE
    while offset + HEADER_SIZE <= len(changed):
        _, kind, _, _, key_size, value_size, _ = _RECORD.unpack_from(changed, offset)
        if kind == KIND_BATCH:
            frames.append((offset, HEADER_SIZE + value_size * 8))
            offset += HEADER_SIZE
        elif kind in (KIND_VALUE, KIND_TOMBSTONE):
            size = HEADER_SIZE + -(-(key_size + value_size) // 8) * 8
            _seal(changed, seed, offset, size)
            offset += size
        elif kind == KIND_VOID:
            _seal(changed, seed, offset, HEADER_SIZE)
            offset += HEADER_SIZE + value_size * 8
        else:
            offset += 8
    for offset, size in frames:
        _seal(changed, seed, offset, size)
    return bytes(changed)


def _seal(changed: bytearray, seed: int, offset: int, size: int) -> None:
    if offset + size <= len(changed):
        covered = struct.pack("<Q", offset) + changed[offset + 4 : offset + size]
        struct.pack_into("<I", changed, offset, crc32c(covered, ~seed & 0xFFFFFFFF))


def seal_hint(content: bytes) -> bytes:
    """A hint file with right checksums and the size it has."""
    if len(content) < HINT_HEADER_SIZE:
        return content
    changed = bytearray(content)
    struct.pack_into("<Q", changed, 64, len(content) - HINT_HEADER_SIZE)
    struct.pack_into("<I", changed, 120, crc32c(bytes(changed[HINT_HEADER_SIZE:])))
    struct.pack_into("<I", changed, 124, crc32c(bytes(changed[:124])))
    return bytes(changed)


def seal_manifest(content: bytes) -> bytes:
    """A manifest with the right last line."""
    body = content[: content.rfind(b"crc32c:")] if b"crc32c:" in content else content
    return body + b"crc32c:%08x\n" % crc32c(body)
