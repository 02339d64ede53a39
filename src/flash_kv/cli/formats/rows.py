"""What every reader of rows is: an iterator of pairs that knows where it stands in its input.

Invariants: after `next()` returned or raised `BadRow`, `offset` is where the next row begins, unless the
error is fatal; a reader never holds more than one row and one buffer, and no row above `row_bytes_max`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from flash_kv.cli.exits import BadRow, InputError

DISCARD_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class RowReader(Protocol):
    """An iterator of (key, value); `offset` in bytes and `row` count from the beginning of the input.

    `began`: offset and row before the last pair that was returned; `resume` takes such a place.
    """

    unit: str
    began: tuple[int, int]

    @property
    def offset(self) -> int: ...

    @property
    def row(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...

    def __next__(self) -> tuple[bytes, bytes]: ...

    def resume(self, offset: int, row: int) -> None:
        """Go on at a place noted by an earlier reader of the same input; only forward."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How rows become pairs; what a format does not know it ignores only when it was not given."""

    key_field: str | None = None
    value_field: str | None = None
    has_header: bool = True
    row_bytes_max: int = 256 << 20


def move_forward(stream: BinaryIO, distance: int) -> None:
    """Skip `distance` bytes of a file or a pipe; `InputError` when the input ends before."""
    if stream.seekable():
        stream.seek(distance, io.SEEK_CUR)
        return
    while distance > 0:
        piece = stream.read(min(distance, DISCARD_BYTES))
        if not piece:
            raise InputError("the input ends before the place an earlier load had reached in it")
        distance -= len(piece)


class LineReader:
    """Lines of a binary stream with their number and offset, none longer than `line_bytes_max`.

    A UTF-8 byte order mark before the first line is no part of it.
    """

    def __init__(self, stream: BinaryIO, line_bytes_max: int) -> None:
        self._stream = stream
        self._line_bytes_max = line_bytes_max
        self.offset = 0
        self.line = 0

    def read(self) -> bytes:
        """The next line with its newline; empty at the end."""
        line = self._stream.readline(self._line_bytes_max + 1)
        if line:
            self.line += 1
            self.offset += len(line)
            if len(line) > self._line_bytes_max and not line.endswith(b"\n"):
                self._leave_line()
                raise BadRow(
                    f"longer than {self._line_bytes_max} bytes; raise --row-bytes-max if that is right",
                    row=self.line,
                )
            if self.line == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
        return line

    def resume(self, offset: int, line: int) -> None:
        move_forward(self._stream, offset - self.offset)
        self.offset = offset
        self.line = line

    def _leave_line(self) -> None:
        while piece := self._stream.readline(DISCARD_BYTES):
            self.offset += len(piece)
            if piece.endswith(b"\n"):
                return
