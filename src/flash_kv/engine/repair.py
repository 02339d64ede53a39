"""Repair: everything sound of a damaged store, in a new one.

Of each key the record with the newest LSN counts, wherever it stands, and a tombstone counts as well. Damage
must not bring an older value back: where a hint file, or what is left of a damaged batch, shows that the
newest record of a key was in a damaged place, the key is left out and reported. Of a damaged batch the sound
records count where the hint file shows that it was committed; without one it may have been withdrawn after a
failed sync, and is left out as a whole.

An undamaged store that was not closed is read as an open reads it: what follows a torn tail was never
acknowledged as durable and is left out. Where records are lost that were durable, everything sound behind the
loss counts.

Invariants: the source is only read; the destination appears whole or not at all. Memory: a few hundred bytes
for each key.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from flash_kv.engine.content import locked_names
from flash_kv.engine.db import DB
from flash_kv.engine.inspection import Checked, check_hint, check_log_end, check_segment
from flash_kv.engine.layout import layout_of
from flash_kv.engine.reports import Damage, RepairReport
from flash_kv.engine.staging import Staging
from flash_kv.errors import CorruptionError, FlashKVError, StrPath, storage_error
from flash_kv.io.system import REAL, System
from flash_kv.log.manifest import Codecs
from flash_kv.log.records import KIND_EXTENDED, KIND_TOMBSTONE, Record, decode_attributes
from flash_kv.options import ALIGNMENTS, Options


class _Winner(NamedTuple):
    """The newest sound record of a key: a value, or with `value_size` -1 a tombstone."""

    lsn: int
    place: int
    """Which of the segments it is in."""
    value_offset: int
    value_size: int
    is_aligned: bool = False
    is_extended: bool = False


def repair(
    source: StrPath, dest: StrPath, *, codecs: tuple[str, str] | None = None, system: System = REAL
) -> RepairReport:
    """Copy all that is sound in the store at `source` to a new store at `dest`, which must not exist.

    `source` may lack its manifest, segments, or parts of them; it is not changed. `codecs`: the names of its codecs,
    as `DB.codecs` has them, for when the manifest that knows them is lost. The new store is durable
    before it appears. Raises StoreNotFoundError, LockedError while a writer has `source` open,
    FormatVersionError, StoreFullError, StorageError (EEXIST when `dest` exists); then there is no `dest`.
    """
    started = time.monotonic()
    directory = Path(os.fspath(source)).absolute()
    with (
        locked_names(system, directory) as names,
        Staging(system, dest, "repair", apart_from=directory) as staging,
    ):
        salvage = _Salvage(system, directory, codecs)
        try:
            salvage.read(names)
            lost_keys = salvage.leave_out_lost()
            keys = salvage.write(staging.path)
        except FlashKVError:
            raise
        except OSError as error:
            raise storage_error(error, path=staging.dest, operation="write the repaired store") from error
        finally:
            salvage.close()
        staging.publish()
    return RepairReport(
        source=directory,
        path=staging.dest,
        keys=keys,
        records_salvaged=salvage.records_salvaged,
        records_lost=salvage.records_lost,
        lost_keys=lost_keys,
        damages=tuple(salvage.damages),
        duration_s=time.monotonic() - started,
    )


class _Salvage:
    """What is sound, and what is known to be lost."""

    def __init__(self, system: System, directory: Path, codecs: Codecs | None) -> None:
        self._system = system
        self._codecs = codecs
        self._directory = directory
        self._segments: list[Checked] = []
        self._winners: dict[bytes, _Winner] = {}
        self._lost: dict[bytes, int] = {}
        self.damages: list[Damage] = []
        self.records_salvaged = 0
        self.records_lost = 0

    def close(self) -> None:
        for segment in self._segments:
            segment.close()

    # -- reading

    def read(self, names: list[str]) -> None:
        """Find the newest record of each key in all segments."""
        layout = layout_of(self._system, self._directory, names)
        self.damages += layout.damages
        if layout.manifest is not None:
            self._codecs = layout.manifest.codecs
        previous_lsn = 0 if layout.manifest is None else layout.manifest.last_lsn
        for identity in layout.segments:
            # An unlisted segment of the writer is there because the manifest is an older copy: nothing proves
            # a torn tail.
            is_salvage = layout.manifest is None or (not identity.is_listed and identity.origin == "writer")
            self._segments.append(
                check_segment(
                    self._system, self._directory, identity, previous_lsn=previous_lsn, is_salvage=is_salvage
                )
            )
        left_out = self._read_log_end(previous_lsn) if layout.manifest is not None else frozenset()
        for place, segment in enumerate(self._segments):
            self.damages += segment.damages
            if segment.identity.segment_id not in left_out:
                self._take(place, segment)

    def _read_log_end(self, last_lsn: int) -> frozenset[int]:
        """Decide what of the unsealed segments counts, and which do not count at all, as an open does.

        Where an open would refuse, or cannot even read them, all that is sound counts.
        """
        unsealed = [
            one for one in self._segments if one.identity.sealed_bytes is None and one.identity.is_listed
        ]
        for one in self._segments:
            if one.scan is not None and one.identity.sealed_bytes is not None:
                last_lsn = max(last_lsn, one.scan.seen_lsn)
        end = check_log_end(self._system, last_lsn, unsealed)
        if end.is_sound:
            return end.left_out
        self.damages += end.damages
        for segment in unsealed:
            if segment.scan is not None:
                segment.run_scan(is_salvage=True)
        return frozenset()

    def _take(self, place: int, segment: Checked) -> None:
        if segment.scan is not None:
            for record in segment.scan.records():
                self._salvage(place, record)
        if segment.damages:
            self._take_damaged(place, segment)

    def _salvage(self, place: int, record: Record) -> None:
        self.records_salvaged += 1
        size = -1 if record.kind == KIND_TOMBSTONE else record.value_size
        is_extended = record.kind == KIND_EXTENDED
        self._offer(
            record.key,
            _Winner(record.lsn, place, record.value_offset, size, record.is_aligned, is_extended),
        )

    def _offer(self, key: bytes, found: _Winner) -> None:
        before = self._winners.get(key)
        if before is None or before.lsn < found.lsn:
            self._winners[key] = found

    # -- what is damaged

    def _take_damaged(self, place: int, segment: Checked) -> None:
        """Of the damaged places of a segment: what is sound of the batches there, and what is known to be lost."""
        sound = set() if segment.scan is None else {one.offset for one in segment.scan.records()}
        orphans = self._committed_orphans(segment, sound)
        hint = check_hint(self._system, self._directory, segment)
        try:
            self.damages += hint.damages
            if hint.run is None:
                for record in orphans.values():
                    self._lose(record.key, record.kind, record.lsn)
                return
            # The hint knows no batch that was withdrawn, so what it knows was committed.
            for key, kind, lsn, offset, _ in hint.run.items():
                if offset in orphans:
                    self._salvage(place, orphans[offset])
                elif offset not in sound:
                    self._lose(key, kind, lsn)
        finally:
            hint.close()

    def _committed_orphans(self, segment: Checked, sound: set[int]) -> dict[int, Record]:
        """The sound records of damaged batches by their offsets; `sound` has those of all others.

        At the very end of an unsealed segment stands, maybe, a batch that was never committed: not those.
        """
        scan = segment.scan
        if scan is None or not scan.orphans:
            return {}
        return {
            record.offset: record
            for record in scan.records(orphans=True)
            if record.offset not in sound
            and (segment.identity.sealed_bytes is not None or record.offset < scan.end)
        }

    def _lose(self, key: bytes, kind: int, lsn: int) -> None:
        self.records_lost += 1
        if kind == KIND_TOMBSTONE:
            # It needs no bytes to be restored: that the key was deleted is all it says.
            self._offer(key, _Winner(lsn, -1, 0, -1))
        else:
            self._lost[key] = max(lsn, self._lost.get(key, 0))

    def leave_out_lost(self) -> tuple[bytes, ...]:
        """Take out the keys whose newest value is lost; which these are."""
        lost_keys = []
        for key, lsn in self._lost.items():
            winner = self._winners.get(key)
            if winner is None or winner.lsn < lsn:
                self._winners.pop(key, None)
                lost_keys.append(key)
        return tuple(sorted(lost_keys))

    # -- writing

    def write(self, path: Path) -> int:
        """Make the new store; the number of its keys."""
        # By place: the segments are read from front to back.
        values = sorted(
            (winner.place, winner.value_offset, winner.value_size, winner.is_extended, key)
            for key, winner in self._winners.items()
            if winner.value_size >= 0
        )
        # All of them, if one is: a store with values of both kinds was opened with two alignments.
        is_aligned = any(winner.is_aligned for winner in self._winners.values())
        options = Options(index="hash", compaction="off", align=ALIGNMENTS[-1] if is_aligned else 1)
        with DB(path, options, system=self._system, codecs=self._codecs) as db:
            for place, offset, size, is_extended, key in values:
                content = self._segments[place].content
                value = b"" if content is None else content.read(offset, size)
                if len(value) != size:
                    raise CorruptionError(
                        self._segments[place].path, offset, "a value could not be read again"
                    )
                if is_extended:
                    kept = decode_attributes(value)
                    expires_at = kept.expires_ms / 1000 if kept.expires_ms else None
                    db.put_record(key, value[kept.size :], expires_at=expires_at, meta=kept.meta)
                else:
                    db.put(key, value)
            return len(db)
