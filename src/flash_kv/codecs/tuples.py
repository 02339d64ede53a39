"""Tuples as keys that sort as Python sorts them (the idea is that of FoundationDB's tuple layer; the bytes are not).

    02  None
    20  a number          numbers.py
    28  bytes             each 00 as 00 ff, then 00
    30  str               its UTF-8, as bytes
    38  naive datetime    microseconds since the year 1, 8 bytes big-endian
    40  aware datetime    the same, in UTC
    48  UUID              16 bytes
    50  a tuple           its elements, then 01
    01  alone: the empty tuple, which as a key of no bytes could not be stored

Elements of different kinds sort in the order of this table, where Python would raise. A tuple sorts before every longer
one that begins with it: 01 and the end of the key are below every kind. No kind is ff, so the keys that begin with a
tuple are those from its bytes up to the same with ff behind, and the 00 of a text cannot be taken for its end.

What is read must be what would have been written: anything else is a ValueError.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from flash_kv.codecs import numbers
from flash_kv.codecs.codec import KeyCodec

TupleKey: TypeAlias = tuple[Any, ...]

DEPTH_MAX = 64

_END, _NONE, _NUMBER, _BYTES, _STR = 0x01, 0x02, 0x20, 0x28, 0x30
_NAIVE, _AWARE, _UUID, _TUPLE = 0x38, 0x40, 0x48, 0x50
_YEAR_1 = datetime(1, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS_MAX = (datetime.max - _YEAR_1) // _MICROSECOND


class TupleKeys(KeyCodec[TupleKey]):
    """Tuples of None, bool, int, float, bytes, str, datetime, UUID and tuples of these, up to 64 deep.

    Equal numbers are one key, as in a dict: `(1,)`, `(1.0,)` and `(True,)`, which is read as `(1,)`. Aware datetimes
    are one key when they are the same instant, and are read in UTC. Refused: NaN, lone surrogates, anything else.
    """

    name = "tuple"

    def encode(self, key: TupleKey) -> bytes:
        """The elements, one behind the other."""
        return self._elements(key) or bytes([_END])

    def decode(self, data: bytes) -> TupleKey:
        """The tuple whose bytes these are."""
        if data == bytes([_END]):
            return ()
        if not data:
            raise ValueError("a key has at least one byte")
        elements = []
        at = 0
        while at < len(data):
            element, at = _decode(data, at, 0)
            elements.append(element)
        return tuple(elements)

    def prefix_range(self, prefix: TupleKey) -> tuple[bytes, bytes | None]:
        """All tuples whose first elements are these."""
        first = self._elements(prefix)
        return first, first + b"\xff"

    @staticmethod
    def _elements(key: TupleKey) -> bytes:
        if not isinstance(key, tuple):
            raise TypeError("it is no tuple: of one element it is written (element,)")
        encoded = bytearray()
        for element in key:
            _encode(element, encoded, 0)
        return bytes(encoded)


def _encode(element: Any, encoded: bytearray, depth: int) -> None:
    if element is None:
        encoded.append(_NONE)
    elif isinstance(element, (int, float)):
        encoded.append(_NUMBER)
        encoded += numbers.encode_number(element)
    elif isinstance(element, str):
        encoded.append(_STR)
        encoded += _escaped(element.encode("utf-8"))
    elif isinstance(element, bytes):
        encoded.append(_BYTES)
        encoded += _escaped(element)
    elif isinstance(element, tuple):
        if depth == DEPTH_MAX:
            raise ValueError(f"tuples are nested more than {DEPTH_MAX} deep")
        encoded.append(_TUPLE)
        for inner in element:
            _encode(inner, encoded, depth + 1)
        encoded.append(_END)
    # Not its subclasses, some of which have nanoseconds.
    elif type(element) is datetime:
        _encode_datetime(element, encoded)
    elif isinstance(element, UUID):
        encoded.append(_UUID)
        encoded += element.bytes
    else:
        raise TypeError(f"a tuple with {type(element).__name__} in it has no encoding")


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\0", b"\0\xff") + b"\0"


def _encode_datetime(moment: datetime, encoded: bytearray) -> None:
    offset = moment.utcoffset()
    microseconds = (moment.replace(tzinfo=None) - _YEAR_1) // _MICROSECOND
    if offset is not None:
        microseconds -= offset // _MICROSECOND
        if not 0 <= microseconds <= _MICROSECONDS_MAX:
            raise ValueError("in UTC it is outside the years 1 to 9999")
    encoded.append(_NAIVE if offset is None else _AWARE)
    encoded += microseconds.to_bytes(8, "big")


def _decode(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The element at `at`, and where it ends."""
    kind = data[at]
    at += 1
    if kind == _NONE:
        return None, at
    if kind == _NUMBER:
        return numbers.decode_number(data, at)
    if kind in (_BYTES, _STR):
        content, at = _unescaped(data, at)
        return (content if kind == _BYTES else content.decode("utf-8")), at
    if kind in (_NAIVE, _AWARE):
        microseconds = int.from_bytes(_take(data, at, 8), "big")
        if microseconds > _MICROSECONDS_MAX:
            raise ValueError("a datetime is outside the years 1 to 9999")
        moment = _YEAR_1 + timedelta(microseconds=microseconds)
        return (moment if kind == _NAIVE else moment.replace(tzinfo=UTC)), at + 8
    if kind == _UUID:
        return UUID(bytes=_take(data, at, 16)), at + 16
    if kind == _TUPLE:
        return _decode_tuple(data, at, depth)
    raise ValueError(f"no element begins with byte {kind:#04x}")


def _decode_tuple(data: bytes, at: int, depth: int) -> tuple[TupleKey, int]:
    if depth == DEPTH_MAX:
        raise ValueError(f"tuples are nested more than {DEPTH_MAX} deep")
    elements: list[Any] = []
    while True:
        if at == len(data):
            raise ValueError("it ends in the middle of a tuple")
        if data[at] == _END:
            return tuple(elements), at + 1
        element, at = _decode(data, at, depth + 1)
        elements.append(element)


def _unescaped(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes from `at` to the 00 that ends them, and what comes behind it."""
    end = at
    while True:
        end = data.find(b"\0", end)
        if end < 0:
            raise ValueError("it ends in the middle of a text")
        if data[end + 1 : end + 2] != b"\xff":
            return data[at:end].replace(b"\0\xff", b"\0"), end + 1
        end += 2


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("it ends in the middle of an element")
    return data[at : at + size]
