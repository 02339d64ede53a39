"""What the parts of a store hold it by.

Weakly: a cycle would keep a store that nobody uses any more, its index and its lock, until Python's collector of cycles
happens to run.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


class Part:
    """A part of one store, which outlives every call of it."""

    def __init__(self, store: DB) -> None:
        self.belong_to(store)

    def belong_to(self, store: DB) -> None:
        """Anew in the store's finaliser: the collector of cycles has taken back all weak references by then."""
        self._reference = weakref.ref(store)

    @property
    def store(self) -> DB:
        """The store; its own methods call the parts, so it is there."""
        store = self._reference()
        if store is None:
            raise ReferenceError("the store of this part has been collected")
        return store
