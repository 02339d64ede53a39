"""The reports of an embedded store, built again from JSON. Fields of a later version are left out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from flash_kv.engine.reports import (
    BackupReport,
    CompactionProgress,
    CompactionReport,
    Damage,
    RecoveryReport,
    SegmentStats,
    Stats,
    VerifyReport,
)

T = TypeVar("T")


def _built(kind: type[T], found: dict[str, Any], **changed: Any) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in found.items() if name in known} | changed
    if "path" in values:
        values["path"] = Path(values["path"])
    return kind(**values)


def stats(found: dict[str, Any]) -> Stats:
    """What /v1/stats says of the store."""
    last = found.get("last_compaction")
    return _built(
        Stats,
        found,
        codecs=tuple(found.get("codecs", ())),
        last_compaction=None if last is None else compaction(last),
        recovery=_built(RecoveryReport, found["recovery"]),
        segment_stats=tuple(_built(SegmentStats, one) for one in found.get("segment_stats", ())),
    )


def compaction(found: dict[str, Any]) -> CompactionReport:
    """What a compaction did, or would do."""
    return _built(CompactionReport, found)


def progress(found: dict[str, Any]) -> CompactionProgress:
    """How far a compaction is."""
    counts = {field.name: int(found.get(field.name) or 0) for field in fields(CompactionProgress)}
    return CompactionProgress(**counts)


def verification(found: dict[str, Any]) -> VerifyReport:
    """What a verification found."""
    return _built(VerifyReport, found, damages=tuple(_built(Damage, one) for one in found.get("damages", ())))


def backup(found: dict[str, Any]) -> BackupReport:
    """A finished backup."""
    return _built(BackupReport, found)
