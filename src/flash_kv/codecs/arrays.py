"""Codecs of arrays, read where they lie in the log: numpy's and Arrow's.

A numpy array is stored as a `.npy` file of format 1.0: a header that ends at a
multiple of 64 bytes from the value's beginning, then the elements. An Arrow table is stored as an IPC stream.
"""

from __future__ import annotations

import functools
import io
import math
from typing import TYPE_CHECKING, Any

from flash_kv.codecs.codec import Codec, import_library

if TYPE_CHECKING:
    import numpy
    import pyarrow

# Magic and version, then the size of the rest of the header.
_SIZE_END = 10
# What numpy reads.
_HEAD_BYTES_MAX = 10_000
_HEADERS_CACHED = 256


class NumPy(Codec["numpy.ndarray[Any, Any]"]):
    """Arrays of any shape and of any dtype but objects (extra `numpy`).

    What is read is a read-only array over the log itself, whatever its size: it is valid as long as it lives, also
    after the value is overwritten and the store closed. `array.copy()` may be written to. Its elements need not be
    aligned; numpy does not mind.
    """

    name = "numpy"
    reads_in_place = True

    def __init__(self) -> None:
        self._numpy = import_library("numpy", self.name, "numpy")
        self._format = import_library("numpy.lib.format", self.name, "numpy")
        # To parse a header takes longer than all the rest, and a store has few different ones.
        self._read_header = functools.lru_cache(_HEADERS_CACHED)(self._parse_header)

    def encode(self, value: numpy.ndarray[Any, Any]) -> bytearray:
        """As numpy.save does it, without pickles."""
        # Its subclasses are more than their elements: a masked array would lose its mask.
        if type(value) is not self._numpy.ndarray:
            raise TypeError("it is no plain numpy.ndarray")
        if value.dtype.hasobject:
            raise TypeError("an array of objects would have to be pickled")
        description = self._format.header_data_from_array_1_0(value)
        head = io.BytesIO()
        self._format.write_array_header_1_0(head, description)
        offset = head.tell()
        if offset > _HEAD_BYTES_MAX:
            raise ValueError(f"its dtype takes {offset} bytes to describe, more than {_HEAD_BYTES_MAX}")
        data = bytearray(offset + value.nbytes)
        data[:offset] = head.getbuffer()
        order: Any = "F" if description["fortran_order"] else "C"
        self._numpy.ndarray(value.shape, value.dtype, data, offset, order=order)[...] = value
        return data

    def decode(self, data: memoryview) -> numpy.ndarray[Any, Any]:
        """An array over `data`."""
        offset = _SIZE_END + int.from_bytes(data[_SIZE_END - 2 : _SIZE_END], "little")
        if offset > len(data):
            raise ValueError("it ends in the middle of its header")
        shape, is_fortran, dtype = self._read_header(bytes(data[:offset]))
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - offset:
            raise ValueError("its header does not fit its elements")
        array: numpy.ndarray[Any, Any] = self._numpy.ndarray(
            shape, dtype, data, offset, order="F" if is_fortran else "C"
        )
        return array

    def _parse_header(self, head: bytes) -> tuple[tuple[int, ...], bool, numpy.dtype[Any]]:
        file = io.BytesIO(head)
        if self._format.read_magic(file) != (1, 0):
            raise ValueError("its header is of another version")
        header: tuple[tuple[int, ...], bool, numpy.dtype[Any]] = self._format.read_array_header_1_0(file)
        return header


class Arrow(Codec["pyarrow.Table"]):
    """Tables (extra `arrow`); a record batch is stored as the table of its rows.

    What is read is a table over the log itself: nothing is copied. It is checked first (`Table.validate`), in full
    unless `is_trusted`: that takes time with the number of texts and lists in it, but not with that of numbers, and is
    what keeps a forged table from being read beyond its end.
    """

    name = "arrow"
    reads_in_place = True

    def __init__(self, *, is_trusted: bool = False) -> None:
        self._pyarrow = import_library("pyarrow", self.name, "arrow")
        self._is_trusted = is_trusted

    def encode(self, value: pyarrow.Table) -> Any:
        """An IPC stream."""
        if not isinstance(value, (self._pyarrow.Table, self._pyarrow.RecordBatch)):
            raise TypeError("it is no pyarrow.Table")
        sink = self._pyarrow.BufferOutputStream()
        with self._pyarrow.ipc.new_stream(sink, value.schema) as stream:
            stream.write(value)
        return sink.getvalue()

    def decode(self, data: memoryview) -> pyarrow.Table:
        """A table over `data`."""
        with self._pyarrow.ipc.open_stream(self._pyarrow.py_buffer(data)) as stream:
            table = stream.read_all()
        table.validate(full=not self._is_trusted)
        return table
