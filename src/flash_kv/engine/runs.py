"""The sorted runs that an index is built from: from hint files, or out of memory where that is short."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flash_kv.io.mapping_cy import Mapping
from flash_kv.log.hints_cy import HintError, HintRun, load_hint
from flash_kv.log.names import hint_name
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.segment_set import SegmentSet

# To map a file, touch it and unmap it takes longer than to read so much.
SMALL_HINT_BYTES = 16 * 1024


def load_run(segments: SegmentSet, segment: Segment) -> HintRun | None:
    """The segment's hint, or None: a hint that is missing, damaged or foreign costs time, never data."""
    system = segments.system
    path = os.path.join(segments.directory, hint_name(segment.segment_id))
    try:
        fd = system.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        source: Mapping | bytes
        size = system.file_size(path)
        if segment.mapping is not None and size > SMALL_HINT_BYTES:
            source = segments.map_hint(fd, size)
        else:
            source = system.read_at(fd, size, 0)
    except OSError:
        return None
    finally:
        system.close(fd)
    try:
        return load_hint(
            source,
            store_id=segments.store_id,
            segment_id=segment.segment_id,
            epoch=segment.epoch,
            sealed_bytes=segment.readable_bytes,
        )
    except HintError:
        return None


def out_of_memory(segments: SegmentSet, run: HintRun) -> HintRun:
    """The run, where an index on disk is to be built, in a file without a name: there may be more keys than memory.

    What is in memory is one run for each thread then, however many segments have no hint.
    """
    system = segments.system
    if segments.options.index != "bptree" or run.size <= SMALL_HINT_BYTES:
        return run
    try:
        fd = system.open_nameless()
        try:
            offset = 0
            for chunk in run.chunks():
                system.write_at(fd, chunk, offset)
                offset += len(chunk)
            mapping = segments.map_hint(fd, run.size)
        finally:
            system.close(fd)
    except OSError:
        # The temporary files' disk is full, say: memory may do, and if it does not that is an error of its own.
        return run
    return load_hint(
        mapping,
        store_id=segments.store_id,
        segment_id=run.segment_id,
        epoch=run.epoch,
        sealed_bytes=run.sealed_bytes,
    )
