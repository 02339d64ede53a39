"""The end of the log: puts records together at the tail of the active segment and publishes them.

A record becomes part of the log when its first eight bytes (checksum, kind, flags, sync distance) are stored, as one
word, after all its other bytes: before that the place holds zeros, which end the log. With `io="mmap"` the record is
built in the mapping itself and no system call is made; with `io="file"` it is built in a buffer and written by one
`pwrite`, and a write that failed is taken back by writing zeros over it.

Invariant: nothing is written beyond `limit`, which the file system has allocated, so a full disk is an error before a
record is begun and never a SIGBUS.

Requires: write lock held, for every method.
"""

import cython
from cython.cimports.flash_kv.intrinsics import store_release64
from cython.cimports.flash_kv.io.memory_cy import realloc
from cython.cimports.flash_kv.log.checksum_cy import record_checksum_of
from cython.cimports.flash_kv.log.format import (
    FLAG_ALIGNED,
    HEADER_SIZE,
    KIND_VOID,
    PAD_SHIFT,
    RecordHeader,
    attributes_size,
    pad_for,
    padded_size,
    value_start,
)
from cython.cimports.flash_kv.log.writer_cy import Payload
from cython.cimports.libc.errno import EINTR, EIO, ENOMEM, errno
from cython.cimports.libc.stdint import int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.posix.unistd import pwrite

SYNC_DISTANCE_MAX = cython.declare(uint64_t, 65535)


@cython.cclass
class LogWriter:
    """Appends to the active segment."""

    def __cinit__(self, is_mapped: bool, next_lsn: int, write_hook: object):
        self.is_mapped = is_mapped
        self.align = 1
        self.next_lsn = next_lsn
        self.synced_lsn = next_lsn - 1
        self.write_hook = write_hook
        self.is_stating = True
        self.fd = -1

    def __dealloc__(self):
        free(self.scratch)

    def has_room(self, size):
        return self.ref != cython.NULL and self.tail + size <= self.limit

    def begin(self, size):
        """Where to build `size` bytes; NULL when memory is short (io="file" only)."""
        grown: cython.pointer(uint8_t)
        if self.is_mapped:
            return self.data + self.tail
        if size > self.scratch_size:
            grown = cython.cast(cython.pointer(uint8_t), realloc(self.scratch, size))
            if grown == cython.NULL:
                return cython.NULL
            self.scratch = grown
            self.scratch_size = size
        return self.scratch

    def fill(self, place, key, key_size, pad, payload, lsn):
        """Everything of a record but its first eight bytes, `pad` zeros behind the key; returns its size."""
        header: cython.pointer(RecordHeader) = cython.cast(cython.pointer(RecordHeader), place)
        size: uint64_t = padded_size(key_size, pad, payload.head_size + payload.value_size)
        end: cython.pointer(uint8_t) = place + HEADER_SIZE + key_size
        # The padding is under the checksum and must be zero whatever a failed write left here.
        cython.cast(cython.pointer(uint64_t), place + size - 8)[0] = 0
        header.key_size = key_size
        header.value_size = cython.cast(uint32_t, payload.head_size + payload.value_size)
        header.lsn = lsn
        memcpy(place + HEADER_SIZE, key, key_size)
        if pad:
            memset(end, 0, pad)
            end += pad
        if payload.head_size:
            memcpy(end, payload.head, payload.head_size)
            end += payload.head_size
        if payload.value_size:
            memcpy(end, payload.value, payload.value_size)
        return size

    def fill_aligned(self, place, offset, header, align, flags):
        """As `fill`, from another record, with its value at a multiple of `align` when it stands at `offset`.

        `flags` gets the ones for `seal_record`, and its old ones stay.
        """
        body: cython.pointer(cython.const[uint8_t]) = cython.cast(
            cython.pointer(cython.const[uint8_t]), header
        )
        payload: Payload
        pad: uint64_t = pad_for(offset, header.key_size + attributes_size(header), align)
        payload.head_size = 0
        payload.value = body + value_start(header)
        payload.value_size = header.value_size
        flags[0] |= FLAG_ALIGNED | cython.cast(cython.int, pad << PAD_SHIFT)
        return self.fill(place, body + HEADER_SIZE, header.key_size, pad, cython.address(payload), header.lsn)

    def seal_record(self, place, offset, size, kind, flags):
        """The first eight bytes of the record of `size` bytes built at `place` for `offset`."""
        header: cython.pointer(RecordHeader) = cython.cast(cython.pointer(RecordHeader), place)
        distance: uint64_t = header.lsn - self.synced_lsn
        first: RecordHeader
        word: uint32_t
        result: uint64_t
        if distance > SYNC_DISTANCE_MAX or not self.is_stating:
            distance = 0
        first.kind = kind
        first.flags = flags
        first.sync_distance = cython.cast(uint16_t, distance)
        memcpy(cython.address(word), cython.cast(cython.pointer(uint8_t), cython.address(first)) + 4, 4)
        first.checksum = record_checksum_of(self.seed, offset, word, place + 8, size - 8)
        memcpy(cython.address(result), cython.address(first), 8)
        return result

    def publish(self, place, size, word, records):
        """Make what was built part of the log: 0, or an errno with nothing written that a reopen would find."""
        failure: cython.int
        if self.is_mapped:
            store_release64(cython.cast(cython.pointer(uint64_t), place), word)
        else:
            cython.cast(cython.pointer(uint64_t), place)[0] = word
            failure = self._write(self.fd, place, size, self.tail)
            if failure:
                self._blank(place, size)
                return failure
        self.tail += size
        store_release64(cython.address(self.written), self.written + size)
        store_release64(cython.address(self.ref.used), self.tail)
        store_release64(cython.address(self.next_lsn), self.next_lsn + records)
        return 0

    def unpublish(self, place, size, records):
        """Take back what was just published, before anything else follows it."""
        self.tail -= size
        store_release64(cython.address(self.ref.used), self.tail)
        store_release64(cython.address(self.next_lsn), self.next_lsn - records)
        self._blank(place, size)

    def _blank(self, place, size):
        """Have zeros at the tail again, where `size` bytes were or may have been written.

        All of them, not the first word alone: if the next record goes to the next segment, bytes that are left here
        look like a torn tail, behind which nothing is believed.
        """
        if self.is_mapped:
            store_release64(cython.cast(cython.pointer(uint64_t), place), 0)
            memset(place + 8, 0, size - 8)
            return
        memset(place, 0, size)
        if self._write(self.fd, place, size, self.tail):
            self.is_spoiled = True

    def _write(self, fd, data, size, offset):
        done: uint64_t = 0
        wrote: int64_t
        if self.write_hook is not None:
            with cython.gil:
                return self._write_by_hook(fd, data, size, offset)
        while done < size:
            wrote = pwrite(fd, data + done, size - done, offset + done)
            if wrote < 0:
                if errno == EINTR:
                    continue
                return errno
            if wrote == 0:
                return EIO
            done += wrote
        return 0

    def _write_by_hook(self, fd, data, size, offset):
        try:
            self.write_hook(fd, cython.cast(cython.p_char, data)[:size], offset)
        except OSError as error:
            return error.errno or EIO
        except MemoryError:
            return ENOMEM
        return 0

    def withdraw(self, ref, data, offset, size, lsn):
        """Turn a published record or batch into a void one: its caller was told that it failed. 0 or an errno."""
        header: RecordHeader
        word: uint32_t
        memset(cython.address(header), 0, HEADER_SIZE)
        header.kind = KIND_VOID
        header.value_size = cython.cast(uint32_t, (size - HEADER_SIZE) >> 3)
        header.lsn = lsn
        memcpy(cython.address(word), cython.cast(cython.pointer(uint8_t), cython.address(header)) + 4, 4)
        header.checksum = record_checksum_of(
            ref.seed,
            offset,
            word,
            cython.cast(cython.pointer(uint8_t), cython.address(header)) + 8,
            HEADER_SIZE - 8,
        )
        if self.is_mapped:
            memcpy(data + offset, cython.address(header), HEADER_SIZE)
            return 0
        return self._write(
            ref.fd, cython.cast(cython.pointer(uint8_t), cython.address(header)), HEADER_SIZE, offset
        )
