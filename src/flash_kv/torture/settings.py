"""What a run is made of: its seed, and the options of its stores, drawn from it where the caller leaves them open."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from flash_kv.options import DurabilitySpec, IndexKind, IoKind, Options

SEGMENT_BYTES = 64 * 1024
CHECKPOINT_BYTES = 8 * 1024
INDEXES: tuple[IndexKind, ...] = get_args(IndexKind)
IO_KINDS: tuple[IoKind, ...] = get_args(IoKind)
DURABILITIES: tuple[DurabilitySpec, ...] = ("process", "always", ("bytes", 20_000), ("interval", 60.0))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is tried; None: any."""

    index: IndexKind | None = None
    io: IoKind | None = None
    durability: DurabilitySpec | None = None

    def options(self, rng: random.Random) -> Options:
        """Options of one store: the smallest segments, so that a short history rotates, seals and compacts."""
        return Options(
            index=rng.choice(INDEXES) if self.index is None else self.index,
            io=rng.choice(IO_KINDS) if self.io is None else self.io,
            durability=rng.choice(DURABILITIES) if self.durability is None else self.durability,
            align=rng.choice((1, 1, 64)),
            segment_bytes_max=SEGMENT_BYTES,
            reserve_bytes=rng.choice((0, SEGMENT_BYTES)),
            load_threads=1,
            index_cache_bytes=SEGMENT_BYTES,
            index_checkpoint_bytes=CHECKPOINT_BYTES,
            compaction=rng.choice(("auto", "off")),
            compaction_dead_bytes=rng.choice((0, 10_000)),
            compaction_dead_ratio=rng.choice((0.1, 0.5)),
            compaction_segment_bytes_min=rng.choice((0, SEGMENT_BYTES)),
        )

    def reading(self, rng: random.Random, *, read_only: bool) -> Options:
        """Options to look into what a crash has left: any index and io kind reads what any other wrote.

        The one that wrote is the likeliest, for it may find a file of its own.
        """
        indexes = INDEXES if self.index is None else (*INDEXES, self.index, self.index)
        return _reading(
            rng.choice(indexes), rng.choice(IO_KINDS) if self.io is None else self.io, read_only=read_only
        )

    def as_dict(self) -> dict[str, Any]:
        return {"index": self.index, "io": self.io, "durability": self.durability}


@cache
def _reading(index: IndexKind, io: IoKind, *, read_only: bool) -> Options:
    return Options(
        index=index,
        io=io,
        segment_bytes_max=SEGMENT_BYTES,
        reserve_bytes=0,
        load_threads=1,
        index_cache_bytes=SEGMENT_BYTES,
        compaction="off",
        read_only=read_only,
        create=not read_only,
    )
