"""Files of a store that its manifest does not list: which may go, and which say that the manifest is too old."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flash_kv.errors import CorruptionError
from flash_kv.log.names import SEGMENT_ID_MAX, SEGMENT_SUFFIX, parse, segment_name
from flash_kv.log.records import (
    ORIGIN_WRITER,
    SEGMENT_HEADER_SIZE,
    SegmentHeaderError,
    check_segment_header,
    make_segment_header,
)

if TYPE_CHECKING:
    from flash_kv.engine.segment_set import SegmentSet


def require_current_manifest(segments: SegmentSet) -> None:
    """CorruptionError when there are segments with records that the manifest is too old to know."""
    if segments.next_segment_id > SEGMENT_ID_MAX:
        return
    first = segment_name(segments.next_segment_id)
    for name in segments.system.list_directory(segments.directory):
        # All names of segments are equally long: those before the first unknown one need not be parsed.
        found = parse(name) if name >= first and name.endswith(SEGMENT_SUFFIX) else None
        if found is None or found.kind != "segment" or found.segment_id is None:
            continue
        if found.segment_id >= segments.next_segment_id:
            _require_expendable(segments, os.path.join(segments.directory, name), found.segment_id)


def remove_leftovers(segments: SegmentSet) -> None:
    """Remove what an interrupted operation left: temporaries, and segments and hints no manifest lists."""
    for name in segments.system.list_directory(segments.directory):
        found = parse(name)
        if found is None or found.kind in ("manifest", "lock", "reserve"):
            continue
        if found.kind == "index" and segments.options.index == "bptree":
            continue
        if found.kind in ("segment", "hint") and found.segment_id in segments.entries:
            continue
        segments.system.unlink(os.path.join(segments.directory, name))


def _require_expendable(segments: SegmentSet, path: str, segment_id: int) -> None:
    """A segment younger than the manifest may go if compaction made it or nothing was written to it."""
    fd = segments.system.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        head = segments.system.read_at(fd, SEGMENT_HEADER_SIZE + 8, 0)
    finally:
        segments.system.close(fd)
    try:
        info = check_segment_header(head, store_id=segments.store_id, segment_id=segment_id)
    except SegmentHeaderError:
        if not any(head) or _is_begun_header(head, segments.store_id):
            return
        raise CorruptionError(
            path, 0, "the manifest does not list this file and it is no segment of this store; move it away"
        ) from None
    if info.origin == ORIGIN_WRITER and any(head[SEGMENT_HEADER_SIZE:]):
        raise CorruptionError(
            path,
            0,
            "a segment with records is missing from the manifest, which must be an older copy",
        )


def _is_begun_header(head: bytes, store_id: bytes) -> bool:
    """Is this a header of which a part was written, with nothing behind it? A full disk may leave that."""
    whole = make_segment_header(store_id=store_id, segment_id=0, epoch=0, origin=ORIGIN_WRITER, created_ns=0)
    names = range(12), range(16, 32)
    return (
        head[:8] == whole[:8]
        and not any(head[SEGMENT_HEADER_SIZE:])
        and all(head[place] in (whole[place], 0) for part in names for place in part)
    )
