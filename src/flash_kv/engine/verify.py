"""Verify: every byte of a store read and checked, all damage in one report, nothing changed.

On an open store the log is checked as of one moment, while reads, writes and compaction go on: what a file
holds below its end at that moment never changes, and segments that compaction removes meanwhile are read
through their mapping, which a snapshot keeps. The index is checked against the log by building another one
from the log: both must have as many keys, and as many bytes live.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flash_kv.engine.content import Content, locked_names
from flash_kv.engine.inspection import (
    Checked,
    CheckedHint,
    Identity,
    check_hint,
    check_log_end,
    check_segment,
)
from flash_kv.engine.layout import layout_of, manifest_of
from flash_kv.engine.moment import Moment, Part, moment_of
from flash_kv.engine.reports import Damage, VerifyReport
from flash_kv.engine.store_cy import POISONED, READ_ONLY, Store
from flash_kv.errors import ClosedError, StrPath
from flash_kv.index.hash_cy import HashIndex
from flash_kv.index.load_cy import LoadError, load_index
from flash_kv.io.mapping_cy import Mapping
from flash_kv.io.system import REAL, System
from flash_kv.log.hints_cy import HintRun, build_hint
from flash_kv.log.names import MANIFEST
from flash_kv.log.segment import Segment
from flash_kv.log.table_cy import SegmentTable

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class _Tally:
    """What a report adds up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._segments = 0
        self._records = 0
        self._bytes_checked = 0
        self.torn_tail_bytes = 0
        self.damages: list[Damage] = []

    def add_manifest(self, system: System) -> None:
        try:
            self._bytes_checked += system.file_size(self._path / MANIFEST)
        except OSError:
            # What cannot be read was not checked; that it cannot is a damage already.
            return

    def add(self, segment: Checked, hint: CheckedHint) -> None:
        self._segments += 1
        self._bytes_checked += segment.size + hint.size
        self.damages += [*segment.damages, *hint.damages]
        if segment.scan is not None:
            self._records += segment.scan.record_count

    def report(self) -> VerifyReport:
        return VerifyReport(
            path=self._path,
            segments=self._segments,
            records=self._records,
            bytes_checked=self._bytes_checked,
            torn_tail_bytes=self.torn_tail_bytes,
            damages=tuple(self.damages),
            duration_s=time.monotonic() - self._started,
        )


# -- a store that nobody has open


def verify(path: StrPath, *, system: System = REAL) -> VerifyReport:
    """Read and check every segment, hint file and the manifest of the store in `path`; changes nothing.

    Damage is in the report and never raised. Raises StoreNotFoundError, LockedError while a writer has the
    store open (use `DB.verify` there), FormatVersionError, and StorageError when the system refuses to open a
    file that is not damaged.
    """
    directory = Path(os.fspath(path)).absolute()
    with locked_names(system, directory) as names:
        tally = _Tally(directory)
        layout = layout_of(system, directory, names)
        tally.damages += layout.damages
        tally.add_manifest(system)
        previous_lsn = last_lsn = 0 if layout.manifest is None else layout.manifest.last_lsn
        unsealed = []
        for identity in layout.segments:
            if not identity.is_listed:
                continue
            segment = check_segment(
                system, directory, identity, previous_lsn=previous_lsn, is_salvage=layout.manifest is None
            )
            hint = check_hint(system, directory, segment)
            tally.add(segment, hint)
            hint.close()
            if identity.sealed_bytes is None and layout.manifest is not None:
                unsealed.append(segment)
                continue
            if segment.scan is not None:
                last_lsn = max(last_lsn, segment.scan.seen_lsn)
            segment.close()
        end = check_log_end(system, last_lsn, unsealed)
        tally.torn_tail_bytes = end.torn_bytes
        tally.damages += end.damages
        for segment in unsealed:
            segment.close()
        return tally.report()


# -- an open store


def verify_open(db: DB, progress: Callable[[int, int], object] | None = None) -> VerifyReport:
    """Check an open store as `verify` does, and its index against its log; `progress` as for `DB.verify`.

    For the index it needs, while it runs, about as much memory again as the index has. ClosedError when the
    store is closed meanwhile.
    """
    tally = _Tally(db.path)
    checks: list[_PartCheck] = []
    try:
        with db.snapshot():
            moment, live_bytes, tally.damages = _take_moment(db)
            tally.add_manifest(db._system)
            bytes_done, bytes_total = 0, sum(part.end for part in moment.parts)
            for part in moment.parts:
                if progress is not None:
                    progress(bytes_done, bytes_total)
                bytes_done += part.end
                one = _PartCheck(db, part)
                checks.append(one)
                tally.add(one.segment, one.hint)
                one.keep_run()
            if not tally.damages:
                tally.damages = _compare_index(db, moment, checks, live_bytes)
    except (OSError, ValueError):
        # What a mapping and a descriptor say once another thread has closed them.
        db.check_open()
        raise
    finally:
        for one in checks:
            one.close()
    db.check_open()
    if db._state() & READ_ONLY:
        # A writer has cut them when it opened the store.
        tally.torn_tail_bytes = db._recovery.torn_tail_bytes
    return tally.report()


def _take_moment(db: DB) -> tuple[Moment, int | None, list[Damage]]:
    """The log as of now, the bytes live in it unless they are changing, what is wrong with the manifest."""
    segments = db._segments
    # A compaction moves live bytes from one segment to the next; they add up only while there is none.
    is_still = not db._compactor.is_mine and db._compactor.lock.acquire(blocking=False)
    try:
        with segments.space_lock:
            db.check_open()
            manifest, damage = manifest_of(db._system, db.path)
            moment = moment_of(db)
            ids = [part.segment.segment_id for part in moment.parts]
            live_bytes = sum(db._segment_counts(segment_id)["live_bytes"] for segment_id in ids)
            # What a compaction that was interrupted has moved is live where no manifest lists it: until the next one
            # installs it, the moment has it in the inputs.
            is_known = is_still and not segments.unlisted and db._log_end()[4] == moment.last_lsn
    finally:
        if is_still:
            db._compactor.lock.release()
    damages = [] if damage is None else [damage]
    if manifest is not None and manifest.store_id != segments.store_id:
        damages.append(Damage(path=db.path / MANIFEST, offset=0, size=0, reason="it is another store's"))
    return moment, live_bytes if is_known else None, damages


class _PartCheck:
    """One segment of an open store: checked, and then held for the check of the index."""

    def __init__(self, db: DB, part: Part) -> None:
        self._db = db
        self._is_mapped = db.options.io == "mmap"
        self.part = part
        self.run: HintRun | None = None
        self.fd = -1
        one = part.segment
        identity = Identity(one.segment_id, db._segments.store_id, one.epoch, one.origin, part.end)
        self.segment = check_segment(db._system, db.path, identity, is_mapped=self._is_mapped)
        if self.segment.content is None and self._is_retired():
            if part.is_empty:
                # Closed and removed without ever having been used.
                self.segment = Checked(identity, Path(one.path))
                self.hint = CheckedHint()
                return
            self.segment = Checked(identity, Path(one.path), _content_of(db, one))
            self.segment.run_scan(is_salvage=False)
        self.hint = CheckedHint()
        if part.is_sealed:
            self.hint = check_hint(db._system, db.path, self.segment, is_mapped=self._is_mapped)

    def _is_retired(self) -> bool:
        with self._db._segments.space_lock:
            return self.part.segment.segment_id not in self._db._segments.entries

    @property
    def mapping(self) -> Mapping | None:
        """What the index finds this segment's records in; with io="file" it is `fd`."""
        source = None if self.segment.content is None else self.segment.content.source
        return source if isinstance(source, Mapping) else None

    def keep_run(self) -> None:
        """Keep the newest record of each key, let go of the rest."""
        scan, self.segment.scan = self.segment.scan, None
        if scan is None or self.segment.damages:
            return
        self.run = self.hint.run or build_hint(scan)
        if not self._is_mapped:
            self.segment.content = None
            try:
                self.fd = self._db._system.open(self.segment.path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                # Compacted away since.
                self.run = None

    def close(self) -> None:
        self.run = None
        self.segment.close()
        self.hint.close()
        if self.fd >= 0:
            self._db._system.close(self.fd)


def _content_of(db: DB, segment: Segment) -> Content:
    """The content of a segment whose file compaction has removed; the open snapshot keeps it readable."""
    fd = segment.fd
    source = segment.source()
    if not isinstance(source, Mapping) and segment.fd != fd:
        # Closed between: the number may have been another file's.
        raise ClosedError(db.path)
    return Content(source, [], is_borrowed=True)


def _compare_index(db: DB, moment: Moment, checks: list[_PartCheck], live_bytes: int | None) -> list[Damage]:
    """Build an index from the log and compare how much it finds with how much the store's own has."""
    is_mapped = db.options.io == "mmap"
    segments = db._segments
    table = SegmentTable(is_mapped)
    scratch = Store()
    scratch._set_up(table, is_mapped, None)
    runs = []
    for one in checks:
        segment, end = one.part.segment, one.part.end
        if one.part.is_empty:
            continue
        if one.run is None:
            return []
        runs.append(one.run)
        scratch._register(segment.segment_id, segment.epoch, segments.store_id, one.mapping, one.fd, end, end)
    try:
        loaded = load_index(HashIndex(table, segments.hash_key), table, runs)
    except LoadError as error:
        path = db._segment_path(error.segment_id)
        return [Damage(path=path, offset=error.offset, size=0, reason="a record could not be read again")]
    found = sum(scratch._segment_counts(run.segment_id)["live_bytes"] for run in runs)
    if db._state() & POISONED:
        # What was withdrawn from the log on the way there is no moment for.
        return []
    if loaded.has_unlike_copies:
        # Of a job that was cancelled, which of them the index has is a matter of chance.
        live_bytes = None
    if loaded.keys == moment.keys and live_bytes in (None, found):
        return []
    reason = f"the index has {moment.keys} keys, the log {loaded.keys}"
    if loaded.keys == moment.keys:
        reason = f"the index has {live_bytes} live bytes, the log {found}"
    reason += "; close the store and open it again, which builds the index from the log"
    return [Damage(path=db.path, offset=0, size=0, reason=reason)]
