"""The stores that are open in this process: closed when the interpreter exits, abandoned in a forked child.

Invariant: held weakly, so that a store nobody refers to any more can be collected.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flash_kv.engine.db import DB

# By id: a mapping compares by content and has no hash.
_stores: weakref.WeakValueDictionary[int, DB] = weakref.WeakValueDictionary()


def add(db: DB) -> None:
    """From now on `db` is closed at exit."""
    _stores[id(db)] = db


def remove(db: DB) -> None:
    """`db` has let go of everything; nothing when it was not added."""
    _stores.pop(id(db), None)


def _close_all() -> None:
    for db in list(_stores.values()):
        db.close()


def _abandon_all() -> None:
    """In a forked child: the parent keeps its stores and their locks."""
    for db in list(_stores.values()):
        db._abandon()
    _stores.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
