"""FlatBuffers tables, read where they lie in the log.

A table is a view: to read one field of it touches that field's bytes and no others, however large the table is.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar, cast

from flash_kv.codecs.codec import Codec, import_library

Table = TypeVar("Table")

_OFFSET = struct.Struct("<I")
_SIGNED = struct.Struct("<i")
_SIZE = struct.Struct("<H")


class FlatBuffers(Codec[Table]):
    """Tables of one class, as the FlatBuffers compiler generates it for Python (extra `flatbuffers`).

    What is read is such a table over the log itself, valid as long as it lives. A value to store is a table, which
    `root` makes of a builder that is finished or of the bytes of one.

    The root of a value is checked when it is read. FlatBuffers has no verifier for Python, so what a forged value has
    further in is met when a field is read: as `struct.error`, or as another field's bytes, never beyond the value.
    """

    name = "flatbuffers"
    reads_in_place = True

    def __init__(self, table: type[Table]) -> None:
        self._library = import_library("flatbuffers", self.name, "flatbuffers")
        if not callable(getattr(table, "GetRootAs", None)):
            raise TypeError(f"{table!r} is no table class: it has no GetRootAs")
        self._class = table

    def root(self, finished: Any) -> Table:
        """The table in a `flatbuffers.Builder` that is finished, or in the bytes of one. ValueError: there is none."""
        if isinstance(finished, self._library.Builder):
            finished = finished.Output()
        return self.decode(memoryview(finished))

    def encode(self, value: Table) -> memoryview:
        """The bytes that it is a view of. ValueError unless it is their root."""
        if not isinstance(value, self._class):
            raise TypeError(f"it is no {self._class.__name__}: `root` makes one of a builder")
        view = cast("Any", value)._tab
        data = memoryview(view.Bytes)
        if _require_root(data) != view.Pos:
            raise ValueError("it is a part of another table, not a value of its own")
        return data

    def decode(self, data: memoryview) -> Table:
        """The table that begins `data`."""
        _require_root(data)
        table: Table = cast("Any", self._class).GetRootAs(data, 0)
        return table


def _require_root(data: memoryview) -> int:
    """Where the root table is; ValueError unless it, its list of fields and its own bytes lie within `data`."""
    size = data.nbytes
    if size < 8:
        raise ValueError(f"{size} bytes are too few for a table")
    (root,) = _OFFSET.unpack_from(data, 0)
    if not 4 <= root <= size - 4:
        raise ValueError("its root lies outside of it")
    fields = root - _SIGNED.unpack_from(data, root)[0]
    if not 4 <= fields <= size - 4:
        raise ValueError("the list of its fields lies outside of it")
    (fields_size,) = _SIZE.unpack_from(data, fields)
    (table_size,) = _SIZE.unpack_from(data, fields + 2)
    if fields_size < 4 or fields_size % 2 or fields + fields_size > size or root + table_size > size:
        raise ValueError("its fields reach beyond its end")
    return int(root)
