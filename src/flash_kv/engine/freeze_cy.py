"""What a checkpoint of the index on disk says beside the pages, as of the moment at which the index is frozen."""

import cython
from cython.cimports.flash_kv.engine.freeze_cy import Frozen
from cython.cimports.flash_kv.io.memory_cy import calloc
from cython.cimports.flash_kv.log.format import ENTRY_VERSIONED
from cython.cimports.flash_kv.log.table_cy import SegmentRef
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free


@cython.cclass
class Frozen:
    """Memory for what `Store._freeze` copies, since nothing may be allocated while the write lock is held."""

    def __dealloc__(self):
        free(self.refs)
        free(self.states)
        free(self.chains)
        free(self.loose)

    def make_room(self, segments, chains, loose):
        """Room for so many, and for some more that may come meanwhile. MemoryError."""
        if self.refs == cython.NULL:
            self.segment_count = segments
            self.refs = cython.cast(
                cython.pointer(cython.pointer(SegmentRef)),
                calloc(segments + 1, cython.sizeof(cython.pointer(SegmentRef))),
            )
            self.states = cython.cast(
                cython.pointer(SegmentRef), calloc(segments + 1, cython.sizeof(SegmentRef))
            )
        if self.chains == cython.NULL or chains > self.chain_room:
            free(self.chains)
            self.chain_room = chains + (chains >> 3) + 64
            self.chains = cython.cast(cython.pointer(uint64_t), calloc(self.chain_room, 24))
        if self.loose == cython.NULL or loose > self.loose_room:
            free(self.loose)
            self.loose_room = loose + (loose >> 3) + 64
            self.loose = cython.cast(cython.pointer(uint64_t), calloc(self.loose_room, 8))
        if (
            self.refs == cython.NULL
            or self.states == cython.NULL
            or self.chains == cython.NULL
            or self.loose == cython.NULL
        ):
            raise MemoryError("no memory for a checkpoint of the index")
        return 0

    def counters(self, segment_ids):
        """As the fields of SegmentState, with 0 for the epoch."""
        i: uint64_t
        ref: cython.pointer(SegmentRef)
        found: list = []
        for i in range(self.segment_count):
            ref = self.states + i
            found.append(
                (
                    segment_ids[i],
                    0,
                    ref.used,
                    ref.live_bytes,
                    ref.live_records,
                    ref.value_records,
                    ref.tombstone_bytes,
                    ref.tombstones,
                    ref.min_lsn,
                    ref.max_lsn,
                )
            )
        return found

    def chain_list(self):
        """Entry and position of each chain, one after the other. What is behind another node heads none."""
        i: uint64_t
        found: list = []
        behind: set = set()
        for i in range(self.chain_count):
            if self.chains[3 * i + 1] != 0:
                behind.add(self.chains[3 * i + 2])
        for i in range(self.chain_count):
            if self.chains[3 * i + 1] != 0 and self.chains[3 * i] not in behind:
                found.append(self.chains[3 * i] | ENTRY_VERSIONED)
                found.append(self.chains[3 * i + 1])
        return found

    def loose_list(self):
        i: uint64_t
        found: list = []
        for i in range(self.loose_count):
            found.append(self.loose[i])
        return found
