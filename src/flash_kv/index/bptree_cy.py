"""The index on disk: a B+ tree with whole keys in the pages of a file, for more keys than memory has room for.

The pages in use lie in a pool of a fixed size (page_store_cy), the others in the file; a few bytes for each page stay
in memory besides. A lookup is answered by the pages alone: the log is not read to compare keys. Keys of more than
PAGE_KEY_SIZE_MAX bytes, which would leave a page no room to branch, are kept in a `BTreeIndex` beside the pages, some
tens of bytes of memory each; a walk merges both.

One mutex is held for each call, readers included, while a page is read from disk too. So readers in several threads
take turns, and a reader that holds the GIL keeps it for as long as a page takes to arrive. Who holds the mutex never
waits for the GIL or for another lock, so it may be taken under either.

A page that cannot be read or written is an error of the call that needed it: ENTRY_ERROR, or a walk that ends with
`error`, `key.error` says why and `bad_position` is 0, since no record is at fault. Nothing has changed then.

Invariants: a key stands in the pages or in `long_keys`, by its size alone.
"""

import cython
from cython.cimports.flash_kv.index.bptree_page_cy import PAGE_KEY_SIZE_MAX
from cython.cimports.flash_kv.index.bptree_tree_cy import BPTREE_HEIGHT_MAX, PageTree
from cython.cimports.flash_kv.index.btree_cy import BTreeIndex
from cython.cimports.flash_kv.index.index_cy import Index, Walk
from cython.cimports.flash_kv.intrinsics import prefetch, unlikely
from cython.cimports.flash_kv.io.mutex import (
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, offset_of, segment_of
from cython.cimports.flash_kv.log.table_cy import Key, SegmentRef, load_key, newest_position, segment_ref
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free

# Room is made sure of for so many new pages at most: a caller that asks for more upserts gets the rest as it goes.
RESERVE_PAGES_MAX = cython.declare(uint64_t, 8192)
# More upserts than any store has room for.
COUNT_MAX = cython.declare(uint64_t, 1 << 40)


@cython.final
@cython.cclass
class BPTreeIndex(Index):
    """Entries by key, in key order. `use_file` comes before anything else."""

    def __cinit__(self, table, hash_key):
        self.is_ordered = True
        self.tree = PageTree()
        self.long_keys = BTreeIndex(table, hash_key)
        if pthread_mutex_init(cython.address(self.mutex), cython.NULL) != 0:
            raise MemoryError("no memory for a mutex")
        self.has_mutex = True

    def __dealloc__(self):
        if self.has_mutex:
            pthread_mutex_destroy(cython.address(self.mutex))
        free(self.buffers[0])
        free(self.buffers[1])

    def use_file(self, fd: int, pool_bytes: int) -> None:
        """Keep pages in the empty file `fd`, which belongs to the index from now on, and in `pool_bytes` of memory."""
        self.tree.store.set_up(fd, pool_bytes, self.hash_key[0])

    def take_file(self) -> int:
        """The file, for the caller to close, or -1: pages that are not in memory cannot be had any more."""
        pthread_mutex_lock(cython.address(self.mutex))
        fd = self.tree.store.fd
        self.tree.store.fd = -1
        pthread_mutex_unlock(cython.address(self.mutex))
        return fd

    @property
    def page_counts(self) -> tuple[int, int]:
        """How many pages have been read from the file, and written to it."""
        return self.tree.store.pages_read, self.tree.store.pages_written

    @property
    def page_count(self) -> int:
        """Pages of the tree, in memory or not."""
        return self.tree.store.pages_end - 1 - self.tree.store.free_count

    def _answer(self, key, entry):
        if unlikely(entry == ENTRY_ERROR):
            key.error = self.tree.store.error
            key.bad_position = 0
        return entry

    def reserve(self, count):
        failure: cython.int
        if count > COUNT_MAX:
            return -1
        pthread_mutex_lock(cython.address(self.mutex))
        failure = self.tree.store.reserve(min(count, RESERVE_PAGES_MAX) + BPTREE_HEIGHT_MAX)
        pthread_mutex_unlock(cython.address(self.mutex))
        return failure or self.long_keys.reserve(min(count, RESERVE_PAGES_MAX))

    def find(self, key):
        entry: uint64_t
        if key.size > PAGE_KEY_SIZE_MAX:
            return self.long_keys.find(key)
        pthread_mutex_lock(cython.address(self.mutex))
        entry = self._answer(key, self.tree.get(key.data, key.size))
        pthread_mutex_unlock(cython.address(self.mutex))
        return entry

    def find_many(self, keys, count, entries):
        i: uint64_t
        ref: cython.pointer(SegmentRef)
        position: uint64_t
        pthread_mutex_lock(cython.address(self.mutex))
        for i in range(count):
            if keys[i].size > PAGE_KEY_SIZE_MAX:
                entries[i] = self.long_keys.find(cython.address(keys[i]))
                continue
            entries[i] = self._answer(cython.address(keys[i]), self.tree.get(keys[i].data, keys[i].size))
            if entries[i] != 0 and entries[i] != ENTRY_ERROR and self.log.is_mapped:
                position = newest_position(self.log, entries[i])
                ref = segment_ref(self.log, segment_of(position))
                if position != 0 and ref != cython.NULL and ref.data != cython.NULL:
                    prefetch(ref.data + offset_of(position))
                    prefetch(ref.data + offset_of(position) + 64)
        pthread_mutex_unlock(cython.address(self.mutex))

    def upsert(self, key, entry):
        old: uint64_t
        if key.size > PAGE_KEY_SIZE_MAX:
            old = self.long_keys.upsert(key, entry)
            if old == 0:
                self.long_count += 1
            return old
        pthread_mutex_lock(cython.address(self.mutex))
        old = self._answer(key, self.tree.put(key.data, key.size, entry))
        pthread_mutex_unlock(cython.address(self.mutex))
        return old

    def remove(self, key):
        old: uint64_t
        if key.size > PAGE_KEY_SIZE_MAX:
            old = self.long_keys.remove(key)
            if old != 0 and old != ENTRY_ERROR:
                self.long_count -= 1
            return old
        pthread_mutex_lock(cython.address(self.mutex))
        old = self._answer(key, self.tree.take(key.data, key.size))
        pthread_mutex_unlock(cython.address(self.mutex))
        return old

    def replace(self, key, old, new):
        is_replaced: cython.bint
        if key.size > PAGE_KEY_SIZE_MAX:
            return self.long_keys.replace(key, old, new)
        pthread_mutex_lock(cython.address(self.mutex))
        self.tree.store.error = 0
        is_replaced = self.tree.swap(key.data, key.size, old, new)
        if not is_replaced:
            key.error = self.tree.store.error
            key.bad_position = 0
        pthread_mutex_unlock(cython.address(self.mutex))
        return is_replaced

    def walk(self, state, entries, capacity):
        taken: uint64_t
        pthread_mutex_lock(cython.address(self.mutex))
        if self.long_count == 0:
            taken = self._collect(state, cython.NULL, entries, capacity)
            state.is_done = taken == 0 and state.error == 0
        else:
            taken = self._collect_both(state, entries, capacity)
        pthread_mutex_unlock(cython.address(self.mutex))
        return taken

    def _collect(self, state, bound, entries, capacity):
        """From the pages; 0 with `state.error` after a failure."""
        taken: uint64_t = self.tree.collect(state, bound, entries, capacity)
        state.error = 0
        if unlikely(taken == ENTRY_ERROR):
            state.error = self.tree.store.error
            state.bad_position = 0
            return 0
        return taken

    def _collect_both(self, state, entries, capacity):
        """Merge: the next long key, and before it what the pages have up to there."""
        place: Walk = state[0]
        ahead: Walk
        bound: Key
        taken: uint64_t = 0
        found: uint64_t
        turn: cython.int = 0
        while taken < capacity:
            ahead = place
            ahead.is_done = False
            ahead.error = 0
            ahead.bad_position = 0
            if self.long_keys.walk(cython.address(ahead), cython.address(found), 1) == 0:
                if not ahead.is_done:
                    state.error = ahead.error
                    state.bad_position = ahead.bad_position
                    return taken
                taken += self._collect(cython.address(place), cython.NULL, entries + taken, capacity - taken)
                state.error = place.error
                state.is_done = taken == 0 and place.error == 0
                return taken
            bound.data = load_key(
                self.log,
                found,
                cython.address(bound.size),
                cython.address(self.buffers[turn]),
                cython.address(self.capacities[turn]),
                cython.address(bound),
            )
            if bound.data == cython.NULL:
                state.error = bound.error
                state.bad_position = bound.bad_position
                return taken
            taken += self._collect(
                cython.address(place), cython.address(bound), entries + taken, capacity - taken
            )
            state.error = place.error
            if place.error or taken == capacity:
                return taken
            entries[taken] = found
            taken += 1
            turn ^= 1
            place.key = bound.data
            place.key_size = bound.size
            place.has_key = True
            place.is_started = True
        return taken

    def clear(self):
        pthread_mutex_lock(cython.address(self.mutex))
        self.tree.empty()
        self.long_keys.clear()
        self.long_count = 0
        pthread_mutex_unlock(cython.address(self.mutex))

    def memory_bytes(self):
        # Without keys the tables of the other one are not touched.
        return self.tree.store.memory_bytes() + (self.long_keys.memory_bytes() if self.long_count != 0 else 0)
