"""Whether a checkpoint of the index on disk belongs to the log that an open has found, and what it spares reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flash_kv.index.checkpoint import Checkpoint
from flash_kv.log.names import SEGMENT_ID_MAX
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.recovery import Recovery
    from flash_kv.engine.segment_set import SegmentSet


def known_segments(
    segments: SegmentSet, sealed: list[Segment], base: Checkpoint | None
) -> dict[int, Segment]:
    """The sealed segments of which the index has all, by number."""
    states = {} if base is None else {state.segment_id: state for state in base.segments}
    known = {}
    for segment in sealed:
        state = states.get(segment.segment_id)
        entry = segments.entries[segment.segment_id]
        if (
            base is not None
            and state is not None
            and (state.epoch, state.used) == (segment.epoch, segment.sealed_bytes)
            and entry.max_lsn <= base.lsn
        ):
            known[segment.segment_id] = segment
    return known


def misfit(segments: SegmentSet, base: Checkpoint, found: Recovery) -> str | None:
    """Why the checkpoint of the index is not one of this log, or of a state that the log does not lead on from.

    It is as long as the log has every segment that the index points into, for then it also has every tombstone since:
    none is dropped while a segment that it was not compacted with holds a value that it hides.
    """
    ends = {one.segment.segment_id: (one.segment.epoch, one.end) for one in found.kept}
    states = {state.segment_id: state for state in base.segments}
    needed = {state.segment_id for state in base.segments if state.live_records}
    needed.update(position >> 32 & SEGMENT_ID_MAX for position in (*base.chains[1::2], *base.loose))
    for number in sorted(needed):
        epoch, end = ends.get(number, (0, 0))
        if number not in states or epoch != states[number].epoch or end < states[number].used:
            return f"it points into segment {number}, of which the log has another state"
    if base.lsn > found.last_lsn or base.next_segment_id > segments.next_segment_id:
        return "it is younger than the log"
    return None
