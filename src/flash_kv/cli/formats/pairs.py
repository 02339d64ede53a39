"""Two binary formats of bare pairs: NUL-delimited and length-delimited.

    nul:     key NUL value NUL            for keys and values without a NUL byte
    binary:  u32le key size | u32le value size | key | value        any bytes

Both can be joined with `cat`; neither has a header. A lost frame cannot be found again, so that a damaged
input of `binary` stops the load even with `--on-error skip`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from flash_kv.cli.exits import BadRow, InputError
from flash_kv.cli.formats.rows import ReadOptions, move_forward
from flash_kv.cli.output import shown

SIZES = struct.Struct("<II")
BUFFER_BYTES = 1 << 18


class BinaryReader:
    """Length-delimited pairs."""

    unit = "record"

    def __init__(self, stream: BinaryIO, options: ReadOptions) -> None:
        self._stream = stream
        self._row_bytes_max = options.row_bytes_max
        self.offset = 0
        self.row = 0
        self.began = (0, 0)

    def resume(self, offset: int, row: int) -> None:
        move_forward(self._stream, offset - self.offset)
        self.offset, self.row = offset, row

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        head = self._stream.read(SIZES.size)
        if not head:
            raise StopIteration
        self.row += 1
        if len(head) < SIZES.size:
            raise self._torn("the input ends inside the sizes of a record")
        key_size, value_size = SIZES.unpack(head)
        if key_size + value_size > self._row_bytes_max:
            raise self._torn(
                f"a record of {key_size} + {value_size} bytes: this is no length-delimited input, "
                "or raise --row-bytes-max"
            )
        key, value = self._stream.read(key_size), self._stream.read(value_size)
        if len(key) + len(value) < key_size + value_size:
            raise self._torn("the input ends inside a record")
        self.began = self.offset, self.row - 1
        self.offset += SIZES.size + key_size + value_size
        return key, value

    def _torn(self, reason: str) -> BadRow:
        return BadRow(f"{reason} (offset {self.offset})", row=self.row, unit=self.unit, is_fatal=True)


class NulReader:
    """NUL-delimited pairs."""

    unit = "record"

    def __init__(self, stream: BinaryIO, options: ReadOptions) -> None:
        self._stream = stream
        self._row_bytes_max = options.row_bytes_max
        self._buffer = bytearray()
        self._taken = 0
        self.offset = 0
        self.row = 0
        self.began = (0, 0)

    def resume(self, offset: int, row: int) -> None:
        move_forward(self._stream, offset - self.offset)
        self.offset, self.row = offset, row

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        self.row += 1
        key = self._field()
        if key is None:
            self.row -= 1
            raise StopIteration
        value = self._field()
        if value is None:
            raise self._torn("the input ends between a key and its value")
        self.began = self.offset, self.row - 1
        self.offset += len(key) + len(value) + 2
        return key, value

    def _field(self) -> bytes | None:
        searched = self._taken
        while (end := self._buffer.find(0, searched)) < 0:
            del self._buffer[: self._taken]
            self._taken = 0
            searched = len(self._buffer)
            if searched > self._row_bytes_max:
                raise self._torn(f"no NUL in {searched} bytes: not NUL-delimited, or raise --row-bytes-max")
            piece = self._stream.read(BUFFER_BYTES)
            if not piece:
                if self._buffer:
                    raise self._torn("the input ends without the NUL that ends a field")
                return None
            self._buffer += piece
        field = bytes(self._buffer[self._taken : end])
        self._taken = end + 1
        return field

    def _torn(self, reason: str) -> BadRow:
        return BadRow(f"{reason} (offset {self.offset})", row=self.row, unit=self.unit, is_fatal=True)


class BinaryWriter:
    """Length-delimited pairs; a key alone has an empty value."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, key: bytes, value: bytes | None) -> int:
        body = value or b""
        self._stream.write(SIZES.pack(len(key), len(body)) + key)
        self._stream.write(body)
        return SIZES.size + len(key) + len(body)


class NulWriter:
    """NUL-delimited pairs, or NUL-delimited keys."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, key: bytes, value: bytes | None) -> int:
        if b"\0" in key or (value is not None and b"\0" in value):
            raise InputError(
                f"the record of key {shown(key, limit=60)} holds a NUL byte: choose --format binary or jsonl"
            )
        row = key + b"\0" if value is None else b"%b\0%b\0" % (key, value)
        self._stream.write(row)
        return len(row)


class LinesWriter:
    """Bare keys, one a line: what shell loops read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, key: bytes, value: bytes | None) -> int:
        if b"\n" in key:
            raise InputError(f"the key {shown(key, limit=60)} holds a newline: choose --format nul or jsonl")
        self._stream.write(key + b"\n")
        return len(key) + 1
