"""`DB.stats()`: figures that are kept as they change, added up over the segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from flash_kv.engine.compaction import LSN_MAX, Run
from flash_kv.engine.reports import SegmentStats, Stats
from flash_kv.log.records import SEGMENT_HEADER_SIZE

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


def _disk_bytes(db: DB, name: str) -> int:
    try:
        return db._system.allocated_bytes(db.path / name)
    except FileNotFoundError:
        # Renamed or removed since the directory was listed: the background works on.
        return 0


def _state(
    segment_id: int, sealed: set[int], spare_id: int | None, run: Run | None
) -> Literal["active", "spare", "sealed", "compacting"]:
    if run is not None and segment_id in run.inputs:
        return "compacting"
    if segment_id == spare_id:
        return "spare"
    return "sealed" if segment_id in sealed else "active"


def gather(db: DB) -> Stats:
    """The state of an open store."""
    with db._segments.space_lock:
        counts = {segment_id: db._segment_counts(segment_id) for segment_id in sorted(db._segments.open)}
        sealed = {one.segment_id for one in db._segments.open.values() if one.sealed_bytes is not None}
        disk_bytes = sum(_disk_bytes(db, name) for name in db._system.list_directory(db.path))
        spare = db._segments.spare
        spare_id = None if spare is None else spare.segment_id
    run = db._compactor.run
    floor = min(
        (one["min_lsn"] for one in counts.values() if one["value_records"] > one["live_records"]),
        default=LSN_MAX,
    )
    segments = []
    live_bytes = dead_bytes = 0
    for segment_id, one in counts.items():
        size = one["used"] - SEGMENT_HEADER_SIZE
        dead = size - one["live_bytes"] - (one["tombstone_bytes"] if one["max_lsn"] >= floor else 0)
        live_bytes += one["live_bytes"]
        dead_bytes += dead
        segments.append(
            SegmentStats(
                segment_id=segment_id,
                is_sealed=segment_id in sealed,
                bytes=size,
                dead_bytes=dead,
                dead_ratio=dead / size if size else 0.0,
                records=one["value_records"] + one["tombstones"],
                state=_state(segment_id, sealed, spare_id, run),
            )
        )
    total = live_bytes + dead_bytes
    return Stats(
        path=db.path,
        index=db.options.index,
        codecs=db.codecs,
        keys=len(db),
        segments=len(segments),
        live_bytes=live_bytes,
        dead_bytes=dead_bytes,
        dead_ratio=dead_bytes / total if total else 0.0,
        disk_bytes=disk_bytes,
        index_bytes=db._index_bytes(),
        snapshots=db._snapshot_count(),
        lsn=db._log_end()[4],
        synced_lsn=db._syncs.synced_lsn,
        syncs=db._syncs.syncs,
        sync_duration_s=db._syncs.sync_duration_s,
        compactions=db._compactor.count,
        compaction_bytes_moved=db._compactor.bytes_moved,
        compaction_bytes_reclaimed=db._compactor.bytes_reclaimed,
        last_compaction=db._compactor.last,
        compaction=None if run is None else run.progress(),
        recovery=db._recovery,
        is_poisoned=db._syncs.cause is not None,
        segment_stats=tuple(segments),
    )
