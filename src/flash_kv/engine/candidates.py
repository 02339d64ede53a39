"""Which sealed segments are worth a compaction, what it would gain, and which of them make one job.

All of it is told by the counters of the segments; no record is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.db import DB

LSN_MAX = 2**63


@dataclass(frozen=True)
class Candidate:
    """A sealed segment and what a compaction would find in it."""

    segment: Segment
    used: int
    live_bytes: int
    tombstone_bytes: int
    has_dead_values: bool
    min_lsn: int
    max_lsn: int

    @property
    def dead_bytes(self) -> int:
        return self.used - SEGMENT_HEADER_SIZE - self.live_bytes - self.tombstone_bytes


def candidates(db: DB) -> list[Candidate]:
    """All sealed segments, those with the oldest records first."""
    return sorted(
        (candidate_of(db, segment) for segment in db._segments.sealed()), key=lambda one: one.min_lsn
    )


def candidates_once_sealed(db: DB) -> list[Candidate]:
    """What `candidates` would find if all that has been written were sealed now, as `compact` begins with doing."""
    segments = db._segments
    with segments.space_lock:
        written = [
            segment for segment in segments.open.values() if segment.segment_id not in segments.unlisted
        ]
        found = [candidate_of(db, segment) for segment in written]
    return sorted((one for one in found if one.used > SEGMENT_HEADER_SIZE), key=lambda one: one.min_lsn)


def candidate_of(db: DB, segment: Segment) -> Candidate:
    counts = db._segment_counts(segment.segment_id)
    return Candidate(
        segment=segment,
        used=counts["used"],
        live_bytes=counts["live_bytes"],
        tombstone_bytes=counts["tombstone_bytes"],
        has_dead_values=counts["value_records"] > counts["live_records"],
        min_lsn=counts["min_lsn"],
        max_lsn=counts["max_lsn"],
    )


def tombstone_floor(db: DB, inputs: set[int]) -> int:
    """The smallest LSN that a segment outside `inputs` with a dead value record holds.

    A tombstone with a smaller LSN hides nothing any more. Every open segment counts, sealed or not.
    """
    floor = LSN_MAX
    for segment_id in list(db._segments.open):
        if segment_id in inputs:
            continue
        counts = db._segment_counts(segment_id)
        if counts["value_records"] > counts["live_records"] and counts["min_lsn"]:
            floor = min(floor, counts["min_lsn"])
    return floor


def reclaimable(one: Candidate, floor: int) -> int:
    """Bytes a compaction of this segment gives back: dead values, frames, and tombstones that hide nothing."""
    return one.dead_bytes + (one.tombstone_bytes if one.max_lsn < floor else 0)


def group(chosen: list[Candidate], segment_bytes_max: int) -> list[list[Candidate]]:
    """Jobs of neighbours whose live records fit one segment."""
    jobs: list[list[Candidate]] = []
    size = 0
    for one in chosen:
        wanted = one.live_bytes + one.tombstone_bytes
        if not jobs or size + wanted > segment_bytes_max - SEGMENT_HEADER_SIZE:
            jobs.append([])
            size = 0
        jobs[-1].append(one)
        size += wanted
    return jobs


def bytes_to_move(job: list[Candidate]) -> int:
    """The most a job can write."""
    return sum(one.live_bytes + one.tombstone_bytes for one in job)


def choose_by_policy(db: DB) -> list[Candidate]:
    """What the options say is worth compacting now."""
    options = db.options
    found = [one for one in candidates(db) if one.segment.segment_id not in db._compactor.damaged]
    floor = tombstone_floor(db, set())
    chosen = []
    for one in found:
        gain = reclaimable(one, floor)
        records = one.used - SEGMENT_HEADER_SIZE
        if gain >= options.compaction_dead_bytes and gain >= options.compaction_dead_ratio * records:
            chosen.append(one)
    small_limit = min(options.compaction_segment_bytes_min, options.segment_bytes_max // 2)
    small = [one for one in found if one.used < small_limit and one not in chosen]
    if len(small) >= 8:
        chosen += small
    if not chosen:
        chosen = _holding_back_tombstones(found, floor, options.compaction_dead_ratio)
    return sorted(chosen, key=lambda one: one.min_lsn)


def _holding_back_tombstones(found: list[Candidate], floor: int, ratio: float) -> list[Candidate]:
    """The oldest segment with dead values, when the tombstones it keeps alive are a large share of the store."""
    held = sum(one.tombstone_bytes for one in found if one.max_lsn >= floor)
    total = sum(one.used - SEGMENT_HEADER_SIZE for one in found)
    if total == 0 or held < ratio * total:
        return []
    return [one for one in found if one.has_dead_values][:1]
