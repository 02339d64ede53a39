"""JSON lines: `{"key": ..., "value": ...}`, or any objects with `--key` and `--value`.

A field whose name ends in `_b64` is base64: `dump` writes `key_b64` or `value_b64` for bytes that are not
UTF-8, so that a dump loads byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from flash_kv.cli.exits import BadRow
from flash_kv.cli.formats.rows import LineReader, ReadOptions

BASE64_SUFFIX = "_b64"
DECODER = json.JSONDecoder()
ENCODER = json.JSONEncoder(ensure_ascii=False)
OWN_FIELDS = {"key", "key_b64", "value", "value_b64"}


class JsonLinesReader:
    """One pair per line; blank lines are passed over."""

    unit = "line"

    def __init__(self, stream: BinaryIO, options: ReadOptions) -> None:
        self._lines = LineReader(stream, options.row_bytes_max)
        self._options = options
        self._is_own = options.key_field is None and options.value_field is None
        self.began = (0, 0)

    @property
    def offset(self) -> int:
        return self._lines.offset

    @property
    def row(self) -> int:
        return self._lines.line

    def resume(self, offset: int, row: int) -> None:
        self._lines.resume(offset, row)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        lines = self._lines
        while True:
            began = lines.offset, lines.line
            line = lines.read()
            if not line:
                raise StopIteration
            text = line.strip()
            if text:
                try:
                    pair = self._pair(text)
                except (ValueError, RecursionError) as error:
                    raise BadRow(_reason(error), row=self.row) from error
                self.began = began
                return pair

    def _pair(self, line: bytes) -> tuple[bytes, bytes]:
        row = parse_row(line.decode("utf-8"))
        if not isinstance(row, dict):
            raise ValueError(f"a JSON object is expected, not {type(row).__name__}")
        if self._is_own:
            return self._own_pair(row)
        options = self._options
        key_name = options.key_field if options.key_field is not None else _own_name(row, "key")
        if options.value_field is None:
            # The whole object is the value: the very bytes of the line, not a new spelling of them.
            return key_bytes(key_name, _field(row, key_name)), line
        return (
            key_bytes(key_name, _field(row, key_name)),
            value_bytes(options.value_field, _field(row, options.value_field)),
        )

    def _own_pair(self, row: dict[str, Any]) -> tuple[bytes, bytes]:
        key, value = row.get("key"), row.get("value")
        if len(row) == 2 and type(key) is str and type(value) is str:
            return key.encode("utf-8"), value.encode("utf-8")
        if not row.keys() <= OWN_FIELDS or len(row) > 2:
            extra = ", ".join(sorted(row.keys() - OWN_FIELDS)) or "both spellings of one field"
            raise ValueError(f"{extra} would be lost; choose fields with --key and --value")
        key_name, value_name = _own_name(row, "key"), _own_name(row, "value")
        return key_bytes(key_name, row[key_name]), value_bytes(value_name, row[value_name])


def parse_row(text: str) -> Any:
    """`json.loads` of text without surrounding space, without what that does before it begins."""
    row, end = DECODER.raw_decode(text)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return row


def _own_name(row: dict[str, Any], name: str) -> str:
    for candidate in (name, name + BASE64_SUFFIX):
        if candidate in row:
            return candidate
    raise ValueError(f"no field {name!r} or '{name}{BASE64_SUFFIX}'; choose one with --{name}")


def _field(row: dict[str, Any], name: str) -> Any:
    if name not in row:
        raise ValueError(f"no field {name!r}; there are {', '.join(map(repr, row)) or 'none'}")
    return row[name]


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} (column {error.colno})"
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    return str(error)


def key_bytes(name: str, field: Any) -> bytes:
    """A field as a key: a string, base64 by its name, or a whole number as its digits."""
    if isinstance(field, int) and not isinstance(field, bool):
        field = str(field)
    if not isinstance(field, str):
        raise ValueError(f"a key must be a string or a whole number, {name!r} is {json.dumps(field)[:40]}")
    return text_bytes(name, field)


def value_bytes(name: str, field: Any) -> bytes:
    """A field as a value: a string, base64 by its name, or anything else as its JSON text."""
    if isinstance(field, str):
        return text_bytes(name, field)
    if name.endswith(BASE64_SUFFIX):
        raise ValueError(f"{name!r} must be a base64 string")
    return json.dumps(field, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def text_bytes(name: str, text: str) -> bytes:
    """The bytes of a text field: decoded base64 when the field's name says so, else UTF-8."""
    if not name.endswith(BASE64_SUFFIX):
        return text.encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name!r} is not base64: {error}") from error


class JsonLinesWriter:
    """One object per record."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, key: bytes, value: bytes | None) -> int:
        """Write one record (`value=None`: the key alone); the bytes written."""
        fields = (
            _spelled("key", key) if value is None else f"{_spelled('key', key)}, {_spelled('value', value)}"
        )
        line = b"{%b}\n" % fields.encode("utf-8")
        self._stream.write(line)
        return len(line)


def _spelled(name: str, data: bytes) -> str:
    try:
        return f'"{name}": {ENCODER.encode(data.decode("utf-8"))}'
    except UnicodeDecodeError:
        return f'"{name}{BASE64_SUFFIX}": "{base64.b64encode(data).decode("ascii")}"'
