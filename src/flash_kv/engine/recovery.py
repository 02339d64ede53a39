"""Opening: from a directory to segments, an index and the next LSN.

Order of trust: the manifest says which segments there are. A sealed segment must be whole; its hint file
stands for it if it matches, else the segment is scanned. An unsealed one is scanned; what follows the last
whole record was never acknowledged as durable (torn tail) unless a later record proves that it was
(corruption).

After an unclean stop the log ends where the first unsealed segment does that is cut or has lost records: what
later segments hold was written after the loss and is dropped with it, so the store is a prefix of the commit
order.

Nothing is removed before a manifest that does without it is durable, so an open that is killed can be repeated. What is
whole is left for the background to seal, so that an open after a kill waits for no sync.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from flash_kv.engine import naming
from flash_kv.engine.leftovers import remove_leftovers, require_current_manifest
from flash_kv.engine.reports import RecoveryReport
from flash_kv.engine.runs import load_run, out_of_memory
from flash_kv.engine.taking_over import known_segments, misfit
from flash_kv.errors import CorruptionError, NotAStoreError, StoreNotFoundError, storage_error
from flash_kv.index.checkpoint import Checkpoint, SegmentState
from flash_kv.index.index_cy import Index
from flash_kv.index.load_cy import LoadError, load_index
from flash_kv.io.signals import SignalsHeld
from flash_kv.io.system import System
from flash_kv.log.hints_cy import HintRun, build_hint
from flash_kv.log.manifest import RAW_CODECS, Codecs, Manifest, SegmentEntry, read_manifest, write_manifest
from flash_kv.log.names import INDEX, MANIFEST, parse
from flash_kv.log.records import (
    SEGMENT_HEADER_SIZE,
)
from flash_kv.log.scan_cy import SegmentScan, scan_segment
from flash_kv.log.segment import Segment, open_segment
from flash_kv.log.table_cy import SegmentTable
from flash_kv.options import Options

if TYPE_CHECKING:
    from flash_kv.engine.segment_set import SegmentSet

LOAD_THREADS_MAX = 8
# Below, all segments are read in the time that it takes to start threads.
THREADS_FROM_BYTES = 4 * 1024**2

Result = TypeVar("Result")


def _threads_for(segments: list[Segment], options: Options) -> int:
    if options.load_threads:
        return options.load_threads
    if sum(segment.readable_bytes for segment in segments) < THREADS_FROM_BYTES:
        return 1
    return min(os.cpu_count() or 1, LOAD_THREADS_MAX)


def in_threads(work: Callable[[Segment], Result], segments: list[Segment], options: Options) -> list[Result]:
    """`work` on each segment; the compiled part of it runs without the GIL."""
    threads = min(_threads_for(segments, options), len(segments))
    if threads < 2:
        return [work(segment) for segment in segments]
    results: list[Result | None] = [None] * len(segments)
    errors: list[BaseException] = []
    is_over = threading.Event()
    numbers = iter(range(len(segments)))

    def run() -> None:
        for number in numbers:
            if is_over.is_set():
                return
            try:
                results[number] = work(segments[number])
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                errors.append(error)
                is_over.set()

    try:
        _run_in_threads(run, threads, is_over)
        if errors:
            raise errors[0]
    finally:
        # Its traceback leads to this frame: a cycle would keep alive what has been read.
        errors.clear()
    return cast("list[Result]", results)


def _run_in_threads(run: Callable[[], None], count: int, is_over: threading.Event) -> None:
    """`run` in `count` threads; they have ended, also when a signal comes: what they read is about to be closed.

    Not a pool: the queues and semaphores of one do not survive a signal in the middle of their own steps.
    """
    ended: list[None] = []

    def work() -> None:
        try:
            run()
        finally:
            ended.append(None)

    workers = [threading.Thread(target=work, name="flash-kv-load") for _ in range(count)]
    try:
        with SignalsHeld():
            for worker in workers:
                worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        with SignalsHeld():
            is_over.set()
            # Counted, not joined: a join that was interrupted takes its thread for one that has ended.
            while len(ended) < sum(worker.ident is not None for worker in workers):
                time.sleep(0.001)
        raise


def require_own(system: System, directory: Path, options: Options) -> None:
    """Raise unless `directory` holds a store, or may become one: before anything, a lock file even, is put into it."""
    try:
        names = system.list_directory(directory)
    except OSError as error:
        raise storage_error(error, path=directory, operation="list") from error
    if MANIFEST in names:
        return
    known = [parse(name) for name in names]
    if any(found is not None and found.kind in ("segment", "hint") for found in known):
        raise CorruptionError(
            directory / MANIFEST,
            0,
            "the manifest is missing but there are segments",
        )
    foreign = sorted(name for name, found in zip(names, known, strict=True) if found is None)
    if foreign:
        raise NotAStoreError(directory, f"it holds other files, such as {foreign[0]!r}")
    if options.read_only or not options.create:
        raise StoreNotFoundError(directory)


def find_or_create(system: System, directory: Path, options: Options, codecs: Codecs | None) -> Manifest:
    """The manifest of the store in `directory`; of a new, empty one if there is none and options allow.

    A new one names its codecs from its first manifest on, so no crash leaves a store without.
    """
    try:
        found = read_manifest(system, directory)
        naming.require(directory, found.codecs, codecs)
        return found
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(error, path=directory / MANIFEST, operation="read") from error
    require_own(system, directory, options)
    manifest = Manifest(
        store_id=system.random_bytes(16),
        hash_key=system.random_bytes(16),
        epoch=0,
        next_segment_id=1,
        codecs=codecs or RAW_CODECS,
        segments=(),
    )
    try:
        write_manifest(system, directory, manifest)
    except OSError as error:
        raise storage_error(error, path=directory, operation="create a store in") from error
    return manifest


@dataclass
class Recovered:
    """One segment as it was found."""

    segment: Segment
    run: HintRun | None
    """What is in it; None: nothing that the checkpoint of the index does not have."""
    end: int
    first_lsn: int = 0
    seen_lsn: int = 0
    torn_bytes: int = 0
    stated_lsn: int = 0
    """The highest LSN that a record of it states to have been durable."""
    has_voids: bool = False
    before: SegmentState | None = None
    """What the checkpoint of the index has of it; `run` and the LSNs but the first are those of what follows."""
    is_from_hint: bool = False


@dataclass
class Recovery:
    """What an open found."""

    base: Checkpoint | None = None
    """What the index on disk has; the runs say the rest."""
    index_fault: str | None = None
    sealed: list[Recovered] = field(default_factory=list)
    unsealed: list[Recovered] = field(default_factory=list)
    dropped: list[Recovered] = field(default_factory=list)
    torn_bytes: int = 0
    last_lsn: int = 0
    durable_lsn: int = 0
    """The highest LSN of what is sealed, and so durable."""

    @property
    def kept(self) -> list[Recovered]:
        return [*self.sealed, *self.unsealed]

    @property
    def can_wait(self) -> bool:
        """Whether the unsealed segments are like those that an open store has rotated: whole, with zeros behind.

        After a torn tail, or a record taken back, what follows would be taken for lost together with it.
        """
        return not self.torn_bytes and not any(one.has_voids for one in self.unsealed)

    @property
    def runs(self) -> list[HintRun]:
        return [one.run for one in self.kept if one.run is not None]

    def report(self, duration_s: float, entries: dict[int, SegmentEntry]) -> RecoveryReport:
        return RecoveryReport(
            was_clean=not self.unsealed and not self.dropped,
            segments_from_hints=sum(found.is_from_hint for found in self.kept),
            segments_scanned=sum(found.run is not None and not found.is_from_hint for found in self.kept),
            segments_from_index=sum(found.run is None for found in self.kept),
            records=sum(
                entries[found.segment.segment_id].records
                if found.run is None
                else found.run.value_records + found.run.tombstones + _records(found.before)
                for found in self.kept
            ),
            torn_tail_bytes=self.torn_bytes,
            duration_s=duration_s,
            index_fault=self.index_fault,
        )


def recover(segments: SegmentSet, base: Checkpoint | None = None) -> Recovery:
    """Open every segment of the manifest and read those that `base` does not know. Changes nothing on disk."""
    # First: what an older manifest says of the end of the log is not so any more.
    require_current_manifest(segments)
    options = segments.options
    entries = [segments.entries[segment_id] for segment_id in sorted(segments.entries)]
    for entry in entries:
        segments.open[entry.segment_id] = open_segment(
            segments.system,
            segments.directory,
            segment_id=entry.segment_id,
            epoch=entry.epoch,
            origin=entry.origin,
            store_id=segments.store_id,
            sealed_bytes=entry.sealed_bytes,
            is_writable=not options.read_only,
            io=options.io,
        )
    opened = list(segments.open.values())
    found = _read(segments, opened, base)
    if base is not None and (fault := misfit(segments, base, found)):
        found = _read(segments, opened, None)
        found.index_fault = fault
    return found


def _read(segments: SegmentSet, opened: list[Segment], base: Checkpoint | None) -> Recovery:
    """What is in the segments, but for what `base` knows."""
    options = segments.options
    found = Recovery(base=base)
    states = {} if base is None else {state.segment_id: state for state in base.segments}
    sealed = [segment for segment in opened if segment.sealed_bytes is not None]
    known = known_segments(segments, sealed, base)
    found.sealed = in_threads(
        lambda segment: _read_sealed(segments, segment),
        [segment for segment in sealed if segment.segment_id not in known],
        options,
    )
    found.sealed += [Recovered(known[number], None, known[number].readable_bytes) for number in known]
    unsealed = in_threads(
        lambda segment: _read_unsealed(segments, segment, states.get(segment.segment_id)),
        [segment for segment in opened if segment.sealed_bytes is None],
        options,
    )
    found.last_lsn = max([segments.last_lsn, *(one.seen_lsn for one in found.sealed)])
    found.durable_lsn = found.last_lsn
    keep_prefix(found, sorted(unsealed, key=lambda one: one.first_lsn))
    return found


def do_without_base(segments: SegmentSet, found: Recovery, fault: str) -> None:
    """The index file is of no use, for this reason: read all that it was to stand for."""
    found.base = None
    found.index_fault = fault
    unread = {one.segment.segment_id: one for one in found.kept if one.run is None or one.before}
    for read in in_threads(
        lambda segment: (
            _read_unsealed(segments, segment, None)
            if segment.sealed_bytes is None
            else _read_sealed(segments, segment)
        ),
        [one.segment for one in unread.values()],
        segments.options,
    ):
        one = unread[read.segment.segment_id]
        one.run, one.is_from_hint, one.before = read.run, read.is_from_hint, None
        found.last_lsn = max(found.last_lsn, read.seen_lsn)


def _read_sealed(segments: SegmentSet, segment: Segment) -> Recovered:
    run = load_run(segments, segment)
    is_from_hint = run is not None
    if run is None:
        scan = _scan(segments, segment, is_sealed=True)
        scan.require_sound(segment.path)
        run = out_of_memory(segments, build_hint(scan))
    return Recovered(segment, run, segment.readable_bytes, seen_lsn=run.seen_lsn, is_from_hint=is_from_hint)


def _scan(
    segments: SegmentSet, segment: Segment, *, is_sealed: bool, before: SegmentState | None = None
) -> SegmentScan:
    return scan_segment(
        segment.source(),
        segment.readable_bytes,
        start=SEGMENT_HEADER_SIZE if before is None else before.used,
        previous_lsn=0 if before is None else before.max_lsn,
        store_id=segments.store_id,
        segment_id=segment.segment_id,
        epoch=segment.epoch,
        is_sealed=is_sealed,
        is_ordered=segment.origin == "writer",
    )


def _read_unsealed(segments: SegmentSet, segment: Segment, state: SegmentState | None) -> Recovered:
    """Read it from where the index knew it to end, if that can be."""
    before = state
    if before is not None and (
        before.epoch != segment.epoch or not before.min_lsn or before.used > segment.readable_bytes
    ):
        before = None
    scan = _scan(segments, segment, is_sealed=False, before=before)
    scan.require_sound(segment.path)
    return Recovered(
        segment,
        out_of_memory(segments, build_hint(scan)),
        scan.end,
        before=before,
        first_lsn=scan.first_lsn if before is None else before.min_lsn,
        seen_lsn=scan.seen_lsn if before is None else max(before.max_lsn, scan.seen_lsn),
        torn_bytes=scan.torn_bytes,
        stated_lsn=scan.stated_lsn,
        has_voids=scan.voids > 0,
    )


def fill_index(segments: SegmentSet, index: Index, table: SegmentTable, runs: list[HintRun]) -> int:
    """Load the index from the runs of all segments; the number of keys."""
    try:
        return load_index(index, table, runs).keys
    except OSError as error:
        raise storage_error(error, path=os.path.join(segments.directory, INDEX), operation="write") from error
    except LoadError as error:
        path = segments.open[error.segment_id].path
        if error.errno:
            failure = OSError(error.errno, os.strerror(error.errno))
            raise storage_error(failure, path=path, operation="read") from error
        raise CorruptionError(path, error.offset, "a record is damaged") from error


def read_again(segments: SegmentSet, segment_id: int, offset: int, size: int) -> list[HintRun]:
    """What the segments of an open store hold now, but for the commit at `offset` of one of them."""
    runs = []
    for segment in segments.open.values():
        scan = scan_segment(
            segment.source(),
            segments.store._segment_counts(segment.segment_id)["used"],
            store_id=segments.store_id,
            segment_id=segment.segment_id,
            epoch=segment.epoch,
            is_sealed=True,
            is_ordered=segment.origin == "writer",
        )
        scan.require_sound(segment.path)
        if segment.segment_id == segment_id:
            scan.leave_out(offset, size)
        runs.append(build_hint(scan))
    return runs


def keep_prefix(found: Recovery, unsealed: list[Recovered]) -> None:
    """Sort the unsealed segments, in LSN order, into what is kept and what came after a loss."""
    is_cut = has_voids = False
    durable = max((one.stated_lsn for one in unsealed), default=0)
    for one in unsealed:
        found.torn_bytes += one.torn_bytes
        if one.first_lsn == 0:
            # Empty: a spare, or one whose every record is lost; then the next one shows the gap.
            found.dropped.append(one)
            continue
        has_voids = has_voids or one.has_voids
        # A withdrawn batch counts its LSNs but has no record that could show the first of them.
        has_gap = one.first_lsn != found.last_lsn + 1 and not (has_voids and one.first_lsn > found.last_lsn)
        if is_cut or has_gap:
            is_cut = True
            found.torn_bytes += one.end - SEGMENT_HEADER_SIZE
            found.dropped.append(one)
            continue
        found.unsealed.append(one)
        found.last_lsn = one.seen_lsn
        is_cut = one.torn_bytes > 0
    if durable > found.last_lsn:
        lost = next((one for one in unsealed if one.stated_lsn == durable), unsealed[0])
        raise CorruptionError(
            lost.segment.path,
            lost.end,
            f"records up to LSN {durable} were durable, but the log can be read up to {found.last_lsn} only",
        )


def leave(segments: SegmentSet, found: Recovery) -> None:
    """Read only: what is not kept is closed, and everything stays on disk as it is."""
    for one in found.dropped:
        segments.open.pop(one.segment.segment_id).close()


def settle(segments: SegmentSet, found: Recovery) -> None:
    """Bring the directory to what was found: cut torn tails, seal, list, then remove what nothing needs.

    What a kill leaves is whole as a rule. Then its sealing, which takes several syncs, is left to the background.
    """
    with segments.space_lock:
        if found.can_wait:
            _leave_unsealed(segments, found)
        else:
            _settle_unsealed(segments, found)
        remove_leftovers(segments)


def _leave_unsealed(segments: SegmentSet, found: Recovery) -> None:
    """Have the unsealed segments, empty ones too, stand as those do that are full and wait for their sealing."""
    for one in (*found.unsealed, *found.dropped):
        one.segment.allocated = one.end
        segments.unsealed[one.segment.segment_id] = one.segment


def _settle_unsealed(segments: SegmentSet, found: Recovery) -> None:
    for one in found.unsealed:
        try:
            one.segment.seal(one.end)
        except OSError as error:
            raise storage_error(error, path=one.segment.path, operation="seal") from error
        assert one.run is not None
        segments.entries[one.segment.segment_id] = _sealed_entry(one.segment, one.run, one.before)
        one.segment.release_descriptor()
        segments.hintless[one.segment.segment_id] = one.segment
    for one in found.dropped:
        del segments.entries[one.segment.segment_id]
    if found.unsealed or found.dropped:
        segments.last_lsn = max(segments.last_lsn, found.last_lsn)
        segments.write_manifest()
    for one in found.dropped:
        segments.open.pop(one.segment.segment_id)
        one.segment.close()
        segments.system.unlink(one.segment.path)
    # Last: on a full disk the manifest needs the space more.
    if found.unsealed:
        segments.reserve.keep()
    found.durable_lsn = found.last_lsn


def _records(state: SegmentState | None) -> int:
    return 0 if state is None else state.value_records + state.tombstones


def _sealed_entry(segment: Segment, run: HintRun, before: SegmentState | None) -> SegmentEntry:
    """What the manifest will say of a segment that is sealed now."""
    return SegmentEntry(
        segment_id=segment.segment_id,
        epoch=segment.epoch,
        origin=segment.origin,
        sealed_bytes=segment.sealed_bytes,
        min_lsn=run.min_lsn if before is None else before.min_lsn,
        max_lsn=run.max_lsn if before is None else max(before.max_lsn, run.max_lsn),
        records=run.value_records + run.tombstones + _records(before),
        tombstones=run.tombstones + (0 if before is None else before.tombstones),
    )
