"""A shared mapping of a file: the bytes that compiled modules read and write in place.

Invariants: `data` points at `size` mapped bytes or is NULL; every method checks its range against `size`.
`close()` takes the bytes away at once for new calls, and unmaps when the last call that runs without the
GIL has ended, so that a close in another thread never pulls pages from under a copy. Compiled callers that
follow `data` themselves keep the mapping open for as long. `MappedBytes` keeps it open for whoever reads in place.

The kernel answers a touch of a page beyond the end of the file, or of a hole that a full disk cannot back,
with SIGBUS: map only what was allocated (`System.allocate`) and never truncate below a live mapping.
"""

import errno as errno_codes
import os
import sys

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.memoryview import PyMemoryView_FromObject
from cython.cimports.flash_kv.io.mapping_cy import (
    MAP_FAILED,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    madvise,
    mmap,
    munmap,
)
from cython.cimports.libc.errno import errno
from cython.cimports.libc.stdint import uint8_t
from cython.cimports.libc.string import memcpy

# Linux 5.14: makes the pages present and writable, and reports a full disk as an error instead of a SIGBUS.
MADV_POPULATE_WRITE = cython.declare(cython.int, 23)
# Linux: random reads through pages of 2 MiB miss the TLB less. File systems whose page cache knows none ignore it.
MADV_HUGEPAGE = cython.declare(cython.int, 14)
HUGE_PAGE_BYTES = cython.declare(cython.size_t, 2 << 20)
IS_LINUX = cython.declare(cython.bint, sys.platform == "linux")

# Copies from this size on run without the GIL; below, giving it up costs more than the copy.
NOGIL_BYTES_MIN = cython.declare(cython.size_t, 64 * 1024)

BYTE_FORMAT = cython.declare(cython.p_char, "B")


@cython.cclass
class Mapping:
    """Made by `map_file` only."""

    def __dealloc__(self):
        if self._base != cython.NULL:
            munmap(self._base, self._base_size)

    @property
    def is_closed(self) -> bool:
        return self.data == cython.NULL

    @property
    def is_writable(self) -> bool:
        return self._is_writable

    def _begin(self):
        """Requires: GIL held, not closed. Until `_end` the pages stay mapped."""
        self._calls += 1

    def _end(self):
        self._calls -= 1
        if self._calls == 0 and self.data == cython.NULL:
            self._unmap()
        return 0

    def _unmap(self):
        base: cython.pointer(uint8_t) = self._base
        base_size: cython.size_t = self._base_size
        result: cython.int
        error: cython.int
        if base == cython.NULL:
            return 0
        self._base = cython.NULL
        with cython.nogil:
            result = munmap(base, base_size)
            error = errno
        if result != 0:
            raise OSError(error, f"munmap: {os.strerror(error)}")
        return 0

    def _check(self, offset, size):
        if self.data == cython.NULL:
            raise ValueError("the mapping is closed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise IndexError(
                f"bytes {offset} to {offset + size} are outside the mapping of {self.size} bytes"
            )
        return 0

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes at `offset`. IndexError outside the mapping, ValueError once closed."""
        self._check(offset, size)
        count: cython.size_t = size
        source: cython.pointer(uint8_t) = self.data + cython.cast(cython.size_t, offset)
        result: bytes = PyBytes_FromStringAndSize(cython.NULL, count)
        target: cython.p_char = PyBytes_AS_STRING(result)
        if count < NOGIL_BYTES_MIN:
            memcpy(target, source, count)
            return result
        self._begin()
        with cython.nogil:
            memcpy(target, source, count)
        self._end()
        return result

    def write(self, offset: int, data) -> None:
        """Copy bytes-like `data` to `offset`. PermissionError unless mapped writable; nothing is synced."""
        buffer: cython.Py_buffer
        target: cython.pointer(uint8_t)
        if not self._is_writable:
            raise PermissionError(errno_codes.EACCES, "the mapping is read-only")
        PyObject_GetBuffer(data, cython.address(buffer), PyBUF_SIMPLE)
        try:
            self._check(offset, buffer.len)
            target = self.data + cython.cast(cython.size_t, offset)
            if cython.cast(cython.size_t, buffer.len) < NOGIL_BYTES_MIN:
                memcpy(target, buffer.buf, buffer.len)
                return
            self._begin()
            with cython.nogil:
                memcpy(target, buffer.buf, buffer.len)
            self._end()
        finally:
            PyBuffer_Release(cython.address(buffer))

    def advise_populate_write(self, offset: int, size: int) -> bool:
        """Make the pages of the range present and writable now, without the GIL.

        False where the kernel cannot (before Linux 5.14): the pages then come one fault at a time.
        `offset` is a multiple of the page size. OSError (EFAULT) where a plain store would be a SIGBUS.
        """
        self._check(offset, size)
        if not self._is_writable:
            raise PermissionError(errno_codes.EACCES, "the mapping is read-only")
        start: cython.pointer(uint8_t) = self.data + cython.cast(cython.size_t, offset)
        count: cython.size_t = size
        result: cython.int
        error: cython.int
        self._begin()
        with cython.nogil:
            result = madvise(start, count, MADV_POPULATE_WRITE)
            error = errno
        self._end()
        if result == 0:
            return True
        if error == errno_codes.EINVAL:
            return False
        raise OSError(error, f"madvise: {os.strerror(error)}")

    def close(self) -> None:
        """Unmap, at once or when the last running call ends. Closing twice is fine."""
        if self.data == cython.NULL:
            return
        self.data = cython.NULL
        self.size = 0
        if self._calls == 0:
            self._unmap()


@cython.final
@cython.no_gc_clear
@cython.cclass
class MappedBytes:
    """The claim behind `memory_of`: while anything looks at the bytes or keeps this, `close()` leaves them mapped.

    It gives its buffer once, to `memory_of`: from there on only slices are passed on, and `memoryview.obj` leads nobody
    to bytes beyond them, some of which no file stands behind.
    """

    def __cinit__(self, mapping: Mapping):
        mapping._check(0, 0)
        self._mapping = mapping

    def __getbuffer__(self, buffer: cython.pointer(cython.Py_buffer), flags: cython.int):
        if self._is_given or flags & PyBUF_WRITABLE == PyBUF_WRITABLE:
            raise BufferError("the bytes of a mapping are passed on in slices, read-only")
        self._is_given = True
        self._mapping._begin()
        buffer.buf = self._mapping.data
        buffer.obj = self
        buffer.len = self._mapping.size
        buffer.readonly = 1
        buffer.itemsize = 1
        buffer.ndim = 1
        buffer.format = BYTE_FORMAT
        buffer.shape = cython.address(buffer.len)
        buffer.strides = cython.address(buffer.itemsize)
        buffer.suboffsets = cython.NULL
        buffer.internal = cython.NULL

    def __dealloc__(self):
        # Not when the buffer is released: numpy.ndarray(buffer=view), for one, lets go of the buffer at once, keeps
        # `view.obj` for it, and goes on looking at the bytes.
        if self._is_given:
            self._mapping._end()


def memory_of(mapping: Mapping) -> memoryview:
    """All of a mapping as a read-only memoryview, to be sliced. It and its slices outlive `mapping.close()`."""
    return PyMemoryView_FromObject(MappedBytes(mapping))


def map_file(fd: int, size: int, writable: bool, offset: int = 0) -> Mapping:
    """Map `size` bytes of the file at `offset` (a multiple of the page size), shared with other processes.

    OSError as mmap(2) reports it; ValueError for a size that no file can have. The descriptor may be closed
    afterwards.
    """
    if size <= 0 or offset < 0 or offset + size > 2**62:
        raise ValueError(f"cannot map {size} bytes at offset {offset}")
    descriptor: cython.int = fd
    count: cython.size_t = size
    start: cython.longlong = offset
    protection: cython.int = PROT_READ | PROT_WRITE if writable else PROT_READ
    address: cython.p_void
    error: cython.int
    # Made first: once the pages are mapped nothing between here and their owner may fail.
    mapping: Mapping = Mapping()
    with cython.nogil:
        address = mmap(cython.NULL, count, protection, MAP_SHARED, descriptor, start)
        error = errno
    if address == MAP_FAILED:
        raise OSError(error, f"mmap: {os.strerror(error)}")
    if IS_LINUX and count >= HUGE_PAGE_BYTES:
        madvise(address, count, MADV_HUGEPAGE)
    mapping.data = mapping._base = cython.cast(cython.pointer(uint8_t), address)
    mapping.size = mapping._base_size = count
    mapping._is_writable = writable
    return mapping
