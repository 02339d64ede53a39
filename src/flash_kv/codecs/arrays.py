"""Codecs of arrays, read where they lie in the log: numpy's and Arrow's.

A numpy array is stored as a `.npy` file of format 1.0: a header that ends at a
multiple of 64 bytes from the value's beginning, then the elements. What Arrow has is stored as an IPC stream.
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
# The key in the metadata of an Arrow schema, and what it says of what is no table.
_ARROW_KIND = b"flash_kv.kind"
_RECORD_BATCH = b"record batch"
_ARRAY = b"array"
_CHUNKED_ARRAY = b"chunked array"


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


class Arrow(Codec["pyarrow.Table | pyarrow.RecordBatch | pyarrow.Array | pyarrow.ChunkedArray"]):
    """Tables, record batches, arrays and chunked arrays; what is read is what was stored (extra `arrow`).

    It lies over the log itself: nothing is copied. It is checked first (`validate`), in full unless `is_trusted`: that
    takes time with the number of texts and lists in it, but not with that of numbers, and is what keeps forged bytes
    from being read beyond their end.
    """

    name = "arrow"
    reads_in_place = True

    def __init__(self, *, is_trusted: bool = False) -> None:
        self._pyarrow = import_library("pyarrow", self.name, "arrow")
        self._is_trusted = is_trusted

    def encode(
        self, value: pyarrow.Table | pyarrow.RecordBatch | pyarrow.Array | pyarrow.ChunkedArray
    ) -> Any:
        """An IPC stream; where it is no table's, its schema's metadata says what it is."""
        rows, kind = self._as_rows(value)
        metadata = rows.schema.metadata or {}
        if _ARROW_KIND in metadata:
            raise ValueError(f"the metadata of its schema has the key {_ARROW_KIND!r}, which the codec needs")
        if kind is not None:
            rows = rows.replace_schema_metadata({**metadata, _ARROW_KIND: kind})
        sink = self._pyarrow.BufferOutputStream()
        with self._pyarrow.ipc.new_stream(sink, rows.schema) as stream:
            stream.write(rows)
        return sink.getvalue()

    def _as_rows(self, value: Any) -> tuple[Any, bytes | None]:
        """A table or a record batch, and which other kind it is to be when it is read."""
        arrow = self._pyarrow
        if isinstance(value, arrow.Table):
            return value, None
        if isinstance(value, arrow.RecordBatch):
            return value, _RECORD_BATCH
        if isinstance(value, arrow.Array):
            return arrow.RecordBatch.from_arrays([value], [""]), _ARRAY
        if isinstance(value, arrow.ChunkedArray):
            return arrow.Table.from_arrays([value], [""]), _CHUNKED_ARRAY
        raise TypeError("it is no pyarrow.Table, RecordBatch, Array or ChunkedArray")

    def decode(
        self, data: memoryview
    ) -> pyarrow.Table | pyarrow.RecordBatch | pyarrow.Array | pyarrow.ChunkedArray:
        """Over `data`."""
        with self._pyarrow.ipc.open_stream(self._pyarrow.py_buffer(data)) as stream:
            schema, batches = stream.schema, list(stream)
        for batch in batches:
            batch.validate(full=not self._is_trusted)
        metadata = schema.metadata or {}
        kind = metadata.pop(_ARROW_KIND, None)
        if kind is None:
            return self._pyarrow.Table.from_batches(batches, schema)
        if kind == _CHUNKED_ARRAY:
            return _only(self._pyarrow.Table.from_batches(batches, schema).columns)
        batch = _only(batches)
        if kind == _RECORD_BATCH:
            return batch.replace_schema_metadata(metadata or None)
        if kind == _ARRAY:
            return _only(batch.columns)
        raise ValueError(f"it is of an unknown kind, {kind!r}")


def _only(parts: list[Any]) -> Any:
    if len(parts) != 1:
        raise ValueError(f"it has {len(parts)} parts, not one")
    return parts[0]
