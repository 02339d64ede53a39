"""Where the bytes of a file are read from without the GIL: a mapping, or any object with the buffer protocol.

A source keeps its owner alive. Invariant: `data` is followed only between `begin()` and `end()`, which keep a
mapping's pages in place even when it is closed meanwhile; `begin()` on a closed mapping is a ValueError, so
what outlives a mapping fails with an exception and never with a fault.
"""

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.flash_kv.io.mapping_cy import Mapping
from cython.cimports.libc.stdint import uint8_t


@cython.final
@cython.cclass
class Source:
    """Made of a `Mapping` or of bytes-like memory aligned to 8 bytes; TypeError for anything else."""

    def __cinit__(self, owner):
        if isinstance(owner, Mapping):
            self._mapping = owner
            if self._mapping.data == cython.NULL:
                raise ValueError("the mapping is closed")
            self.data = self._mapping.data
            self.size = self._mapping.size
            return
        PyObject_GetBuffer(owner, cython.address(self._buffer), PyBUF_SIMPLE)
        self._has_buffer = True
        self.data = cython.cast(cython.pointer(cython.const[uint8_t]), self._buffer.buf)
        self.size = self._buffer.len
        if cython.cast(cython.size_t, self.data) % 8 != 0:
            raise ValueError("the memory is not aligned to 8 bytes: copy it into a bytes object")

    def __dealloc__(self):
        if self._has_buffer:
            PyBuffer_Release(cython.address(self._buffer))

    def begin(self):
        """Until `end()` the bytes stay where they are. Requires: GIL held."""
        if self._mapping is not None:
            if self._mapping.data == cython.NULL:
                raise ValueError("the mapping is closed")
            self._mapping._begin()
        return 0

    def end(self):
        if self._mapping is not None:
            self._mapping._end()
        return 0
