"""Compaction: give the space of dead records back, segment by segment, while reads and writes go on.

A job takes sealed segments whose live records together fill at most one new segment, copies those records
(move_cy.py, without the GIL), makes the copies durable, and puts them in the place of the inputs by one
manifest replace; then the inputs are unlinked. So the extra disk space needed is about one segment, and a
crash at any moment leaves either the inputs or the outputs, both complete.

Durability: what makes a record dead must be durable before the record is dropped, or a power cut could lose
both; so the log is synced before a job is installed.

A job that cannot finish (cancelled, disk full, damage found) keeps all its inputs: the copies made so far are
installed beside them, because the index points to them, and the next job gains what this one did not.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flash_kv.engine import move_cy
from flash_kv.engine.candidates import (
    Candidate,
    bytes_to_move,
    candidate_of,
    candidates,
    candidates_once_sealed,
    choose_by_policy,
    group,
    tombstone_floor,
)
from flash_kv.engine.index_file import FULL_DISK
from flash_kv.engine.part import Part
from flash_kv.engine.reports import CompactionProgress, CompactionReport
from flash_kv.engine.segment_set import POPULATE_BYTES
from flash_kv.errors import CorruptionError, StoreFullError, storage_error
from flash_kv.log.names import INDEX
from flash_kv.log.records import SEGMENT_HEADER_SIZE
from flash_kv.log.segment import Segment

if TYPE_CHECKING:
    from flash_kv.engine.db import DB

STEP_BYTES = 1024**2
# Complete output is handed to the disk in pieces of this size while more is copied.
WRITE_BACK_BYTES = POPULATE_BYTES
# What a job writes besides the records it moves: header, last page, and the manifest once more.
OVERHEAD_BYTES = 16 * 1024
MANIFEST_ENTRY_BYTES = 256
Progress = Callable[[CompactionProgress], object]


class CancelledByCaller(Exception):
    """The progress callback said stop."""


class Compactor(Part):
    """The compactions of one store: one at a time."""

    def __init__(self, db: DB) -> None:
        super().__init__(db)
        # One compaction at a time; taken before the space lock, never inside it. Reentrant only so that it knows its
        # owner: a thread that has it is refused by `require_outside`.
        self.lock = threading.RLock()
        self.damaged: set[int] = set()
        self.last: CompactionReport | None = None
        self.count = 0
        self.bytes_moved = 0
        self.bytes_reclaimed = 0
        self.is_stopping = False
        self.run: Run | None = None
        """What is being done now."""
        self.step_bytes = STEP_BYTES
        """Bytes of an input gone through between two calls of a progress callback."""

    def predict(self) -> CompactionReport:
        """What `run_all` would do."""
        found = [
            one for one in candidates_once_sealed(self.store) if one.segment.segment_id not in self.damaged
        ]
        chosen = [one for one in found if one.dead_bytes or one.tombstone_bytes]
        before = sum(one.used for one in chosen)
        kept = sum(one.live_bytes for one in chosen)
        jobs = group(chosen, self.store.options.segment_bytes_max)
        after = kept + SEGMENT_HEADER_SIZE * sum(any(one.live_bytes for one in job) for job in jobs)
        return CompactionReport(
            is_dry_run=True,
            is_cancelled=False,
            segments_compacted=len(chosen),
            segments_written=sum(any(one.live_bytes for one in job) for job in jobs),
            records_moved=0,
            bytes_moved=kept,
            tombstones_dropped=0,
            bytes_before=before,
            bytes_after=after,
            bytes_reclaimed=before - after,
            duration_s=0.0,
        )

    def require_outside(self, call: str) -> None:
        """RuntimeError in the middle of a compaction of this thread, which the call would have to wait for."""
        if self.is_mine:
            raise RuntimeError(
                f"{call} was called in the middle of a compaction, by its progress callback or a finaliser: "
                "return False from the callback to end it, then call"
            )

    @property
    def is_mine(self) -> bool:
        """Whether this very thread is compacting."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def run_all(self, progress: Progress | None) -> CompactionReport:
        """Compact every sealed segment that has something to give back."""
        with self.lock:
            self.store.check_open()
            found = candidates(self.store)
            chosen = [one for one in found if one.dead_bytes or one.tombstone_bytes]
            return self._run(chosen, progress, None)

    def run_policy(self) -> CompactionReport | None:
        """One round of the background compaction; None when there was nothing to do."""
        with self.lock:
            chosen = choose_by_policy(self.store)
            if not chosen:
                return None
            return self._run(chosen, None, self.store.options.compaction_rate_bytes_per_s)

    def _run(self, chosen: list[Candidate], progress: Progress | None, rate: int | None) -> CompactionReport:
        run = Run(self.store, chosen, progress, rate)
        started = time.monotonic()
        is_cancelled = False
        # Outputs of a compaction that was interrupted: the index points into them, so they come first.
        segments = self.store._segments
        left = list(segments.unlisted.values())
        if left:
            segments.install(segments.adopt(left), [])
        with segments.space_lock:
            if not segments.reserve.is_whole():
                segments.drop_spare()
        numbers = [one.segment.segment_id for one in chosen]
        try:
            self.run = run
            segments.put_off_hints(numbers)
            self._run_jobs(run, group(chosen, self.store.options.segment_bytes_max))
        except CancelledByCaller:
            is_cancelled = True
        finally:
            self.run = None
            segments.resume_hints(numbers)
            report = run.report(time.monotonic() - started, is_cancelled)
            self.last = report
            self.count += 1
            self.bytes_moved += report.bytes_moved
            self.bytes_reclaimed += max(report.bytes_reclaimed, 0)
            segments.release_retired()
            with segments.space_lock:
                segments.reserve.keep()
        return report

    def _run_jobs(self, run: Run, waiting: list[list[Candidate]]) -> None:
        """All jobs that fit on the disk; each gives its space back before the next. StoreFullError when none does.

        A job that ran out of space half-way would take some and free none. So one that does not fit waits until the
        others are done, then each of its inputs is tried alone, those with the least to move first.
        """
        while waiting:
            postponed = []
            for job in waiting:
                if self._fits(job):
                    self._run_job(run, job)
                    self.store._segments.release_retired()
                else:
                    postponed.append(job)
            if len(postponed) == len(waiting) and all(len(job) == 1 for job in waiting):
                if not run.has_gained:
                    raise StoreFullError(self.store.path, "compact")
                return
            # Those without a dead record last: they give nothing back before the others are done.
            waiting = sorted(
                ([one] for job in postponed for one in job),
                key=lambda job: (not job[0].dead_bytes, bytes_to_move(job)),
            )

    def _run_job(self, run: Run, job: list[Candidate]) -> None:
        """One job; once more when the index had no room for what it changes, and could be given some."""
        try:
            run.job(job)
        except StoreFullError as error:
            if Path(error.path).name != INDEX or not self.store._index_keeper.make_room(error.errno or 0):
                raise
            run.job([candidate_of(self.store, one.segment) for one in job])

    def _fits(self, job: list[Candidate]) -> bool:
        """Is there room for the job's output, by what the file system says? The reserve counts as free."""
        wanted = bytes_to_move(job)
        if wanted == 0:
            return True
        segments = self.store._segments
        with segments.space_lock:
            listed = len(segments.entries)
            held = segments.reserve.held_bytes()
        free = segments.system.free_bytes(self.store.path) + held
        return wanted + OVERHEAD_BYTES + listed * MANIFEST_ENTRY_BYTES <= free


class Run:
    """One call's jobs, and what they add up to."""

    def __init__(self, db: DB, chosen: list[Candidate], progress: Progress | None, rate: int | None) -> None:
        self._db = db
        self._segments = db._segments
        self._progress = progress
        self._rate = rate
        self._bytes_total = sum(one.used for one in chosen)
        self._segments_total = len(chosen)
        self._bytes_being_moved = 0
        self.inputs = frozenset(one.segment.segment_id for one in chosen)
        """The ids of the segments that it goes through."""
        self._bytes_done = 0
        self._segments_done = 0
        self._records_moved = 0
        self._bytes_moved = 0
        self._tombstones_dropped = 0
        self._bytes_before = 0
        self._bytes_after = 0
        self._segments_written = 0

    @property
    def has_gained(self) -> bool:
        """Whether space has come back so far."""
        return self._bytes_before > self._bytes_after

    def job(self, inputs: list[Candidate]) -> None:
        """Compact `inputs` together."""
        db = self._db
        floor = tombstone_floor(db, {one.segment.segment_id for one in inputs})
        mover = move_cy.Mover(db, db.options.io == "mmap", db._write_hook, floor)
        outputs: list[Segment] = []
        is_whole = False
        try:
            for one in inputs:
                self._move(mover, one, outputs)
            is_whole = True
        finally:
            self._records_moved += mover.records_moved
            self._bytes_moved += mover.bytes_moved
            self._bytes_being_moved = 0
            self._finish(mover, outputs, inputs if is_whole else [])
            if is_whole:
                self._tombstones_dropped += mover.tombstones_dropped
                self._bytes_before += sum(one.used for one in inputs)

    def _move(self, mover: move_cy.Mover, one: Candidate, outputs: list[Segment]) -> None:
        segment = one.segment
        mover.set_input(
            segment.segment_id, segment.epoch, self._segments.store_id, segment.source(), one.used
        )
        done = self._bytes_done
        while True:
            started = time.monotonic()
            before = mover.bytes_moved
            outcome = mover.move(self._db._compactor.step_bytes)
            self._bytes_done = done + mover.input_offset
            if outcome == move_cy.NEEDS_ROOM:
                self._make_room(mover, outputs, one)
            elif outcome == move_cy.DAMAGED:
                self._db._compactor.damaged.add(segment.segment_id)
                raise CorruptionError(
                    segment.path,
                    mover.input_offset,
                    "a record is damaged; the segment is left as it is",
                )
            elif outcome == move_cy.FAILED_WRITE:
                path = outputs[-1].path
                raise storage_error(OSError(mover.errno, "write failed"), path=path, operation="write")
            elif outcome == move_cy.FAILED_READ:
                raise _failed_lookup(mover, segment)
            elif outcome == move_cy.FAILED_MEMORY:
                raise MemoryError("no memory for compaction")
            self._write_back(mover, outputs)
            self._report_progress(mover)
            if outcome == move_cy.ALL:
                self._segments_done += 1
                self._bytes_done = done + one.used
                return
            self._hold_rate(self._db._compactor.step_bytes + mover.bytes_moved - before, started)

    def _write_back(self, mover: move_cy.Mover, outputs: list[Segment]) -> None:
        """Have the disk begin early, so that the sync at the end finds little left."""
        end = mover.output_tail // WRITE_BACK_BYTES * WRITE_BACK_BYTES
        if outputs and end > outputs[-1].written_back:
            start, outputs[-1].written_back = outputs[-1].written_back, end
            self._segments.system.write_back(outputs[-1].fd, start, end - start)

    def _make_room(self, mover: move_cy.Mover, outputs: list[Segment], one: Candidate) -> None:
        """Grow the output, or begin the next one."""
        wanted = mover.bytes_wanted
        with self._segments.space_lock:
            try:
                self._grow_output(mover, outputs, wanted)
            except StoreFullError:
                if not self._segments.reserve.release():
                    raise
                self._grow_output(mover, outputs, wanted)

    def _grow_output(self, mover: move_cy.Mover, outputs: list[Segment], wanted: int) -> None:
        if outputs and mover.output_tail + wanted <= outputs[-1].capacity:
            end = mover.output_tail + wanted
            if end > outputs[-1].allocated:
                outputs[-1].grow(end)
            mover.extend_output(self._bring_in(outputs[-1], end))
            return
        segment = self._segments.create("compaction", SEGMENT_HEADER_SIZE + wanted)
        outputs.append(segment)
        mover.set_output(
            segment.segment_id,
            segment.mapping,
            segment.fd,
            SEGMENT_HEADER_SIZE,
            self._bring_in(segment, SEGMENT_HEADER_SIZE + wanted),
        )

    def _bring_in(self, output: Segment, wanted: int) -> int:
        """Have the pages up to `wanted`, and a little further, in memory; how far.

        The kernel fills them with zeros while the space lock is held: so a piece at a time, and one that is still in
        the processor's cache when it is written over.
        """
        end = min(-(-wanted // POPULATE_BYTES) * POPULATE_BYTES, output.allocated)
        output.populate(output.populated, end)
        output.populated = end
        return end

    def _report_progress(self, mover: move_cy.Mover) -> None:
        if self._db._compactor.is_stopping:
            raise CancelledByCaller
        self._bytes_being_moved = mover.bytes_moved
        if self._progress is not None and self._progress(self.progress()) is False:
            raise CancelledByCaller

    def progress(self) -> CompactionProgress:
        """How far it is."""
        return CompactionProgress(
            segments_done=self._segments_done,
            segments_total=self._segments_total,
            bytes_done=self._bytes_done,
            bytes_total=self._bytes_total,
            bytes_moved=self._bytes_moved + self._bytes_being_moved,
        )

    def _hold_rate(self, size: int, started: float) -> None:
        if self._rate is not None:
            left = size / self._rate - (time.monotonic() - started)
            if left > 0:
                self._db._maintenance.pause(left)

    def _finish(self, mover: move_cy.Mover, outputs: list[Segment], inputs: list[Candidate]) -> None:
        """Make the outputs durable and install them in the place of `inputs`, which may be none."""
        segments = self._segments
        sealed = segments.adopt(outputs)
        self._segments_written += len(sealed)
        if inputs:
            self._bytes_after += sum(segment.readable_bytes for segment in sealed)
        if not sealed and not inputs:
            return
        self._db._sync_for_compaction()
        keeper = self._db._index_keeper
        if inputs and keeper.is_kept:
            # The index's checkpoint must point into nothing that goes, and into nothing that is not listed yet.
            if sealed:
                segments.install(sealed, [])
                sealed = []
            keeper.let_go_of()
        segments.install(sealed, [one.segment for one in inputs])
        self._db._maintenance.wake()

    def report(self, duration_s: float, is_cancelled: bool) -> CompactionReport:
        """What the finished jobs did."""
        return CompactionReport(
            is_dry_run=False,
            is_cancelled=is_cancelled,
            segments_compacted=self._segments_done,
            segments_written=self._segments_written,
            records_moved=self._records_moved,
            bytes_moved=self._bytes_moved,
            tombstones_dropped=self._tombstones_dropped,
            bytes_before=self._bytes_before,
            bytes_after=self._bytes_after,
            bytes_reclaimed=self._bytes_before - self._bytes_after,
            duration_s=duration_s,
        )


def _failed_lookup(mover: move_cy.Mover, segment: Segment) -> Exception:
    """Why the index could not say whether a record is wanted: with io="file" it reads records itself."""
    if mover.errno == errno.ENOMEM:
        return MemoryError("no memory for compaction")
    if mover.errno:
        failure = OSError(mover.errno, os.strerror(mover.errno))
        # Reads need no room; what the index changes does.
        is_of_index = mover.errno in FULL_DISK
        path = Path(segment.path).with_name(INDEX) if is_of_index else segment.path
        return storage_error(failure, path=path, operation="read for compaction")
    return CorruptionError(segment.path, mover.input_offset, "the index could not be read for this record")
