"""CSV and TSV: a key column and a value column among others.

Bytes that are not UTF-8 pass through unchanged when read; `dump` writes them as base64 columns, on request. A
column whose name ends in `_b64` is base64. Lines end in CR LF when written (RFC 4180), either way when read.
"""

from __future__ import annotations

import base64
import csv
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from flash_kv.cli.exits import BadRow, InputError
from flash_kv.cli.formats.jsonl import BASE64_SUFFIX, text_bytes
from flash_kv.cli.formats.rows import LineReader, ReadOptions
from flash_kv.cli.output import shown

OWN_COLUMNS = ("key", "key_b64"), ("value", "value_b64")


class TableReader:
    """One pair per row. Columns are chosen by name (with a header) or by number, from 1."""

    unit = "line"

    def __init__(self, stream: BinaryIO, options: ReadOptions, delimiter: str) -> None:
        self._lines = LineReader(stream, options.row_bytes_max)
        self._options = options
        self._row_bytes_max = options.row_bytes_max
        self._row_began = self.began = (0, 0)
        # The csv module has one limit for the whole process; its default of 128 KiB is below a value's size.
        csv.field_size_limit(min(options.row_bytes_max, sys.maxsize))
        self._rows = csv.reader(iter(self._next_text, None), delimiter=delimiter, strict=True)
        self._header = self._read_header() if options.has_header else None
        self._key, self._value = self._choose_columns()
        header = self._header or []
        self._base64_columns = {place for place, name in enumerate(header) if name.endswith(BASE64_SUFFIX)}

    @property
    def offset(self) -> int:
        return self._lines.offset

    @property
    def row(self) -> int:
        return self._lines.line

    def resume(self, offset: int, row: int) -> None:
        if offset > self.offset:
            self._lines.resume(offset, row)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        cells = self._next_cells()
        try:
            pair = self._cell(cells, self._key), self._value_of(cells)
        except ValueError as error:
            raise BadRow(str(error), row=self._row_began[1] + 1) from error
        self.began = self._row_began
        return pair

    def _next_text(self) -> str:
        """The next physical line for the csv module, which never reads ahead of a row; a row may span several."""
        line = self._lines.read()
        if not line:
            raise StopIteration
        if self._lines.offset - self._row_began[0] > self._row_bytes_max:
            raise BadRow(
                f"more than {self._row_bytes_max} bytes: close a quote, or raise --row-bytes-max",
                row=self._row_began[1] + 1,
            )
        # Surrogates carry bytes that are not UTF-8 through the csv module and back, unchanged.
        return line.decode("utf-8", "surrogateescape")

    def _next_cells(self) -> list[str]:
        while True:
            self._row_began = self._lines.offset, self._lines.line
            try:
                cells = next(self._rows)
            except csv.Error as error:
                raise BadRow(f"not a row of this format: {error}", row=self._row_began[1] + 1) from error
            if cells:
                return cells

    def _read_header(self) -> list[str]:
        try:
            return self._next_cells()
        except StopIteration:
            return []

    def _choose_columns(self) -> tuple[int, int | None]:
        options, header = self._options, self._header
        if options.key_field is None and options.value_field is None and header:
            extra = [name for name in header if name not in OWN_COLUMNS[0] + OWN_COLUMNS[1]]
            if extra:
                raise InputError(
                    f"line 1: column {extra[0]!r} would be lost; choose columns with --key and --value "
                    "(names or numbers), or say --no-header"
                )
        key = self._column(options.key_field, OWN_COLUMNS[0], 1, "--key")
        if options.value_field is None and options.key_field is not None:
            return key, None
        return key, self._column(options.value_field, OWN_COLUMNS[1], 2, "--value")

    def _column(self, name: str | None, own: tuple[str, ...], number: int, option: str) -> int:
        header = self._header
        if name is None and header is None:
            return number - 1
        if header is None:
            if name is None or not name.isdecimal() or int(name) < 1:
                raise InputError(f"without a header {option} must be a column's number, from 1: not {name!r}")
            return int(name) - 1
        if not header:
            return number - 1
        for candidate in own if name is None else (name,):
            if candidate in header:
                return header.index(candidate)
        if name is not None and name.isdecimal() and 1 <= int(name) <= len(header):
            return int(name) - 1
        wanted = name if name is not None else own[0]
        raise InputError(
            f"line 1: no column {wanted!r}; there are {', '.join(map(repr, header))}: "
            f"choose with {option} NAME or number, or say --no-header"
        )

    def _name(self, column: int) -> str:
        return self._header[column] if self._header else ""

    def _cell(self, cells: list[str], column: int) -> bytes:
        if column >= len(cells):
            raise ValueError(f"{len(cells)} columns, column {column + 1} is missing")
        if column in self._base64_columns:
            return text_bytes(self._name(column), cells[column])
        return cells[column].encode("utf-8", "surrogateescape")

    def _value_of(self, cells: list[str]) -> bytes:
        if self._value is not None:
            return self._cell(cells, self._value)
        whole: Any = cells
        if self._header is not None:
            if len(cells) != len(self._header):
                raise ValueError(f"{len(cells)} columns, the header has {len(self._header)}")
            whole = dict(zip(self._header, cells, strict=True))
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


class TableWriter:
    """A header, then one row per record; bytes that are not UTF-8 need `is_base64`."""

    def __init__(self, stream: BinaryIO, delimiter: str, *, is_base64: bool, has_value: bool) -> None:
        self._stream = stream
        self._is_base64 = is_base64
        self._texts = _Catch([])
        # CR LF makes the csv module quote a lone CR too, without which the row could not be read back.
        self._rows = csv.writer(self._texts, delimiter=delimiter, lineterminator="\r\n")
        suffix = BASE64_SUFFIX if is_base64 else ""
        self._put(["key" + suffix, "value" + suffix] if has_value else ["key" + suffix])

    def write(self, key: bytes, value: bytes | None) -> int:
        fields = [key] if value is None else [key, value]
        return self._put([self._spelled(key, field) for field in fields])

    def _put(self, cells: list[str]) -> int:
        self._rows.writerow(cells)
        row = self._texts.rows.pop().encode("utf-8")
        self._stream.write(row)
        return len(row)

    def _spelled(self, key: bytes, field: bytes) -> str:
        if self._is_base64:
            return base64.b64encode(field).decode("ascii")
        try:
            return field.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"the record of key {shown(key, limit=60)} is not UTF-8 text: "
                "add --base64-fields, or choose --format jsonl or binary"
            ) from error


class _Catch:
    """Where the csv module writes its rows, one call each."""

    def __init__(self, rows: list[str]) -> None:
        self.rows = rows
        self.write = rows.append
