"""The index on disk: a B+ tree with whole keys in the pages of a file, for more keys than memory has room for.

The pages in use lie in a pool of a fixed size (page_store_cy), the others in the file. A lookup is answered by the
pages alone: the log is not read to compare keys. Keys of more than PAGE_KEY_SIZE_MAX bytes, which would leave a page no
room to branch, are kept in a `BTreeIndex` beside the pages, some tens of bytes of memory each; a walk merges both.

A checkpoint begins with `freeze`, in the same critical section in which its LSN is read; checkpoint.py does the rest
through the methods at the end, in steps between which readers and writers go on.

One mutex is held for each key, readers included, while a page is read from disk too. So readers in several threads
take turns, key by key, and a reader that holds the GIL keeps it for as long as a page takes to arrive. Who waits is
awake at first. Who holds the mutex never waits for the GIL or for another lock, so it may be taken under either. (Only
where a test's system makes the calls does a holder wait for the GIL. There whoever waits lets go of the GIL.)

A page that cannot be read or written is an error of the call that needed it: ENTRY_ERROR, or a walk that ends with
`error`, `key.error` says why and `bad_position` is 0, since no record is at fault. Nothing has changed then.

Invariants: a key stands in the pages or in `long_keys`, by its size alone.
"""

import os

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.index.bptree_check_cy import check_tree
from cython.cimports.flash_kv.index.bptree_page_cy import PAGE_KEY_SIZE_MAX
from cython.cimports.flash_kv.index.bptree_tree_cy import BPTREE_HEIGHT_MAX, PageTree
from cython.cimports.flash_kv.index.btree_cy import BTreeIndex
from cython.cimports.flash_kv.index.index_cy import Index, Walk
from cython.cimports.flash_kv.index.page_file_cy import BLOCK_BYTES, PageFile
from cython.cimports.flash_kv.index.page_flush_cy import end_gathered, gather, write_gathered
from cython.cimports.flash_kv.index.page_store_cy import TABLE_PAGES, Place
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.flash_kv.io.mutex import (
    let_others,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_trylock,
    pthread_mutex_unlock,
    wait_briefly,
)
from cython.cimports.flash_kv.log.format import ENTRY_ERROR
from cython.cimports.flash_kv.log.table_cy import Key, load_key, newest_position, prefetch_record
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.unistd import usleep

# Room for so many long keys is made sure of at a time; a caller that asks for more gets the rest as it goes.
RESERVE_LONG_MAX = cython.declare(uint64_t, 8192)
# Who waits for the mutex would hardly ever get it from one who takes it again at once.
PAUSE_US = cython.declare(cython.uint, 20)
# Keys whose leaves are asked for together; see `_find_group`.
GROUP = cython.declare(uint64_t, 16)
# Pages of which the table is brought up to date under one hold of the mutex.
SETTLE_STEP = cython.declare(uint32_t, 512)


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

    def use_file(
        self,
        fd: int,
        pool_bytes: int,
        *,
        store_id: bytes = bytes(16),
        blocks: int = 0,
        scratch_fd: int = -1,
        system: object = None,
    ) -> None:
        """Keep pages in the file `fd` of so many blocks, of which none is used, and in `pool_bytes` of memory.

        The descriptors belong to the index until `take_files`. With `scratch_fd` nothing is written to the file: what
        changes goes to that empty one. `system` makes the calls that write, for tests.
        """
        if len(store_id) != 16:
            raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
        self.has_system = system is not None
        self.tree.store.set_up(pool_bytes)
        self.tree.store.file.set_up(fd, scratch_fd, blocks, store_id, system)

    def take_files(self) -> list:
        """The descriptors, for the caller to close: pages that are not in memory cannot be had any more."""
        self._lock()
        found: list = [fd for fd in (self.tree.store.file.fd, self.tree.store.file.scratch_fd) if fd >= 0]
        self.tree.store.file.fd = -1
        self.tree.store.file.scratch_fd = -1
        pthread_mutex_unlock(cython.address(self.mutex))
        return found

    def _lock(self):
        if unlikely(pthread_mutex_trylock(cython.address(self.mutex)) != 0):
            wait_briefly(cython.address(self.mutex), cython.address(self.waiting), self.has_system)

    @property
    def page_counts(self) -> tuple[int, int]:
        """How many blocks have been read from the file, and written to it."""
        return self.tree.store.file.blocks_read, self.tree.store.file.blocks_written

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
        return self._reserve(count, False)

    def reserve_removals(self, count):
        return self._reserve(count, True)

    def _reserve(self, count, is_removal):
        self._lock()
        failure: cython.int = (
            self.tree.store.reserve_changes(count) if is_removal else self.tree.store.reserve(count)
        )
        self.refusal = self.tree.store.error if failure != 0 else 0
        pthread_mutex_unlock(cython.address(self.mutex))
        return failure or self.long_keys.reserve(min(count, RESERVE_LONG_MAX))

    def find(self, key):
        entry: uint64_t
        if key.size > PAGE_KEY_SIZE_MAX:
            return self.long_keys.find(key)
        self._lock()
        entry = self._answer(key, self.tree.get(key.data, key.size))
        pthread_mutex_unlock(cython.address(self.mutex))
        return entry

    def find_many(self, keys, count, entries):
        start: uint64_t = 0
        self._lock()
        while start < count:
            self._find_group(keys + start, min(count - start, GROUP), entries + start)
            start += GROUP
        pthread_mutex_unlock(cython.address(self.mutex))

    def _find_group(self, keys, count, entries):
        """All leaves first: one comes into the cache on the way to the next. Nobody waits for more than one key."""
        i: uint64_t
        for i in range(count):
            if keys[i].size <= PAGE_KEY_SIZE_MAX:
                keys[i].place = self.tree.approach(keys[i].data, keys[i].size)
            let_others(cython.address(self.mutex), cython.address(self.waiting), self.has_system)
        for i in range(count):
            if keys[i].size > PAGE_KEY_SIZE_MAX:
                entries[i] = self.long_keys.find(keys + i)
            else:
                entries[i] = self._answer(
                    keys + i, self.tree.get_in(keys[i].place, keys[i].data, keys[i].size)
                )
            prefetch_record(self.log, entries[i])
            let_others(cython.address(self.mutex), cython.address(self.waiting), self.has_system)

    def is_above(self, key):
        is_above: cython.bint = False
        if self.long_count == 0 and key.size <= PAGE_KEY_SIZE_MAX:
            self._lock()
            is_above = self.tree.is_above(key.data, key.size)
            pthread_mutex_unlock(cython.address(self.mutex))
        return is_above

    def ask_for(self, key):
        if key.size <= PAGE_KEY_SIZE_MAX:
            self._lock()
            self.tree.ask_for(key.data, key.size)
            pthread_mutex_unlock(cython.address(self.mutex))

    def upsert(self, key, entry):
        old: uint64_t
        if key.size > PAGE_KEY_SIZE_MAX:
            old = self.long_keys.upsert(key, entry)
            if old == 0:
                self.long_count += 1
            return old
        self._lock()
        old = self._answer(key, self.tree.put(key.place, key.data, key.size, entry))
        pthread_mutex_unlock(cython.address(self.mutex))
        return old

    def remove(self, key):
        old: uint64_t
        if key.size > PAGE_KEY_SIZE_MAX:
            old = self.long_keys.remove(key)
            if old != 0 and old != ENTRY_ERROR:
                self.long_count -= 1
            return old
        self._lock()
        old = self._answer(key, self.tree.take(key.place, key.data, key.size))
        pthread_mutex_unlock(cython.address(self.mutex))
        return old

    def replace(self, key, old, new):
        is_replaced: cython.bint
        if key.size > PAGE_KEY_SIZE_MAX:
            return self.long_keys.replace(key, old, new)
        self._lock()
        self.tree.store.error = 0
        is_replaced = self.tree.swap(key.place, key.data, key.size, old, new)
        if not is_replaced:
            key.error = self.tree.store.error
            key.bad_position = 0
        pthread_mutex_unlock(cython.address(self.mutex))
        return is_replaced

    def walk(self, state, entries, capacity):
        taken: uint64_t
        self._lock()
        if self.long_count == 0:
            taken = self._collect(state, cython.NULL, entries, capacity)
            state.is_done = taken == 0 and state.error == 0
            if taken != 0:
                # The next call comes to the same page.
                state.error = 0
        else:
            taken = self._collect_both(state, entries, capacity)
        pthread_mutex_unlock(cython.address(self.mutex))
        return taken

    def _collect(self, state, bound, entries, capacity):
        """From the pages; with `state.error` after a failure, which is behind what was taken."""
        taken: uint64_t = self.tree.collect(state, bound, entries, capacity)
        state.error = 0
        if unlikely(taken == ENTRY_ERROR):
            state.error = self.tree.store.error
            state.bad_position = 0
            return 0
        if unlikely(self.tree.has_failed):
            state.error = self.tree.store.error
            state.bad_position = 0
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
                state.error = place.error if taken == 0 else 0
                state.is_done = taken == 0 and place.error == 0
                return taken
            if not self._load(cython.address(bound), found, turn):
                state.error = bound.error
                state.bad_position = bound.bad_position
                return taken
            taken += self._collect(
                cython.address(place), cython.address(bound), entries + taken, capacity - taken
            )
            # Keys up to the bound may be missing then: it must not be passed.
            state.error = place.error if taken == 0 else 0
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

    def _load(self, key, entry, turn):
        """A key out of the log, in one of two buffers unless it is mapped; False with the reason in `key`."""
        key.data = load_key(
            self.log, entry, cython.address(key.size), self.buffers + turn, self.capacities + turn, key
        )
        return key.data != cython.NULL

    def clear(self):
        self._lock()
        self.tree.empty()
        self.long_keys.clear()
        self.long_count = 0
        pthread_mutex_unlock(cython.address(self.mutex))

    def memory_bytes(self):
        # Without keys the tables of the other one are not touched.
        return self.tree.store.memory_bytes() + (self.long_keys.memory_bytes() if self.long_count != 0 else 0)

    # -- a checkpoint

    def freeze(self):
        self._lock()
        self.tree.freeze()
        pthread_mutex_unlock(cython.address(self.mutex))

    def list_loose(self, positions, capacity):
        place: Walk
        key: Key
        entries: uint64_t[64]
        taken: uint64_t
        i: uint64_t
        count: uint64_t = 0
        turn: cython.int = 0
        if capacity < self.long_count:
            return self.long_count
        memset(cython.address(place), 0, cython.sizeof(Walk))
        while count < self.long_count:
            taken = self.long_keys.walk(cython.address(place), entries, min(self.long_count - count, 64))
            if taken == 0:
                return ENTRY_ERROR
            for i in range(taken):
                positions[count] = newest_position(self.log, entries[i])
                count += 1
            if not self._load(cython.address(key), entries[taken - 1], turn):
                return ENTRY_ERROR
            place.key = key.data
            place.key_size = key.size
            place.has_key = True
            place.is_started = True
            turn ^= 1
        return count

    @property
    def changed_pages(self) -> int:
        """Pages that a replay from the last checkpoint would have to read, about."""
        self._lock()
        changed: uint64_t = self.tree.store.changed
        pthread_mutex_unlock(cython.address(self.mutex))
        return changed

    @property
    def is_damaged(self) -> bool:
        """A block of the file did not hold what was written there."""
        self._lock()
        is_damaged: cython.bint = self.tree.store.is_damaged
        pthread_mutex_unlock(cython.address(self.mutex))
        return is_damaged

    @property
    def frozen(self) -> tuple[int, int, int, int]:
        """Root, height, entries and end of the pages, as of `freeze`."""
        return self.tree.frozen_root, self.tree.frozen_height, self.tree.frozen_count, self.tree.frozen_end

    def flush(self) -> None:
        """Write the pages that the checkpoint needs. OSError.

        Without the GIL to the end: to have it back after each step would take longer than the step.
        """
        count: cython.int = 1
        failure: cython.int = 0
        with cython.nogil:
            while count > 0 and failure == 0:
                self._lock()
                count = gather(self.tree.store)
                if count < 0:
                    failure = self.tree.store.error
                pthread_mutex_unlock(cython.address(self.mutex))
                if count > 0:
                    failure = write_gathered(self.tree.store, count)
                    self._lock()
                    end_gathered(self.tree.store, count, failure)
                    pthread_mutex_unlock(cython.address(self.mutex))
        if failure != 0:
            raise OSError(failure, os.strerror(failure))

    def take_table(self, number: int, is_wanted: bool) -> bytes:
        """A part of the page table as the checkpoint needs it, if it has changed or `is_wanted`; else b""."""
        table: uint32_t = number
        content: bytes = bytes(TABLE_PAGES * cython.sizeof(Place))
        place = cython.cast(cython.pointer(Place), PyBytes_AS_STRING(content))
        page: uint64_t = cython.cast(uint64_t, table) * TABLE_PAGES
        # There is no page 0.
        i: uint64_t = 1 if table == 0 else 0
        self._lock()
        if not self.tree.store.stale_tables[table] and not is_wanted:
            content = b""
        else:
            self.tree.store.stale_tables[table] = 0
            while i < TABLE_PAGES and page + i < self.tree.frozen_end:
                place[i] = cython.cast(cython.pointer(Place), self.tree.store.saved.data)[page + i]
                i += 1
        pthread_mutex_unlock(cython.address(self.mutex))
        return content

    def put_block(self, content: bytes) -> tuple[int, int]:
        """Write a block of the checkpoint somewhere; where, and the checksum that is its first word then. OSError."""
        if len(content) != BLOCK_BYTES:
            raise ValueError(f"a block has {BLOCK_BYTES} bytes, not {len(content)}")
        data: uint8_t[4096]
        checksum: uint32_t
        memcpy(data, PyBytes_AS_STRING(content), BLOCK_BYTES)
        self._lock()
        file: PageFile = self.tree.store.file
        block: uint32_t = file.take(True)
        is_written: cython.bint = block != 0 and file.write(block, data)
        failure: cython.int = file.error
        if block != 0 and not is_written:
            file.drop(block)
        pthread_mutex_unlock(cython.address(self.mutex))
        if not is_written:
            raise OSError(failure, os.strerror(failure))
        memcpy(cython.address(checksum), data, 4)
        return block, checksum

    def drop_block(self, block: int) -> None:
        """The checkpoint does without this block of the one before."""
        number: uint32_t = block
        self._lock()
        self.tree.store.file.drop(number)
        pthread_mutex_unlock(cython.address(self.mutex))

    def end_checkpoint(self, is_durable: bool) -> None:
        """Use the blocks again that a durable checkpoint does without; or give one up that could not be written."""
        is_more: cython.bint = True
        self._lock()
        if is_durable:
            self.tree.store.file.free_gone()
        else:
            self.tree.store.thaw_all()
        pthread_mutex_unlock(cython.address(self.mutex))
        with cython.nogil:
            while is_more:
                self._lock()
                is_more = self.tree.store.settle_some(SETTLE_STEP)
                pthread_mutex_unlock(cython.address(self.mutex))
                usleep(PAUSE_US)

    def let_grow(self, may_grow: bool) -> None:
        """Whether the file may take free space of the disk; if not, there is none for it (ENOSPC)."""
        self._lock()
        self.tree.store.file.may_grow = may_grow
        pthread_mutex_unlock(cython.address(self.mutex))

    def let_go(self) -> None:
        """Use the blocks again that only checkpoints had, of which durably none is left."""
        self._lock()
        self.tree.store.file.let_go()
        pthread_mutex_unlock(cython.address(self.mutex))

    def claim_block(self, block: int) -> bool:
        """False when a checkpoint that names this block cannot be right."""
        number: uint32_t = block
        return self.tree.store.file.claim(number) == 0

    def load_table(self, number: int, content: bytes, pages_end: int) -> bool:
        """Take over a part of the page table of a checkpoint; False when it cannot be right. MemoryError."""
        places = cython.cast(cython.pointer(Place), PyBytes_AS_STRING(content))
        if self.tree.store.load_table(number, places, pages_end):
            if self.tree.store.error == ENOMEM:
                raise MemoryError("no memory for the page table of an index")
            return False
        return True

    def end_load(self, root: int, height: int, entries: int, pages_end: int) -> bool:
        """Take over the rest; False when it cannot be right."""
        if (
            self.tree.store.end_load(pages_end) != 0
            or height > BPTREE_HEIGHT_MAX
            or (root == 0) != (height == 0)
            or root >= pages_end
        ):
            return False
        self.tree.root = root
        self.tree.height = height
        self.tree.count = entries
        return True

    def check(self) -> list:
        """What is wrong with the pages, in words. Requires: no other thread uses the index."""
        return check_tree(self.tree)
