"""Views of keys, values and items: whole, or a range of an ordered index, forwards or in reverse.

A view holds no data. Each iteration runs on a snapshot of the moment it begins (of a `Snapshot`'s views: of
its moment), so it sees one state however long it takes, and streams.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from flash_kv.engine import scan_cy
from flash_kv.engine.scan_cy import Scan, SnapshotCore
from flash_kv.errors import KeyTypeError, UnorderedIndexError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from flash_kv.engine.db import DB
    from flash_kv.engine.record import Record
    from flash_kv.engine.snapshot import Snapshot

ORDERED_KINDS = ("btree", "skiplist", "bptree")

Bound: TypeAlias = "str | Buffer | None"


class Range:
    """Bounds of a scan: `low` inclusive, `high` exclusive, None for open."""

    def __init__(self, prefix: Bound, start: Bound, stop: Bound) -> None:
        low, high = _as_key(start), _as_key(stop)
        if prefix is not None:
            first = _as_key(prefix) or b""
            after = successor(first)
            low = first if low is None else max(low, first)
            if after is not None:
                high = after if high is None else min(high, after)
        self.low = low or None
        self.high = high
        self.is_empty = high is not None and (high == b"" or (low or b"") >= high)

    @property
    def is_whole(self) -> bool:
        return self.low is None and self.high is None

    def __contains__(self, key: bytes) -> bool:
        return (self.low is None or key >= self.low) and (self.high is None or key < self.high)


def successor(prefix: bytes) -> bytes | None:
    """The smallest key above all that begin with `prefix`; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def _as_key(bound: Bound) -> bytes | None:
    if bound is None or type(bound) is bytes:
        return bound
    if isinstance(bound, str):
        return bound.encode("utf-8")
    try:
        return bytes(memoryview(bound))
    except TypeError:
        raise KeyTypeError(type(bound).__name__) from None


def scan(
    db: DB, snapshot: Snapshot | None, kind: int, bounds: Range, reverse: bool, views: bool = False
) -> Iterator[Any]:
    """An iterator over a range, on `snapshot` or on one of its own; `views`: values as memoryviews."""
    if (reverse or not bounds.is_whole) and not db._is_ordered:
        raise UnorderedIndexError(db.options.index, ORDERED_KINDS)
    core = snapshot if snapshot is not None else SnapshotCore(db)
    if bounds.is_empty:
        return iter(())
    return Scan(core, kind, bounds.low, bounds.high, bool(reverse), snapshot is None, views)


class _View:
    _kind: int

    def __init__(
        self,
        db: DB,
        snapshot: Snapshot | None,
        prefix: Bound,
        start: Bound,
        stop: Bound,
        reverse: bool,
        views: bool = False,
    ) -> None:
        self._db = db
        self._snapshot = snapshot
        self._range = Range(prefix, start, stop)
        self._reverse = reverse
        self._views = views
        if (reverse or not self._range.is_whole) and not db._is_ordered:
            raise UnorderedIndexError(db.options.index, ORDERED_KINDS)

    @property
    def _source(self) -> DB | Snapshot:
        return self._db if self._snapshot is None else self._snapshot

    def __len__(self) -> int:
        """The number of entries: O(1) for all keys of a store, else by counting."""
        if self._snapshot is None and self._range.is_whole:
            return len(self._db)
        return sum(1 for _ in scan(self._db, self._snapshot, scan_cy.KEYS, self._range, False))

    def _scan(self, reverse: bool) -> Iterator[Any]:
        return scan(self._db, self._snapshot, self._kind, self._range, reverse, self._views)

    def __repr__(self) -> str:
        return f"<flash_kv.{type(self).__name__} of {str(self._db.path)!r}>"


class KeysView(_View, collections.abc.KeysView[bytes]):
    """The keys, as a set-like view."""

    _kind = scan_cy.KEYS

    def __iter__(self) -> Iterator[bytes]:
        return self._scan(self._reverse)

    def __reversed__(self) -> Iterator[bytes]:
        return self._scan(not self._reverse)

    def __contains__(self, key: object) -> bool:
        found = _as_key(key)  # type: ignore[arg-type]
        return found is not None and found in self._range and found in self._source


class ValuesView(_View, collections.abc.ValuesView[bytes]):
    """The values, in the order of their keys."""

    _kind = scan_cy.VALUES

    def __iter__(self) -> Iterator[bytes]:
        return self._scan(self._reverse)

    def __reversed__(self) -> Iterator[bytes]:
        return self._scan(not self._reverse)

    def __contains__(self, value: object) -> bool:
        return any(found == value for found in self)


class ItemsView(_View, collections.abc.ItemsView[bytes, bytes]):
    """The (key, value) pairs, as a set-like view."""

    _kind = scan_cy.ITEMS

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._scan(self._reverse)

    def __reversed__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._scan(not self._reverse)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key = _as_key(item[0])
        if key is None or key not in self._range:
            return False
        value = self._source.get(key)
        return value is not None and value == item[1]


class Ranges:
    """`keys`, `values` and `items`: of a store as it is, or as it was at a snapshot's moment."""

    def _viewed(self) -> tuple[DB, Snapshot | None]:
        raise NotImplementedError

    def keys(
        self, *, prefix: Bound = None, start: Bound = None, stop: Bound = None, reverse: bool = False
    ) -> KeysView:
        """A view of the keys: all, those with a prefix, or from `start` (included) to `stop` (not included).

        `reverse` gives them in falling order. UnorderedIndexError for a range or `reverse` with index="hash".
        """
        return KeysView(*self._viewed(), prefix, start, stop, reverse)

    def records(
        self,
        *,
        prefix: Bound = None,
        start: Bound = None,
        stop: Bound = None,
        reverse: bool = False,
        view: bool = False,
    ) -> Iterator[tuple[bytes, Record]]:
        """The keys with their `Record`s, on a snapshot of this moment; see `keys` and `get_record`."""
        db, snapshot = self._viewed()
        return scan(db, snapshot, scan_cy.RECORDS, Range(prefix, start, stop), reverse, view)

    @overload
    def values(
        self, *, prefix: Bound = None, start: Bound = None, stop: Bound = None, reverse: bool = False
    ) -> ValuesView: ...
    @overload
    def values(
        self,
        *,
        view: Literal[True],
        prefix: Bound = None,
        start: Bound = None,
        stop: Bound = None,
        reverse: bool = False,
    ) -> collections.abc.ValuesView[memoryview]: ...
    def values(
        self,
        *,
        prefix: Bound = None,
        start: Bound = None,
        stop: Bound = None,
        reverse: bool = False,
        view: bool = False,
    ) -> Any:
        """A view of the values, in the order of their keys; bounds as in `keys`. `view`: values as in `view()`."""
        return ValuesView(*self._viewed(), prefix, start, stop, reverse, view)

    @overload
    def items(
        self, *, prefix: Bound = None, start: Bound = None, stop: Bound = None, reverse: bool = False
    ) -> ItemsView: ...
    @overload
    def items(
        self,
        *,
        view: Literal[True],
        prefix: Bound = None,
        start: Bound = None,
        stop: Bound = None,
        reverse: bool = False,
    ) -> collections.abc.ItemsView[bytes, memoryview]: ...
    def items(
        self,
        *,
        prefix: Bound = None,
        start: Bound = None,
        stop: Bound = None,
        reverse: bool = False,
        view: bool = False,
    ) -> Any:
        """A view of the (key, value) pairs; bounds as in `keys`. `view`: values as in `view()`."""
        return ItemsView(*self._viewed(), prefix, start, stop, reverse, view)
