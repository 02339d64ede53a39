"""The file of an index as blocks of 4 KiB: which are free, and how they are read and written (docs/format.md).

A block that a checkpoint names is never written to: what changes goes to a free block, and the old one is free when a
later checkpoint, which does without it, is durable (shadow paging, Lorie 1977). One byte for each block says what it
is:

    used     holds something that the tree, or a checkpoint, needs
    held     it belongs to the last checkpoint, or to the one that is being written
    leaving  held, and the tree has written the same page elsewhere since the last checkpoint began
    gone     held, and the checkpoint that is being written does without it: free once that one is durable

A block begins with a CRC32C over the store's id, the block's number and the rest of the block. So a block that is
damaged, of another store or in another place is an error (EBADMSG) and never an answer. Whoever leads to a block knows
that checksum as well: so one that stands as it was before the last write, because that write never reached the disk,
is an error too (as in ZFS, Bonwick 2003).

Opened for reading only, blocks that are written go to a second file without a name.

Requires: one caller at a time, but for `put`.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.index.page_file_cy import (
    BLOCK_BYTES,
    BLOCK_GONE,
    BLOCK_HELD,
    BLOCK_LEAVING,
    BLOCK_USED,
    META_BLOCKS,
)
from cython.cimports.flash_kv.log.checksum_cy import crc32c_extend
from cython.cimports.libc.errno import EBADMSG, EFBIG, EINTR, EIO, ENOMEM, ENOSPC, errno
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memchr, memcpy, memset
from cython.cimports.posix.fcntl import POSIX_FADV_WILLNEED, posix_fadvise, posix_fallocate
from cython.cimports.posix.unistd import close, ftruncate, pread, pwrite

BLOCKS_MAX = cython.declare(uint64_t, (1 << 30) - 1)
# The file grows by an eighth, but by no less and no more blocks than these.
GROWTH_MIN = cython.declare(uint64_t, 16)
GROWTH_MAX = cython.declare(uint64_t, 1024)

Marks = cython.typedef(cython.pointer(uint8_t))


@cython.final
@cython.cclass
class PageFile:
    """Blocks by number."""

    def __cinit__(self):
        self.fd = -1
        self.scratch_fd = -1
        self.end = META_BLOCKS
        self.hand = META_BLOCKS
        self.may_grow = True
        self.marks = Arena()

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        if self.scratch_fd >= 0:
            close(self.scratch_fd)

    def set_up(self, fd, scratch_fd, blocks, store_id, system):
        """Use these descriptors, which belong to this object from now on, for a file of so many blocks."""
        start: uint32_t = max(blocks, cython.cast(uint32_t, META_BLOCKS))
        if self.marks.reserve(start) != 0:
            raise MemoryError("no memory for the blocks of an index")
        self.fd = fd
        self.scratch_fd = scratch_fd
        self.system = system
        self.seed = crc32c_extend(
            0xFFFFFFFF,
            cython.cast(cython.pointer(cython.const[uint8_t]), PyBytes_AS_STRING(store_id)),
            16,
        )
        self.base = start if scratch_fd >= 0 else 0xFFFFFFFF
        self.end = start
        self.hand = META_BLOCKS
        self.marks.used = start
        memset(self.marks.data, 0, start)
        memset(self.marks.data, BLOCK_USED | BLOCK_HELD, META_BLOCKS)
        self.free_count = start - META_BLOCKS
        if scratch_fd >= 0:
            # What is on disk stays as it is.
            self.is_held = True
            memset(self.marks.data, BLOCK_USED | BLOCK_HELD, start)
            self.free_count = 0
        return 0

    def ensure(self, count):
        if self.free_count >= count:
            return 0
        return self._grow(count - self.free_count)

    def _grow(self, count):
        step: uint64_t = min(max(GROWTH_MIN, cython.cast(uint64_t, self.end) >> 3), GROWTH_MAX)
        start: uint64_t = self.end
        is_scratch: cython.bint = self.end >= self.base
        step = max(step, count)
        if not self.may_grow:
            self.error = ENOSPC
            return -1
        if self.end + step > BLOCKS_MAX:
            self.error = EFBIG
            return -1
        if self.marks.reserve(step) != 0:
            self.error = ENOMEM
            return -1
        if start == META_BLOCKS:
            # The first growth makes room for the blocks that are always there as well.
            start = 0
        if is_scratch:
            start = self.end - self.base
        self.error = self._allocate(
            self.scratch_fd if is_scratch else self.fd,
            start * BLOCK_BYTES,
            (self.end - (self.base if is_scratch else 0) + step - start) * BLOCK_BYTES,
        )
        if self.error != 0:
            return -1
        memset(self.marks.data + self.end, 0, step)
        self.marks.used += step
        self.end += cython.cast(uint32_t, step)
        self.free_count += cython.cast(uint32_t, step)
        return 0

    def _allocate(self, fd, offset, size):
        if self.system is not None:
            with cython.gil:
                return self._allocate_by_system(fd, offset, size)
        return posix_fallocate(fd, offset, size)

    def _allocate_by_system(self, fd, offset, size):
        try:
            self.system.allocate(fd, offset, size)
        except OSError as error:
            return error.errno or EIO
        except MemoryError:
            return ENOMEM
        return 0

    def take(self, is_held):
        marks: Marks
        block: uint32_t
        if self.ensure(1) != 0:
            return 0
        # The lowest, so that the end of the file comes to be free.
        marks = self.marks.data
        block = cython.cast(
            uint32_t,
            cython.cast(Marks, memchr(marks + self.hand, 0, self.end - self.hand)) - marks,
        )
        self.hand = block
        marks[block] = (BLOCK_USED | BLOCK_HELD) if is_held else BLOCK_USED
        self.free_count -= 1
        return block

    def release(self, block):
        marks: Marks = self.marks.data
        if marks[block] & BLOCK_HELD:
            marks[block] |= BLOCK_LEAVING
        else:
            marks[block] = 0
            self.free_count += 1
            self.hand = min(self.hand, block)

    def drop(self, block):
        marks: Marks = self.marks.data
        marks[block] |= BLOCK_GONE

    def claim(self, block):
        if block < META_BLOCKS or block >= self.end:
            return -1
        if block < self.base and self.scratch_fd >= 0:
            return 0
        if self.marks.data[block] != 0:
            return -1
        self.marks.data[block] = BLOCK_USED | BLOCK_HELD
        self.is_held = True
        self.free_count -= 1
        return 0

    def hold_all(self):
        marks: Marks = self.marks.data
        block: uint32_t
        mark: uint8_t
        self.is_held = True
        for block in range(self.end):
            mark = marks[block]
            marks[block] = (
                (mark & (BLOCK_USED | BLOCK_HELD | BLOCK_GONE))
                | ((mark & BLOCK_USED) << 1)
                | ((mark & BLOCK_LEAVING) << 1)
            )

    def free_gone(self):
        marks: Marks = self.marks.data
        block: uint32_t
        for block in range(META_BLOCKS, self.end):
            if marks[block] & BLOCK_GONE:
                marks[block] = 0
                self.free_count += 1
        self.hand = META_BLOCKS
        self._cut_tail()

    def seal(self, block, data):
        checksum: uint32_t
        number: uint64_t = block
        checksum = crc32c_extend(
            self.seed, cython.cast(cython.pointer(uint8_t), cython.address(number)), cython.sizeof(uint64_t)
        )
        checksum = ~crc32c_extend(checksum, data + 4, BLOCK_BYTES - 4)
        memcpy(data, cython.address(checksum), 4)
        return checksum

    def put(self, block, data, count):
        fd: cython.int = self.fd
        offset: uint64_t = cython.cast(uint64_t, block) * BLOCK_BYTES
        size: uint64_t = cython.cast(uint64_t, count) * BLOCK_BYTES
        done: uint64_t = 0
        put: cython.Py_ssize_t
        if block >= self.base:
            fd = self.scratch_fd
            offset -= cython.cast(uint64_t, self.base) * BLOCK_BYTES
        if self.system is not None:
            with cython.gil:
                return self._write_by_system(fd, data, size, offset)
        while done < size:
            put = pwrite(fd, data + done, size - done, offset + done)
            if put < 0 and errno == EINTR:
                continue
            if put <= 0:
                return errno if put < 0 else EIO
            done += put
        return 0

    def write(self, block, data):
        self.seal(block, data)
        self.error = self.put(block, data, 1)
        self.blocks_written += 1
        return self.error == 0

    def _write_by_system(self, fd, data, size, offset):
        try:
            self.system.write_at(fd, cython.cast(cython.p_char, data)[:size], offset)
        except OSError as error:
            return error.errno or EIO
        except MemoryError:
            return ENOMEM
        return 0

    def read(self, block, data, sum):
        checksum: uint32_t
        stored: uint32_t
        number: uint64_t = block
        fd: cython.int = self.fd
        offset: uint64_t = number * BLOCK_BYTES
        done: uint64_t = 0
        got: cython.Py_ssize_t
        if block >= self.base:
            fd = self.scratch_fd
            offset -= cython.cast(uint64_t, self.base) * BLOCK_BYTES
        while done < BLOCK_BYTES:
            got = pread(fd, data + done, BLOCK_BYTES - done, offset + done)
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                # A file that is too short is damaged, like any other.
                self.error = errno if got < 0 else EBADMSG
                return False
            done += got
        self.blocks_read += 1
        checksum = crc32c_extend(
            self.seed, cython.cast(cython.pointer(uint8_t), cython.address(number)), cython.sizeof(uint64_t)
        )
        checksum = ~crc32c_extend(checksum, data + 4, BLOCK_BYTES - 4)
        memcpy(cython.address(stored), data, 4)
        if checksum != stored or checksum != sum:
            self.error = EBADMSG
            return False
        return True

    def ask_for(self, block):
        """Have the system read the block; one that is in the other file is in memory as likely as not."""
        if block < self.base:
            posix_fadvise(
                self.fd, cython.cast(uint64_t, block) * BLOCK_BYTES, BLOCK_BYTES, POSIX_FADV_WILLNEED
            )

    def empty(self):
        """No block is used any more but by the last checkpoint, if there is one."""
        marks: Marks = self.marks.data
        block: uint32_t
        is_held: cython.bint = False
        for block in range(META_BLOCKS, self.end):
            if marks[block] & BLOCK_HELD:
                marks[block] |= BLOCK_LEAVING
                is_held = True
            elif marks[block] != 0:
                marks[block] = 0
                self.free_count += 1
        self.hand = META_BLOCKS
        if is_held or self.fd < 0:
            return
        self._cut(0)

    def let_go(self):
        marks: Marks = self.marks.data
        block: uint32_t
        for block in range(META_BLOCKS, self.end):
            if marks[block] & (BLOCK_LEAVING | BLOCK_GONE):
                marks[block] = 0
                self.free_count += 1
            else:
                marks[block] &= BLOCK_USED
        self.is_held = False
        self.hand = META_BLOCKS
        self._cut_tail()

    def _cut_tail(self):
        """Give the free end of the file back to the disk, if it is worth the call."""
        end: uint32_t = self.end
        while end > META_BLOCKS and self.marks.data[end - 1] == 0:
            end -= 1
        if self.end - end > max(cython.cast(uint32_t, GROWTH_MIN), self.end >> 2):
            self._cut(end)

    def _cut(self, blocks):
        """Let the file end here. What cannot be cut stays allocated, and is used again."""
        end: uint32_t = max(blocks, cython.cast(uint32_t, META_BLOCKS))
        if self.system is not None:
            with cython.gil:
                try:
                    self.system.truncate(self.fd, blocks * BLOCK_BYTES)
                except (OSError, MemoryError):
                    return
        elif ftruncate(self.fd, cython.cast(uint64_t, blocks) * BLOCK_BYTES) != 0:
            return
        self.free_count -= self.end - end
        self.end = end
        self.marks.used = end
