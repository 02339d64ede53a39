"""Loading a hint file. Input: flags (1 checksums put right), then the file."""

from __future__ import annotations

import struct

from flash_kv.log.hints_cy import HintError, load_hint
from fuzz.checksums import identity_of, seal_hint
from fuzz.outcomes import size_class, tell

_SEALED_BYTES_OFFSET = 48


def run(data: bytes) -> None:
    """Load it: what is taken is in order, lies within its segment, and is what the file says."""
    if not data:
        return
    content = seal_hint(data[1:]) if data[0] & 1 else data[1:]
    store_id, segment_id, epoch = identity_of(content)
    (sealed_bytes,) = struct.unpack_from(
        "<Q", content.ljust(_SEALED_BYTES_OFFSET + 8, b"\0"), _SEALED_BYTES_OFFSET
    )
    try:
        loaded = load_hint(
            content, store_id=store_id, segment_id=segment_id, epoch=epoch, sealed_bytes=sealed_bytes
        )
    except HintError as error:
        tell(error.reason.rstrip("0123456789"))
        return
    keys = []
    for key, kind, lsn, offset, value_size in loaded.items():
        assert kind in (1, 2)
        assert offset >= 64
        assert offset + 24 + len(key) + value_size <= sealed_bytes
        assert loaded.min_lsn <= lsn <= loaded.max_lsn <= loaded.seen_lsn
        keys.append(key)
    assert keys == sorted(set(keys))
    assert len(keys) == loaded.entries
    assert b"".join(loaded.chunks()) == content
    tell(size_class(len(keys)), size_class(sealed_bytes), loaded.tombstones)
