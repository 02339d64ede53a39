"""The only place that makes and parses the names of a store's files (docs/format.md).

    0000000001.seg       segment 1
    0000000001.hint      its hint file
    MANIFEST             which segments are live
    LOCK                 held by the writer
    INDEX                pages of the index on disk, and its last checkpoints
    RESERVE              space kept back for deletes and compaction on a full disk
    tmp-<one of these>   not finished yet; a leftover is deleted at the next open

Invariant: `parse(name)` accepts exactly the names made here; any other file is none of ours and is
never touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from flash_kv.io.lockfile import LOCK_NAME

MANIFEST = "MANIFEST"
LOCK = LOCK_NAME
RESERVE = "RESERVE"
INDEX = "INDEX"
TEMPORARY_PREFIX = "tmp-"
SEGMENT_SUFFIX = ".seg"

# An index entry has 28 bits for the segment; 0 means "none".
SEGMENT_ID_MAX = 2**28 - 1

FileKind = Literal["segment", "hint", "manifest", "lock", "reserve", "index", "temporary"]

_FIXED: dict[str, FileKind] = {MANIFEST: "manifest", LOCK: "lock", RESERVE: "reserve", INDEX: "index"}
_SUFFIXES: dict[str, FileKind] = {"seg": "segment", "hint": "hint"}
_NUMBERED = re.compile(r"([0-9]{10})\.(seg|hint)")


@dataclass(frozen=True, slots=True)
class FileName:
    """What a name says; `segment_id` for segments, hint files and temporaries of either."""

    kind: FileKind
    segment_id: int | None = None


def segment_name(segment_id: int) -> str:
    return f"{_checked(segment_id):010d}.seg"


def hint_name(segment_id: int) -> str:
    return f"{_checked(segment_id):010d}.hint"


def temporary_name(name: str) -> str:
    """The name under which the file `name` is written until it is whole."""
    if _parse_finished(name) is None:
        raise ValueError(f"{name!r} is no name of a finished file")
    return TEMPORARY_PREFIX + name


def parse(name: str) -> FileName | None:
    """What `name` says, or None when it is no name of ours."""
    if not name.startswith(TEMPORARY_PREFIX):
        return _parse_finished(name)
    target = _parse_finished(name.removeprefix(TEMPORARY_PREFIX))
    return None if target is None else FileName("temporary", target.segment_id)


def _parse_finished(name: str) -> FileName | None:
    if name in _FIXED:
        return FileName(_FIXED[name])
    match = _NUMBERED.fullmatch(name)
    if match is None or not 1 <= int(match[1]) <= SEGMENT_ID_MAX:
        return None
    return FileName(_SUFFIXES[match[2]], int(match[1]))


def _checked(segment_id: int) -> int:
    if not 1 <= segment_id <= SEGMENT_ID_MAX:
        raise ValueError(f"segment id {segment_id} is not in 1..{SEGMENT_ID_MAX}")
    return segment_id
