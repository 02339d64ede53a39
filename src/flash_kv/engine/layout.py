"""Which segments a store should have: what its manifest says, else what its files say of themselves.

A segment's records verify only with the store id, the segment's id and its epoch. Without a manifest these
come from the segment's own header, else from its hint file; a segment whose header is lost and that has no
hint gets the epoch, among those its neighbours allow, with which its records verify.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flash_kv.engine.content import Content, read_content, refused
from flash_kv.engine.inspection import Identity
from flash_kv.engine.reports import Damage
from flash_kv.errors import CorruptionError, FormatVersionError
from flash_kv.io.system import System
from flash_kv.log.hints_cy import HintError, HintRun, load_hint
from flash_kv.log.manifest import FORMAT_VERSION, Manifest, Origin, read_manifest
from flash_kv.log.names import MANIFEST, hint_name, parse, segment_name
from flash_kv.log.records import (
    ORIGIN_WRITER,
    SEGMENT_HEADER_SIZE,
    SegmentHeaderError,
    SegmentInfo,
    check_segment_header,
)
from flash_kv.log.scan_cy import scan_segment

# Of a hint file's header (docs/format.md): store id, segment id, epoch, sealed bytes. `load_hint` checks what
# they lead to.
_HINT_CLAIMS = struct.Struct("<16x16sQQQ")
_STORE_ID = slice(16, 32)

EPOCHS_TRIED_MAX = 64


@dataclass
class Layout:
    """The segments there should be, oldest id first."""

    manifest: Manifest | None
    segments: list[Identity] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    """Of the manifest, and of files that cannot be placed."""


def layout_of(system: System, directory: Path, names: list[str]) -> Layout:
    """What `directory`, which holds `names`, should hold. FormatVersionError: segments of another version."""
    manifest, damage = manifest_of(system, directory)
    if manifest is None:
        layout = _Guess(system, directory, names).layout()
        layout.damages[:0] = [damage] if damage is not None else []
        return layout
    layout = Layout(manifest)
    for entry in sorted(manifest.segments, key=lambda entry: entry.segment_id):
        layout.segments.append(
            Identity(entry.segment_id, manifest.store_id, entry.epoch, entry.origin, entry.sealed_bytes)
        )
    _add_unlisted(system, directory, names, manifest, layout)
    return layout


def manifest_of(system: System, directory: Path) -> tuple[Manifest | None, Damage | None]:
    """The manifest, or what is wrong with it."""
    path = directory / MANIFEST
    try:
        return read_manifest(system, directory), None
    except FileNotFoundError:
        return None, Damage(path=path, offset=0, size=0, reason="the manifest is missing")
    except CorruptionError as error:
        return None, Damage(path=path, offset=error.offset, size=0, reason=error.reason)
    except FormatVersionError as error:
        # Its version stands before its checksum, so this may be damage; the segments' headers know.
        reason = f"format version {error.found}, this version reads {error.supported}"
        return None, Damage(path=path, offset=0, size=0, reason=reason)
    except OSError as error:
        return None, refused(error, path)


def _segment_ids(names: list[str], kind: str = "segment") -> list[int]:
    parsed = [parse(name) for name in names]
    return sorted(one.segment_id for one in parsed if one is not None and one.kind == kind and one.segment_id)


def _add_unlisted(
    system: System, directory: Path, names: list[str], manifest: Manifest, layout: Layout
) -> None:
    """Segment files younger than the manifest: an unfinished compaction's, or the manifest is an older copy.

    Older ones that are not listed were compacted away: their records must not come back.
    """
    for segment_id in _segment_ids(names):
        if segment_id < manifest.next_segment_id:
            continue
        path = directory / segment_name(segment_id)
        head = _head(system, path, layout.damages)
        try:
            info = check_segment_header(head, store_id=manifest.store_id, segment_id=segment_id)
        except SegmentHeaderError as error:
            if any(head):
                reason = f"the manifest does not list this file, and it is no segment of this store: {error.reason}"
                layout.damages.append(Damage(path=path, offset=0, size=0, reason=reason))
            continue
        origin: Origin = "writer" if info.origin == ORIGIN_WRITER else "compaction"
        layout.segments.append(Identity(segment_id, info.store_id, info.epoch, origin, None, is_listed=False))
        if origin == "writer" and any(head[SEGMENT_HEADER_SIZE:]):
            reason = "a segment with records is missing from the manifest, which must be an older copy"
            layout.damages.append(Damage(path=path, offset=0, size=0, reason=reason))


def _head(system: System, path: Path, damages: list[Damage]) -> bytes:
    """The header and the first bytes behind it; empty when they cannot be read."""
    size = SEGMENT_HEADER_SIZE + 8
    try:
        return read_content(system, path, limit=size, is_mapped=False).read(0, size)
    except FileNotFoundError:
        return b""
    except OSError as error:
        damages.append(refused(error, path))
        return b""


class _Guess:
    """A layout without a manifest."""

    def __init__(self, system: System, directory: Path, names: list[str]) -> None:
        self._system = system
        self._directory = directory
        self._infos: dict[int, SegmentInfo] = {}
        self._reasons: dict[int, str] = {}
        self._damages: list[Damage] = []
        for segment_id in _segment_ids(names):
            self._read_header(segment_id)
        self._hints = {
            segment_id: run
            for segment_id in _segment_ids(names, "hint")
            if (run := hint_alone(system, directory / hint_name(segment_id))) is not None
            and run[1].segment_id == segment_id
        }

    def _read_header(self, segment_id: int) -> None:
        path = self._directory / segment_name(segment_id)
        head = _head(self._system, path, self._damages)
        try:
            # Any store's: which one it is is decided when all headers are read.
            info = check_segment_header(head, store_id=head[_STORE_ID], segment_id=segment_id)
        except SegmentHeaderError as error:
            if error.version is not None:
                raise FormatVersionError(path, error.version, FORMAT_VERSION) from error
            self._reasons[segment_id] = error.reason
        else:
            self._infos[segment_id] = info

    def layout(self) -> Layout:
        """What most of the files agree on."""
        claims = [info.store_id for info in self._infos.values()] + [
            store for store, _ in self._hints.values()
        ]
        layout = Layout(None, damages=self._damages)
        store_id = Counter(claims).most_common(1)[0][0] if claims else None
        for segment_id in sorted({*self._infos, *self._reasons, *self._hints}):
            identity = None if store_id is None else self._identify(segment_id, store_id)
            if identity is not None:
                layout.segments.append(identity)
                continue
            path = self._directory / segment_name(segment_id)
            reason = self._reasons.get(segment_id, "it belongs to another store")
            layout.damages.append(
                Damage(
                    path=path, offset=0, size=0, reason=f"it cannot be told which segment this is: {reason}"
                )
            )
        return layout

    def _identify(self, segment_id: int, store_id: bytes) -> Identity | None:
        info = self._infos.get(segment_id)
        hint_store, run = self._hints.get(segment_id, (b"", None))
        if hint_store != store_id:
            run = None
        if info is not None and info.store_id == store_id:
            origin: Origin = "writer" if info.origin == ORIGIN_WRITER else "compaction"
            is_of_it = run is not None and run.epoch == info.epoch
            sealed_bytes = run.sealed_bytes if run is not None and is_of_it else None
            return Identity(segment_id, store_id, info.epoch, origin, sealed_bytes)
        if info is not None:
            return None
        # Of "compaction" no order of LSNs is asked.
        if run is not None:
            return Identity(segment_id, store_id, run.epoch, "compaction", run.sealed_bytes)
        epoch = self._find_epoch(segment_id, store_id)
        return None if epoch is None else Identity(segment_id, store_id, epoch, "compaction", None)

    def _find_epoch(self, segment_id: int, store_id: bytes) -> int | None:
        """The epoch with which its records verify. Epochs never fall from one segment to the next."""
        known = {one: info.epoch for one, info in self._infos.items() if info.store_id == store_id}
        known |= {one: run.epoch for one, (store, run) in self._hints.items() if store == store_id}
        older = [epoch for one, epoch in known.items() if one < segment_id]
        newer = [epoch for one, epoch in known.items() if one > segment_id]
        low = max(older, default=0)
        high = min(newer, default=low + EPOCHS_TRIED_MAX)
        # Away from the nearest neighbour: as a rule the epoch is the same or the next.
        tried = range(low, high + 1) if older else range(high, low - 1, -1)
        path = self._directory / segment_name(segment_id)
        try:
            content = read_content(self._system, path)
        except OSError as error:
            refused(error, path)
            return None
        try:
            for epoch in tried[:EPOCHS_TRIED_MAX]:
                if _has_records(content, store_id, segment_id, epoch):
                    return epoch
            return None
        finally:
            content.close()


def _has_records(content: Content, store_id: bytes, segment_id: int, epoch: int) -> bool:
    scan = scan_segment(
        content.source, content.size, store_id=store_id, segment_id=segment_id, epoch=epoch, is_sealed=True
    )
    return bool(scan.record_count)


def hint_alone(system: System, path: Path) -> tuple[bytes, HintRun] | None:
    """A hint file that is sound by its own word, and the store it belongs to; None for any other file."""
    try:
        content = read_content(system, path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            refused(error, path)
        return None
    head = content.read(0, _HINT_CLAIMS.size)
    if content.damages or len(head) < _HINT_CLAIMS.size:
        return None
    store_id, segment_id, epoch, sealed_bytes = _HINT_CLAIMS.unpack(head)
    try:
        run = load_hint(
            content.source, store_id=store_id, segment_id=segment_id, epoch=epoch, sealed_bytes=sealed_bytes
        )
    except HintError:
        return None
    return store_id, run
