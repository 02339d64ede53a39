# Blocks of the file of an index. See page_file_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.arena_cy cimport Arena

cdef enum:
    BLOCK_BYTES = 4096
    META_BLOCKS = 2                       # the first ones

cdef enum Mark:
    BLOCK_USED = 1                        # holds something
    BLOCK_HELD = 2                        # of a checkpoint: it is not written to
    BLOCK_LEAVING = 4                     # held, and the tree has another block in its place
    BLOCK_GONE = 8                        # as before, and the next checkpoint does without it

cdef class PageFile:
    cdef int fd                           # -1: nothing was ever written
    cdef int scratch_fd                   # read only: where blocks from `base` on are; else -1
    cdef uint32_t base                    # blocks below it are in `fd`
    cdef object system                    # whose calls are made instead of the system's own, for tests; or None
    cdef int error                        # errno of what failed last
    cdef bint is_held                     # some blocks may be a checkpoint's
    cdef bint may_grow                    # free space of the disk is not set aside for others
    cdef uint32_t seed
    cdef Arena marks                      # a Mark for each block
    cdef uint32_t end                     # blocks below it have room in the file
    cdef uint32_t free_count
    cdef uint32_t hand                    # no block below it is free
    cdef uint64_t blocks_read
    cdef uint64_t blocks_written

    cdef int set_up(self, int fd, int scratch_fd, uint32_t blocks, bytes store_id, object system) except -1
    # 0: so many blocks are free. -1 with `error`: the disk or memory is short.
    cdef int ensure(self, uint64_t count) noexcept nogil
    # A free block, used from now on; 0 with `error` when there is none.
    cdef uint32_t take(self, bint is_held) noexcept nogil
    # The tree has no use for this block any more.
    cdef void release(self, uint32_t block) noexcept nogil
    # Neither the tree nor the checkpoint that is being written has.
    cdef void drop(self, uint32_t block) noexcept nogil
    # A block that a checkpoint names: 0, or -1 when there is no such block or it was claimed before.
    cdef int claim(self, uint32_t block) noexcept nogil
    cdef void hold_all(self) noexcept nogil
    cdef void free_gone(self) noexcept nogil
    # Its checksum, which is the first word of `data` then.
    cdef uint32_t seal(self, uint32_t block, uint8_t* data) noexcept nogil
    # So many sealed blocks that follow each other: an errno or 0. Any number of callers.
    cdef int put(self, uint32_t block, const uint8_t* data, uint32_t count) noexcept nogil
    cdef bint write(self, uint32_t block, uint8_t* data) noexcept nogil
    # `sum` is the checksum of what was written there last.
    cdef bint read(self, uint32_t block, uint8_t* data, uint32_t sum) noexcept nogil
    cdef void ask_for(self, uint32_t block) noexcept nogil
    cdef void empty(self) noexcept nogil
    # No checkpoint is left: what only that had is free.
    cdef void let_go(self) noexcept nogil

    cdef int _grow(self, uint64_t count) noexcept nogil
    cdef int _allocate(self, int fd, uint64_t offset, uint64_t size) noexcept nogil
    cdef int _write_by_system(self, int fd, const uint8_t* data, uint64_t size, uint64_t offset) noexcept
    cdef int _allocate_by_system(self, int fd, uint64_t offset, uint64_t size) noexcept
    cdef void _cut_tail(self) noexcept nogil
    cdef void _cut(self, uint32_t blocks) noexcept nogil
