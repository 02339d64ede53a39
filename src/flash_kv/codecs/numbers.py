"""Numbers as bytes that sort by exact value, ints of any size and floats together.

    whole part      one byte of sign and size, then the magnitude, big-endian; of a negative number complemented
                      09..7f  negative, 0x80 - n bytes        81..f7  positive, 0x80 + n bytes
                      06..08  negative, 0x09 - n bytes of size, complemented, then so many bytes
                      f8..fa  positive, 0xf7 + n bytes of size, then so many bytes
                      80      zero
    then            80        it is whole
                    7f, 81    negative, positive with a fraction: then the float's 8 bytes, made to sort
    instead         01, fe    the infinities, nothing behind them

The whole part is the number cut towards zero. Of two numbers with the same one, a fraction puts a positive one above
the whole number and a negative one below it; two with fractions are floats and compare as such. So 1, 1.0 and True are
the same bytes, read as the int; -0.0 is 0. NaN has no place in an order and is refused.

What is read must be what would have been written: one number has one encoding.
"""

from __future__ import annotations

import math
import struct

SHORT_BYTES_MAX = 119
SIZE_BYTES_MAX = 3
_ZERO, _SHORT_NEGATIVE, _LONG_NEGATIVE, _LONG_POSITIVE = 0x80, 0x09, 0x09, 0xF7
_NEGATIVE_INFINITY, _POSITIVE_INFINITY = 0x01, 0xFE
_BELOW, _WHOLE, _ABOVE = 0x7F, 0x80, 0x81
_INVERT = bytes(range(255, -1, -1))


def encode_int(number: int) -> bytes:
    """The whole part. ValueError for one of 16 MiB or more, which no key can hold."""
    if number == 0:
        return bytes([_ZERO])
    size = (abs(number).bit_length() + 7) // 8
    magnitude = abs(number).to_bytes(size, "big")
    if size <= SHORT_BYTES_MAX:
        head, sizes = (size, b"")
    else:
        head = (size.bit_length() + 7) // 8
        if head > SIZE_BYTES_MAX:
            raise ValueError("the number is too large for a key")
        sizes = size.to_bytes(head, "big")
    if number > 0:
        first = (_LONG_POSITIVE if sizes else _ZERO) + head
        return bytes([first]) + sizes + magnitude
    first = (_LONG_NEGATIVE if sizes else _ZERO) - head
    return bytes([first]) + (sizes + magnitude).translate(_INVERT)


def decode_int(data: bytes, at: int) -> tuple[int, int]:
    """The whole number at `at`, and where it ends. ValueError for anything else."""
    first = _take(data, at, 1)[0]
    at += 1
    if first == _ZERO:
        return 0, at
    is_negative = first < _ZERO
    if _SHORT_NEGATIVE <= first <= _LONG_POSITIVE:
        size = abs(first - _ZERO)
    else:
        count = _LONG_NEGATIVE - first if is_negative else first - _LONG_POSITIVE
        if not 1 <= count <= SIZE_BYTES_MAX:
            raise ValueError(f"no number begins with byte {first:#04x}")
        sizes = _signed(_take(data, at, count), is_negative)
        at += count
        size = int.from_bytes(sizes, "big")
        if size <= SHORT_BYTES_MAX or sizes[0] == 0:
            raise ValueError("a number's size is written longer than needed")
    magnitude = _signed(_take(data, at, size), is_negative)
    if magnitude[0] == 0:
        raise ValueError("a number begins with a zero")
    number = int.from_bytes(magnitude, "big")
    return (-number if is_negative else number), at + size


def encode_number(number: float) -> bytes:
    """Of an int or a float. ValueError for NaN."""
    if isinstance(number, int):
        return encode_int(int(number)) + bytes([_WHOLE])
    if math.isinf(number):
        return bytes([_POSITIVE_INFINITY if number > 0 else _NEGATIVE_INFINITY])
    if math.isnan(number):
        raise ValueError("NaN has no place in an order")
    # Exact: a float of 2^53 or more is a whole number, however large.
    whole = int(number)
    if whole == number:
        return encode_int(whole) + bytes([_WHOLE])
    bits = struct.pack(">d", number)
    if number < 0:
        return encode_int(whole) + bytes([_BELOW]) + bits.translate(_INVERT)
    return encode_int(whole) + bytes([_ABOVE]) + bits


def decode_number(data: bytes, at: int) -> tuple[int | float, int]:
    """The number at `at`, an int if it is whole, and where it ends. ValueError for anything else."""
    first = _take(data, at, 1)[0]
    if first in (_NEGATIVE_INFINITY, _POSITIVE_INFINITY):
        return (math.inf if first == _POSITIVE_INFINITY else -math.inf), at + 1
    whole, end = decode_int(data, at)
    kind = _take(data, end, 1)[0]
    end += 1
    if kind == _WHOLE:
        return whole, end
    if kind not in (_BELOW, _ABOVE):
        raise ValueError(f"byte {kind:#04x} says nothing of a fraction")
    (number,) = struct.unpack(">d", _signed(_take(data, end, 8), kind == _BELOW))
    end += 8
    if not math.isfinite(number) or encode_number(number) != data[at:end]:
        raise ValueError("a number and its fraction do not fit together")
    return number, end


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("it ends in the middle of a number")
    return data[at : at + size]


def _signed(data: bytes, is_negative: bool) -> bytes:
    return data.translate(_INVERT) if is_negative else data
