"""Every option of `flash_kv.open`: meaning, unit, default, cost, and what a crash makes of it.

`Options` is checked as a whole when it is made: OptionsError lists all faults, not the first. Nothing here
reads the disk; no option is stored in a directory, so every open may choose anew.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from flash_kv.errors import OptionsError

IndexKind = Literal["hash", "btree", "skiplist", "bptree"]
IoKind = Literal["mmap", "file"]
CompactionMode = Literal["auto", "off"]
DurabilitySpec = (
    Literal["process", "always"] | tuple[Literal["interval"], float] | tuple[Literal["bytes"], int]
)

KIB = 1024
MIB = 1024**2
SEGMENT_BYTES_MIN = 64 * KIB
SEGMENT_BYTES_MAX = 4 * 1024**3
SEGMENT_BYTES_MULTIPLE = 4096
ALIGNMENTS = (1, 8, 16, 32, 64)
LOAD_THREADS_MAX = 256
INDEX_CACHE_BYTES_MIN = 64 * KIB
INDEX_CHECKPOINT_BYTES_MIN = 4 * KIB
INDEX_CACHE_BYTES_MAX = 1024**4
INTERVAL_S_MAX = 86_400.0
BYTES_MAX = 2**62

_DURABILITY_FAULT = (
    'durability must be "process", "always", ("interval", seconds) with 0 < seconds <= 86400, '
    'or ("bytes", n) with n >= 1, not {!r}'
)


@dataclass(frozen=True, slots=True)
class Durability:
    """A `DurabilitySpec`, checked and taken apart; made by `parse_durability`."""

    kind: Literal["process", "always", "interval", "bytes"]
    seconds: float = 0.0
    """For "interval": at most this long between syncs while there is something to sync."""
    bytes: int = 0
    """For "bytes": a sync after at most this many bytes."""


def parse_durability(value: DurabilitySpec | Durability) -> Durability:
    """`value`, normalised. OptionsError when it is none; used for stores and for single batches."""
    match value:
        case Durability():
            return value
        case "process":
            return Durability("process")
        case "always":
            return Durability("always")
        case ("interval", seconds) if _is_number(seconds, 0, INTERVAL_S_MAX) and seconds > 0:
            return Durability("interval", seconds=float(seconds))
        case ("bytes", count) if _is_int(count, 1, BYTES_MAX):
            return Durability("bytes", bytes=count)
    raise OptionsError([_DURABILITY_FAULT.format(value)])


@dataclass(frozen=True, kw_only=True)
class Options:
    """All options of a store. OptionsError lists everything that is wrong with them."""

    # Behaviour: what a program can rely on
    # --------------------------------------------------------------------------------------------------------

    # The index that finds a key's newest record. "btree" and "skiplist" keep keys in order: ranges,
    # prefixes, reverse; about 40 bytes of memory per key. "hash" has no order, takes about 24 bytes and is
    # faster for single keys. "bptree" keeps whole keys, in order, in pages of a file of which
    # `index_cache_bytes` are in memory: for more keys than memory has room for. Any directory opens with any
    # kind; a crash makes no difference.
    index: IndexKind = "btree"

    # When a write is safe from what. "process": once it returns it survives the death of the process, at no
    # cost; a power cut may take the last seconds of writes, never part of one, never an old one alone.
    # "always": it survives a power cut once it returns; costs a sync, shared by all threads that wait.
    # ("interval", seconds) and ("bytes", n): as "process", and a power cut takes at most the writes since the
    # last sync, which comes every so often.
    durability: DurabilitySpec = "process"

    # How the log is written and read. "mmap": through shared memory, no system call per operation. "file":
    # pread and pwrite, several times slower; for file systems where shared mappings are unsafe (some network
    # and FUSE file systems). Same files, same promises.
    io: IoKind = "mmap"

    # Where values that this open writes begin: at multiples of so many bytes, 1 (default), 8, 16, 32 or 64; in memory
    # too when they are viewed with io="mmap", so that numpy, Arrow and FlatBuffers read them in place. Costs half
    # as many bytes a value on average. They stay aligned through compactions and opens that choose otherwise.
    align: int = 1

    # Only read: nothing in the directory is created, changed or removed, and writes raise ReadOnlyError.
    read_only: bool = False

    # Make the directory and an empty store when there is none (its parent has to be there). False, or
    # read_only: StoreNotFoundError instead.
    create: bool = True

    # Performance: how fast, in how much space
    # --------------------------------------------------------------------------------------------------------

    # Bytes of one segment, preallocated: 64 KiB to 4 GiB, a multiple of 4096; default 256 MiB. Larger ones
    # mean fewer files; smaller ones take less disk ahead and make each compaction shorter. A longer value
    # gets a segment of its own. After a crash the part of the newest segment that was not used is given back
    # at the next open.
    segment_bytes_max: int = 256 * MIB

    # Threads that load hint files and scan segments at open; 0 (default): one per CPU, at most 8, and one for a few
    # megabytes.
    load_threads: int = 0

    # Bytes of memory for the pages of the index "bptree": 64 KiB to 1 TiB, default 64 MiB; other kinds have no
    # use for it. A page that is not in it costs a read from the index's file.
    index_cache_bytes: int = 64 * MIB

    # Bytes of log after which the index "bptree" is brought to a checkpoint in its file: 4 KiB to 1 TiB, default
    # 4 MiB; after 8,192 changed pages in any case. That much, or somewhat more, an open after a crash has to replay;
    # smaller means more writing. A crash in the middle leaves the checkpoint before.
    index_checkpoint_bytes: int = 4 * MIB

    # Bytes kept allocated so that deletes and compaction work when the disk is full; default 1 MiB, 0 for
    # none.
    reserve_bytes: int = 1 * MIB

    # "auto": a background thread rewrites segments as the options below say. "off": only compact() does. The
    # work costs one read of a segment and one write of what is live in it. A crash in the middle loses
    # nothing.
    compaction: CompactionMode = "auto"

    # A sealed segment is rewritten once this share of its bytes is dead, above 0 to 1; default 0.5. Lower
    # saves disk (at 0.5 at most about twice the live data) and writes live records more often.
    compaction_dead_ratio: float = 0.5

    # And only if it has at least this many dead bytes; default 1 MiB. Keeps small gains from costing a
    # rewrite.
    compaction_dead_bytes: int = 1 * MIB

    # Sealed segments with fewer bytes than this are merged, once there are 8 of them; default 1 MiB, 0 for
    # never.
    compaction_segment_bytes_min: int = 1 * MIB

    # Hours of the day, local time, in which the background compaction may start work: (start, end), start
    # included, end not, each 0 to 23; (22, 6) wraps midnight. Default None: always.
    compaction_window: tuple[int, int] | None = None

    # Bytes per second the background compaction may read and write together; default None: no limit.
    compaction_rate_bytes_per_s: int | None = None

    # Seconds between two looks of the background compaction at the segments; default 1.0.
    compaction_interval_s: float = 1.0

    def __post_init__(self) -> None:
        faults = [*self._behaviour_faults(), *self._performance_faults(), *self._compaction_faults()]
        if faults:
            raise OptionsError(faults)

    @classmethod
    def from_kwargs(cls, **options: Any) -> Options:
        """Options from keywords whose names may be wrong as well: those are faults like the others."""
        names = [field.name for field in fields(cls)]
        faults = []
        for name in options:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                faults.append(
                    f"there is no option {name!r}" + (f", did you mean {near[0]!r}?" if near else "")
                )
        try:
            result = cls(**{name: value for name, value in options.items() if name in names})
        except OptionsError as error:
            faults.extend(error.faults)
        if faults:
            raise OptionsError(faults)
        return result

    def _behaviour_faults(self) -> list[str]:
        faults = [
            *_choice_faults("index", self.index, get_args(IndexKind)),
            *_choice_faults("io", self.io, get_args(IoKind)),
            *_choice_faults("read_only", self.read_only, (False, True)),
            *_choice_faults("create", self.create, (False, True)),
            *_choice_faults("align", self.align, ALIGNMENTS),
        ]
        try:
            parse_durability(self.durability)
        except OptionsError as error:
            faults.extend(error.faults)
        return faults

    def _performance_faults(self) -> list[str]:
        faults = [
            *_int_faults("segment_bytes_max", self.segment_bytes_max, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            *_int_faults("load_threads", self.load_threads, 0, LOAD_THREADS_MAX),
            *_int_faults(
                "index_cache_bytes", self.index_cache_bytes, INDEX_CACHE_BYTES_MIN, INDEX_CACHE_BYTES_MAX
            ),
            *_int_faults(
                "index_checkpoint_bytes",
                self.index_checkpoint_bytes,
                INDEX_CHECKPOINT_BYTES_MIN,
                INDEX_CACHE_BYTES_MAX,
            ),
            *_int_faults("reserve_bytes", self.reserve_bytes, 0, BYTES_MAX),
        ]
        if type(self.segment_bytes_max) is int and self.segment_bytes_max % SEGMENT_BYTES_MULTIPLE:
            faults.append(
                f"segment_bytes_max must be a multiple of {SEGMENT_BYTES_MULTIPLE}, "
                f"not {self.segment_bytes_max}"
            )
        return faults

    def _compaction_faults(self) -> list[str]:
        faults = [
            *_choice_faults("compaction", self.compaction, get_args(CompactionMode)),
            *_int_faults("compaction_dead_bytes", self.compaction_dead_bytes, 0, BYTES_MAX),
            *_int_faults(
                "compaction_segment_bytes_min", self.compaction_segment_bytes_min, 0, SEGMENT_BYTES_MAX
            ),
        ]
        if not _is_number(self.compaction_dead_ratio, 0, 1) or self.compaction_dead_ratio == 0:
            faults.append(
                f"compaction_dead_ratio must be above 0 and at most 1, not {self.compaction_dead_ratio!r}"
            )
        if not _is_number(self.compaction_interval_s, 0.001, INTERVAL_S_MAX):
            faults.append(
                f"compaction_interval_s must be 0.001 to 86400 seconds, not {self.compaction_interval_s!r}"
            )
        rate = self.compaction_rate_bytes_per_s
        if rate is not None:
            faults += _int_faults("compaction_rate_bytes_per_s", rate, 1, BYTES_MAX)
        match self.compaction_window:
            case None:
                pass
            case (start, end) if _is_int(start, 0, 23) and _is_int(end, 0, 23) and start != end:
                pass
            case window:
                faults.append(
                    "compaction_window must be None or two different hours from 0 to 23, such as (22, 6), "
                    f"not {window!r}"
                )
        return faults


def _is_int(value: object, low: int, high: int) -> bool:
    # By type and not isinstance: True is no number of bytes.
    return type(value) is int and low <= value <= high


def _is_number(value: object, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and low <= value <= high


def _int_faults(name: str, value: object, low: int, high: int) -> list[str]:
    if _is_int(value, low, high):
        return []
    return [f"{name} must be a whole number from {low} to {high}, not {value!r}"]


def _choice_faults(name: str, value: object, choices: Collection[object]) -> list[str]:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return []
    return [f"{name} must be {' or '.join(repr(choice) for choice in choices)}, not {value!r}"]
