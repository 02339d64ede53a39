"""Keys and values as the embedded store takes them, brought to bytes; the same errors for what is none.

Arrays are read as `engine/columns_cy.py` reads them: bytes of a fixed width are keys or values, text of a fixed width
ends before the zeros that fill it up, other numbers are values as they lie in memory; all else is iterated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import starmap
from typing import TYPE_CHECKING, Any, TypeAlias

from flash_kv.errors import KeyOrderError, KeySizeError, KeyTypeError, ValueSizeError, ValueTypeError

if TYPE_CHECKING:
    from typing_extensions import Buffer

Bytes: TypeAlias = "str | Buffer"

KEY_BYTES_MAX = 65_536
VALUE_BYTES_MAX = 4_294_836_224
# Objects and text stand for other bytes than those that lie there.
_NO_BYTES = frozenset("OPX&uw")


def as_key(key: object) -> bytes:
    """The bytes of a key. KeyTypeError, KeySizeError."""
    found = key if type(key) is bytes else _as_bytes(key)
    if found is None:
        raise KeyTypeError(type(key).__name__)
    if not 0 < len(found) <= KEY_BYTES_MAX:
        raise KeySizeError(len(found), KEY_BYTES_MAX)
    return found


def as_bound(bound: object) -> bytes | None:
    """The bytes of a prefix or a bound, which may be empty; None for none. KeyTypeError."""
    if bound is None or type(bound) is bytes:
        return bound
    found = _as_bytes(bound)
    if found is None:
        raise KeyTypeError(type(bound).__name__)
    return found


def as_value(value: object) -> bytes:
    """The bytes of a value. ValueTypeError, ValueSizeError."""
    found = value if type(value) is bytes else _as_bytes(value)
    if found is None:
        raise ValueTypeError(type(value).__name__)
    if len(found) > VALUE_BYTES_MAX:
        raise ValueSizeError(len(found), VALUE_BYTES_MAX)
    return found


def _as_bytes(given: Any) -> bytes | None:
    if isinstance(given, str):
        return given.encode("utf-8")
    try:
        view = memoryview(given)
    except (TypeError, ValueError, BufferError):
        return None
    return bytes(view) if view.c_contiguous else None


def as_keys(keys: Iterable[Bytes] | Buffer) -> Iterator[bytes]:
    """The keys of a list, an iterator or an array."""
    return map(as_key, _items(keys, is_keys=True))


def as_pairs(
    pairs: Iterable[Any] | Mapping[Any, Bytes] | Buffer,
    values: Iterable[Any] | Buffer | None = None,
    *,
    is_sorted: bool = False,
) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of an iterable, a mapping, or of keys and values apart. `is_sorted`: KeyOrderError where they fall."""
    if values is None:
        chosen: Iterable[Any] = pairs.items() if isinstance(pairs, Mapping) else pairs  # type: ignore[assignment]
        found: Iterator[tuple[bytes, bytes]] = map(_as_pair, chosen)
    else:
        keys, items = _items(pairs, is_keys=True), _items(values, is_keys=False)
        _require_pairs(keys, items)
        found = starmap(_encoded, zip(keys, items, strict=True))
    return _checked_order(found) if is_sorted else found


def _as_pair(pair: Any) -> tuple[bytes, bytes]:
    key, value = pair
    return as_key(key), as_value(value)


def _encoded(key: object, value: object) -> tuple[bytes, bytes]:
    return as_key(key), as_value(value)


def _require_pairs(keys: Iterable[Any], values: Iterable[Any]) -> None:
    if isinstance(keys, _Column) and isinstance(values, _Column) and len(keys) != len(values):
        raise ValueError(f"{len(keys)} keys and {len(values)} values do not make pairs")


def _checked_order(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    before = b""
    for number, (key, value) in enumerate(pairs):
        if key < before:
            raise KeyOrderError(number, key)
        before = key
        yield key, value


def updates(other: Any, pairs: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """The pairs that `dict.update` would store."""
    if isinstance(other, Mapping):
        yield from as_pairs(other)
    elif hasattr(other, "keys"):
        keys = other.keys()
        yield from as_pairs((key, other[key]) for key in keys)
    else:
        yield from as_pairs(other)
    yield from as_pairs(pairs)


class _Column:
    """The items of an array, all of one width."""

    def __init__(self, data: bytes, width: int, count: int, is_text: bool) -> None:
        self._data = data
        self._width = width
        self._count = count
        self._is_text = is_text

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        width = self._width
        for number in range(self._count):
            item = self._data[number * width : (number + 1) * width]
            yield item.rstrip(b"\0") if self._is_text else item


def _items(argument: Any, *, is_keys: bool) -> Iterable[Any]:
    if isinstance(argument, (list, tuple, dict)):
        return argument
    try:
        view = memoryview(argument)
    except (TypeError, ValueError, BufferError):
        return argument  # type: ignore[no-any-return]
    shape = view.shape or ()
    if not _is_column(view, shape, is_keys):
        return argument  # type: ignore[no-any-return]
    width = view.itemsize
    for length in shape[1:]:
        width *= length
    return _Column(view.tobytes(), width, shape[0], view.format[-1:] == "s" and len(shape) == 1)


def _is_column(view: memoryview, shape: tuple[int, ...], is_keys: bool) -> bool:
    if not shape or _NO_BYTES.intersection(view.format):
        return False
    if len(shape) == 1:
        return view.format[-1:] in ("s", "x") or not (is_keys or view.itemsize == 1)
    if is_keys and (len(shape) != 2 or view.itemsize != 1):
        return False
    width = view.itemsize
    for length, stride in zip(reversed(shape[1:]), reversed((view.strides or ())[1:]), strict=True):
        if stride != width and length > 1:
            return False
        width *= length
    return True
