"""The parts of a store that may be damaged, checked one by one: segments, hint files, the end of the log.

For verify and repair. Damage is reported and never raised; nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flash_kv.engine import recovery
from flash_kv.engine.content import Content, read_content, refused
from flash_kv.engine.reports import Damage
from flash_kv.errors import CorruptionError, FormatVersionError
from flash_kv.io.system import System
from flash_kv.log.hints_cy import HintError, HintRun, build_hint, load_hint
from flash_kv.log.manifest import FORMAT_VERSION, Origin
from flash_kv.log.names import hint_name, segment_name
from flash_kv.log.records import SEGMENT_HEADER_SIZE, SegmentHeaderError, check_segment_header
from flash_kv.log.scan_cy import SEGMENT_SIZE_MAX, SegmentScan, scan_segment
from flash_kv.log.segment import Segment


@dataclass(frozen=True)
class Identity:
    """What a segment should be: by the manifest, or without one by its own header or hint file."""

    segment_id: int
    store_id: bytes
    epoch: int
    origin: Origin
    sealed_bytes: int | None
    """None while it is written to, or when that is not known."""
    is_listed: bool = True


@dataclass
class Checked:
    """One segment, read and scanned as far as there is anything to read."""

    identity: Identity
    path: Path
    content: Content | None = None
    scan: SegmentScan | None = None
    file_damages: list[Damage] = field(default_factory=list)
    """Of the file as a whole and of its header."""
    scan_damages: list[Damage] = field(default_factory=list)

    @property
    def damages(self) -> list[Damage]:
        """Everything that is wrong with it, in file order."""
        unreadable = [] if self.content is None else self.content.damages
        return [*self.file_damages, *unreadable, *self.scan_damages]

    @property
    def size(self) -> int:
        """Bytes that were looked at."""
        return 0 if self.content is None else self.content.size

    def run_scan(self, *, is_salvage: bool, previous_lsn: int = 0) -> None:
        """Scan the content. With `is_salvage` no torn tail ends it: all that is sound counts."""
        if self.content is None:
            return
        identity = self.identity
        is_sealed = is_salvage or identity.sealed_bytes is not None
        size = self.size if identity.sealed_bytes is None else min(identity.sealed_bytes, SEGMENT_SIZE_MAX)
        self.scan = scan_segment(
            self.content.source,
            size,
            store_id=identity.store_id,
            segment_id=identity.segment_id,
            epoch=identity.epoch,
            is_sealed=is_sealed,
            is_ordered=identity.origin == "writer",
            previous_lsn=0 if is_sealed else previous_lsn,
        )
        self.scan_damages = []
        for offset, count, reason in self.scan.damage:
            is_at_end = identity.sealed_bytes is None and offset + count >= size
            # What was allocated and not used yet is no damage.
            if not is_at_end or not self.content.is_blank(offset):
                self.scan_damages.append(Damage(path=self.path, offset=offset, size=count, reason=reason))

    def close(self) -> None:
        self.scan = None
        if self.content is not None:
            self.content.close()


def check_segment(
    system: System,
    directory: Path,
    identity: Identity,
    *,
    previous_lsn: int = 0,
    is_salvage: bool = False,
    is_mapped: bool = True,
) -> Checked:
    """Read and scan one segment; `previous_lsn` as for `scan_segment`, `is_salvage` as for
    `Checked.run_scan`.

    FormatVersionError when another version of FlashKV wrote it, StorageError when it may not be opened.
    """
    path = directory / segment_name(identity.segment_id)
    checked = Checked(identity, path)
    limit = (
        SEGMENT_SIZE_MAX if identity.sealed_bytes is None else min(identity.sealed_bytes, SEGMENT_SIZE_MAX)
    )
    try:
        checked.content = read_content(system, path, limit=limit, is_mapped=is_mapped)
    except FileNotFoundError:
        size = identity.sealed_bytes or 0
        checked.file_damages.append(Damage(path=path, offset=0, size=size, reason="the segment is missing"))
    except OSError as error:
        checked.file_damages.append(refused(error, path))
    if checked.content is not None and _check_header(checked, checked.content):
        checked.run_scan(is_salvage=is_salvage, previous_lsn=previous_lsn)
    return checked


def _check_header(checked: Checked, content: Content) -> bool:
    """Whether there can be records of this segment in the file: not when it is, soundly, another one."""
    identity = checked.identity
    try:
        check_segment_header(
            content.read(0, SEGMENT_HEADER_SIZE),
            store_id=identity.store_id,
            segment_id=identity.segment_id,
            epoch=identity.epoch,
        )
    except SegmentHeaderError as error:
        if error.version is not None:
            raise FormatVersionError(checked.path, error.version, FORMAT_VERSION) from error
        is_other = error.problem in ("store", "segment", "epoch")
        size = content.size if is_other else min(content.size, SEGMENT_HEADER_SIZE)
        checked.file_damages.append(Damage(path=checked.path, offset=0, size=size, reason=error.reason))
        return not is_other
    return True


@dataclass
class CheckedHint:
    """The hint file of one segment; a missing one is no damage."""

    damages: list[Damage] = field(default_factory=list)
    content: Content | None = None
    run: HintRun | None = None

    @property
    def size(self) -> int:
        """Bytes that were looked at."""
        return 0 if self.content is None else self.content.size

    def close(self) -> None:
        self.run = None
        if self.content is not None:
            self.content.close()


def check_hint(system: System, directory: Path, segment: Checked, *, is_mapped: bool = True) -> CheckedHint:
    """Check the hint file of a sealed segment by itself and, if the segment is sound, against that."""
    hint = CheckedHint()
    identity = segment.identity
    path = directory / hint_name(identity.segment_id)
    if identity.sealed_bytes is None:
        # Written when the segment is sealed, before the manifest says so: whatever there is, the next open
        # replaces it.
        return hint
    try:
        hint.content = read_content(system, path, is_mapped=is_mapped)
    except FileNotFoundError:
        return hint
    except OSError as error:
        hint.damages.append(refused(error, path))
        return hint
    hint.damages += hint.content.damages
    reason = None if hint.damages else _load(hint, hint.content, segment)
    if reason is not None:
        hint.damages.append(Damage(path=path, offset=0, size=hint.size, reason=reason))
    return hint


def _load(hint: CheckedHint, content: Content, segment: Checked) -> str | None:
    """Load the run; what is wrong with it."""
    identity = segment.identity
    try:
        hint.run = load_hint(
            content.source,
            store_id=identity.store_id,
            segment_id=identity.segment_id,
            epoch=identity.epoch,
            sealed_bytes=identity.sealed_bytes or 0,
        )
    except HintError as error:
        return error.reason
    if segment.scan is None or segment.damages:
        return None
    offset = 0
    for chunk in build_hint(segment.scan).chunks():
        if content.read(offset, len(chunk)) != chunk:
            hint.run = None
            return "it does not say what its segment says"
        offset += len(chunk)
    return None


class LogEnd(NamedTuple):
    """What the unsealed segments amount to, as an open sees them."""

    torn_bytes: int
    left_out: frozenset[int] = frozenset()
    """Segments written after what a torn tail lost."""
    damages: tuple[Damage, ...] = ()
    """Records that were durable are lost."""
    is_sound: bool = True
    """False when an open refuses, for these damages or for those of the segments themselves."""


def check_log_end(system: System, last_lsn: int, unsealed: list[Checked]) -> LogEnd:
    """Apply the rules of an open to the unsealed segments; `last_lsn`: of all that is sealed."""
    torn_bytes = sum(one.scan.torn_bytes for one in unsealed if one.scan is not None)
    found = recovery.Recovery(last_lsn=last_lsn)
    recovered = []
    for one in unsealed:
        if one.scan is None or one.damages:
            return LogEnd(torn_bytes, is_sound=False)
        recovered.append(
            recovery.Recovered(
                _segment_of(system, one),
                build_hint(one.scan),
                one.scan.end,
                first_lsn=one.scan.first_lsn,
                seen_lsn=one.scan.seen_lsn,
                torn_bytes=one.scan.torn_bytes,
                stated_lsn=one.scan.stated_lsn,
                has_voids=one.scan.voids > 0,
            )
        )
    try:
        recovery.keep_prefix(found, sorted(recovered, key=lambda one: one.first_lsn))
    except CorruptionError as error:
        damage = Damage(path=Path(error.path), offset=error.offset, size=0, reason=error.reason)
        return LogEnd(torn_bytes, damages=(damage,), is_sound=False)
    return LogEnd(found.torn_bytes, frozenset(one.segment.segment_id for one in found.dropped))


def _segment_of(system: System, one: Checked) -> Segment:
    """The segment that recovery knows, without anything open."""
    identity = one.identity
    return Segment(
        system=system,
        directory=str(one.path.parent),
        segment_id=identity.segment_id,
        epoch=identity.epoch,
        origin=identity.origin,
        fd=-1,
        mapping=None,
        capacity=one.size,
        allocated=one.size,
    )
