"""What a `DB` has of a dict beyond single keys: iteration, views, and changes of many keys as one commit.

Invariant: every iteration runs on a snapshot of the moment it begins (views.py); every change here is one
commit, or, in `popitem` and `remove_expired`, one key at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Self, cast

from flash_kv.engine import scan_cy
from flash_kv.engine.store_cy import Store
from flash_kv.engine.views import Bound, Range, Ranges, scan

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class DictMethods(Store, Ranges, MutableMapping[bytes, bytes]):
    """The part of `DB` that makes it a mapping."""

    def _as_db(self) -> DB:
        return cast("DB", self)

    def _viewed(self) -> tuple[DB, None]:
        return self._as_db(), None

    def __iter__(self) -> Iterator[bytes]:
        return scan(self._as_db(), None, scan_cy.KEYS, Range(None, None, None), False)

    def __reversed__(self) -> Iterator[bytes]:
        return scan(self._as_db(), None, scan_cy.KEYS, Range(None, None, None), True)

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete and return one pair: that of the greatest key with an ordered index, any one without.

        KeyError when the store is empty.
        """
        while True:
            chosen = scan(
                self._as_db(), None, scan_cy.KEYS, Range(None, None, None), self._as_db()._is_ordered
            )
            key = next(chosen, None)
            if key is None:
                raise KeyError("popitem(): the store is empty")
            value = self.pop(key, None)
            if value is not None:
                return key, value

    def update(self, other: Any = (), /, **pairs: Any) -> None:
        """Store all pairs of a mapping or an iterable, and the keywords, as one batch: all of them or none."""
        batch = self._as_db().batch()
        if isinstance(other, Mapping):
            batch.put_many(other)
        elif hasattr(other, "keys"):
            keys = other.keys()
            batch.put_many((key, other[key]) for key in keys)
        else:
            batch.put_many(other)
        batch.put_many(pairs)
        batch.commit()

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def clear(self) -> None:
        """Delete every key, as one commit."""
        self.delete_range()

    def delete_range(self, *, prefix: Bound = None, start: Bound = None, stop: Bound = None) -> int:
        """Delete the keys with a prefix, or from `start` (included) to `stop` (not included), as one commit; how many.

        Without a bound: every key. It deletes what is there at its beginning; a key stored meanwhile stays.
        """
        keys = scan(self._as_db(), None, scan_cy.KEYS, Range(prefix, start, stop), False)
        return self.delete_many(keys)

    def remove_expired(self) -> int:
        """Delete every key whose time is up, now instead of some time later; how many there were.

        Until then such keys read as absent but count in `len(db)` and take space. Raises as `delete`.
        """
        db = self._as_db()
        db._require_writable()
        return db._sweeper.run(db)
