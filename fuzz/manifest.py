"""Decoding a manifest. Input: flags (1 checksum put right), then the file."""

from __future__ import annotations

from flash_kv.errors import CorruptionError, FormatVersionError
from flash_kv.log.manifest import decode_manifest, encode_manifest
from fuzz.checksums import seal_manifest
from fuzz.outcomes import tell


def run(data: bytes) -> None:
    """Decode it: what is taken is exactly what would be written."""
    if not data:
        return
    content = seal_manifest(data[1:]) if data[0] & 1 else data[1:]
    try:
        found = decode_manifest(content, "MANIFEST")
    except CorruptionError as error:
        assert 0 <= error.offset <= len(content)
        tell(error.reason[:20])
        return
    except FormatVersionError:
        return
    assert encode_manifest(found) == content
    tell(len(found.segments))
