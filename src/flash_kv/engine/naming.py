"""The names of codecs that a store carries: what its bytes mean to the layer above, which the engine does not know.

A name is given to a store without records, and stays. Opened without naming any codec, a store is bytes: so do the
tools, and what they write anew keeps the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flash_kv.errors import CodecMismatchError
from flash_kv.log.manifest import RAW_CODECS, Codecs

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


def require(path: Path, stored: Codecs, wanted: Codecs | None) -> None:
    """CodecMismatchError when a store has names, `stored`, and these are not those that are `wanted`."""
    if wanted is not None and wanted != stored and stored != RAW_CODECS:
        raise CodecMismatchError(path, stored, wanted)


def settle(db: DB, wanted: Codecs | None, keys: int) -> None:
    """Name a store that has no names yet. CodecMismatchError when it has `keys`: those codecs have not written them.

    Requires: its index is loaded, and nothing else can write to it yet.
    """
    segments = db._segments
    if wanted is None or wanted == segments.codecs:
        return
    if keys:
        raise CodecMismatchError(db.path, RAW_CODECS, wanted)
    if not db.options.read_only:
        with segments.space_lock:
            segments.codecs = wanted
            segments.write_manifest()
