"""Version chains: how a snapshot reads the past.

The index holds the newest record of each key. While a snapshot is open, a change to a key whose record the snapshot
can see replaces the index entry by a chain: a node for the new record, then one for the old, newest first. A deleted
key stays in the index as a chain headed by its tombstone. Without open snapshots no chain is made, so writers pay one
comparison.

When a snapshot closes, chains are trimmed to what the remaining snapshots can see and collapse back into plain
entries (`Store.collapse_versions`).

Invariant: in a chain the LSNs fall from head to end; the head is the newest record of its key.
"""

import cython
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.intrinsics import load_acquire64, store_release64
from cython.cimports.flash_kv.io.memory_cy import realloc
from cython.cimports.flash_kv.log.format import ENTRY_VERSIONED
from cython.cimports.flash_kv.log.table_cy import SegmentTable, VersionNode
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memmove

NODE_BYTES = cython.declare(uint64_t, cython.sizeof(VersionNode))
PENDING_MIN = cython.declare(uint64_t, 1024)


@cython.final
@cython.cclass
class VersionChains:
    """The chains of one store and the snapshots that need them."""

    def __cinit__(self, table: SegmentTable):
        self.arena = Arena()
        self.table = cython.address(table.state)
        self.nodes = cython.cast(cython.pointer(VersionNode), self.arena.data)
        self.arena.used = NODE_BYTES  # node 0 ends a chain
        if self.reserve(1) != 0:
            raise MemoryError("no memory for version chains")
        self.table.versions = self.nodes

    def __dealloc__(self):
        free(self.pending)
        free(self.snapshots)

    def open_snapshot(self, lsn):
        """0, or -1 when memory is short. `lsn` is the newest committed one, so the array stays sorted."""
        grown: cython.pointer(uint64_t)
        capacity: uint64_t
        if self.snapshot_count == self.snapshot_capacity:
            capacity = max(cython.cast(uint64_t, 16), self.snapshot_capacity * 2)
            grown = cython.cast(cython.pointer(uint64_t), realloc(self.snapshots, capacity * 8))
            if grown == cython.NULL:
                return -1
            self.snapshots = grown
            self.snapshot_capacity = capacity
        self.snapshots[self.snapshot_count] = lsn
        self.snapshot_count += 1
        self.newest_snapshot = lsn
        return 0

    def close_snapshot(self, lsn):
        i: uint64_t = 0
        while i < self.snapshot_count and self.snapshots[i] != lsn:
            i += 1
        if i == self.snapshot_count:
            return
        memmove(self.snapshots + i, self.snapshots + i + 1, (self.snapshot_count - i - 1) * 8)
        self.snapshot_count -= 1
        self.newest_snapshot = self.snapshots[self.snapshot_count - 1] if self.snapshot_count else 0

    def reserve(self, count):
        """Room for `count` pushes: 0, or -1 when memory is short."""
        grown: cython.pointer(uint64_t)
        capacity: uint64_t = self.pending_capacity
        if self.arena.reserve(2 * count * NODE_BYTES) != 0:
            return -1
        if self.pending_count + count > capacity:
            capacity = max(PENDING_MIN, max(capacity * 2, self.pending_count + count))
            grown = cython.cast(cython.pointer(uint64_t), realloc(self.pending, capacity * 8))
            if grown == cython.NULL:
                return -1
            self.pending = grown
            self.pending_capacity = capacity
        return 0

    def _new_node(self, position, lsn, next):
        number: uint64_t = self.free_node
        if number:
            self.free_node = self.nodes[number].next
        else:
            number = self.arena.used // NODE_BYTES
            self.arena.used += NODE_BYTES
            store_release64(cython.address(self.table.versions_size), number + 1)
        self.nodes[number].position = position
        self.nodes[number].lsn = lsn
        self.nodes[number].next = next
        return number

    def push(self, old, old_lsn, position, lsn):
        """The entry of a key that goes from entry `old` to the record at `position`. Requires: `reserve`."""
        number: uint64_t
        if old & ENTRY_VERSIONED:
            number = old & ~ENTRY_VERSIONED
            if self.nodes[number].lsn > self.newest_snapshot:
                # No snapshot sees the head: it gives way. A snapshot's reader skips it before and after.
                store_release64(cython.address(self.nodes[number].lsn), lsn)
                store_release64(cython.address(self.nodes[number].position), position)
                return old
        else:
            number = self._new_node(old, old_lsn, 0)
        number = self._new_node(position, lsn, number)
        self.pending[self.pending_count] = number
        self.pending_count += 1
        return number | ENTRY_VERSIONED

    def unpush(self, entry, old):
        """Undo the `push` just done, whose new chain `entry` did not get into the index in the place of `old`."""
        number: uint64_t = entry & ~ENTRY_VERSIONED
        self.pending_count -= 1
        if old & ENTRY_VERSIONED:
            self.nodes[number].next = 0
        self.free_chain(number)

    def visible(self, entry, lsn):
        """The position of the newest version in the chain `entry` with an LSN up to `lsn`; 0 when there is none."""
        number: uint64_t = entry & ~ENTRY_VERSIONED
        while number != 0 and number < load_acquire64(cython.address(self.table.versions_size)):
            if load_acquire64(cython.address(self.nodes[number].lsn)) <= lsn:
                # A compaction that moves the record changes it meanwhile.
                return load_acquire64(cython.address(self.nodes[number].position))
            number = self.nodes[number].next
        return 0

    def free_chain(self, number):
        next: uint64_t
        while number != 0:
            next = self.nodes[number].next
            self.nodes[number].position = 0
            self.nodes[number].next = self.free_node
            self.free_node = number
            number = next

    def _is_needed(self, lsn, newer_lsn):
        """Does a snapshot read the version that lived from `lsn` until before `newer_lsn`?"""
        low: uint64_t = 0
        high: uint64_t = self.snapshot_count
        middle: uint64_t
        while low < high:
            middle = (low + high) // 2
            if self.snapshots[middle] < lsn:
                low = middle + 1
            else:
                high = middle
        return low < self.snapshot_count and self.snapshots[low] < newer_lsn

    def trim(self, number):
        """Free the versions behind the head `number` that no snapshot reads; True when only the head is left."""
        newer: uint64_t = self.nodes[number].lsn
        last: uint64_t = number
        node: uint64_t = self.nodes[number].next
        next: uint64_t
        while node != 0:
            next = self.nodes[node].next
            if self._is_needed(self.nodes[node].lsn, newer):
                self.nodes[last].next = node
                newer = self.nodes[node].lsn
                last = node
            else:
                newer = self.nodes[node].lsn
                self.nodes[last].next = 0
                self.nodes[node].position = 0
                self.nodes[node].next = self.free_node
                self.free_node = node
            node = next
        self.nodes[last].next = 0
        return self.nodes[number].next == 0
