"""A driver for loading an index, for tests and benchmarks: a segment table over segments in memory, and no engine."""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.log.checksum_cy import segment_seed
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, offset_of, segment_of
from cython.cimports.flash_kv.log.table_cy import Key, SegmentRef, SegmentTable, segment_ref
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t

from flash_kv.index.load_cy import load_index
from flash_kv.index.probe_cy import new_index

Bytes = cython.typedef(cython.pointer(cython.const[uint8_t]))


@cython.cclass
class LoadProbe:
    """An empty index of `kind` ("hash", "btree", "skiplist") and the segments it is to point into."""

    def __cinit__(self, kind: str):
        self.table = SegmentTable(True)
        self.index = new_index(kind, self.table)
        self._segments = {}

    def add_segment(self, content: bytes, *, store_id: bytes, segment_id: int, epoch: int) -> None:
        """A sealed segment with this content."""
        ref: cython.pointer(SegmentRef) = self.table.add(segment_id)
        self._segments[segment_id] = content
        ref.data = cython.cast(Bytes, PyBytes_AS_STRING(content))
        ref.size = ref.used = len(content)
        ref.fd = -1
        ref.seed = segment_seed(cython.cast(Bytes, PyBytes_AS_STRING(store_id)), segment_id, epoch)

    def load(self, runs: list):
        """load_index of the runs into the index."""
        return load_index(self.index, self.table, runs)

    def find(self, key: bytes):
        """(segment id, offset) of the record the index has for `key`, or None."""
        looked: Key
        entry: uint64_t
        looked.data = cython.cast(Bytes, PyBytes_AS_STRING(key))
        looked.size = len(key)
        looked.error = 0
        looked.bad_position = 0
        looked.hash = cython.cast(uint32_t, siphash13(self.index.hash_key, looked.data, looked.size))
        entry = self.index.find(cython.address(looked))
        if entry == ENTRY_ERROR:
            raise ValueError(f"damaged record at position {looked.bad_position:#x}")
        return (segment_of(entry), offset_of(entry)) if entry else None

    def counts(self, segment_id: int) -> dict:
        """The counters in the segment's slot."""
        ref: cython.pointer(SegmentRef) = segment_ref(cython.address(self.table.state), segment_id)
        return {
            "live_bytes": ref.live_bytes,
            "live_records": ref.live_records,
            "value_records": ref.value_records,
            "tombstones": ref.tombstones,
            "tombstone_bytes": ref.tombstone_bytes,
            "min_lsn": ref.min_lsn,
            "max_lsn": ref.max_lsn,
        }

    def memory_bytes(self) -> int:
        """The memory of the index."""
        return self.index.memory_bytes()
