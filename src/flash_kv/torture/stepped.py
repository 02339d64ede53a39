"""A store without a thread of its own: what the background would do is done when it is called for.

So a run is the same each time it is repeated with its seed, and the background's work can be interrupted like a
caller's.
"""

from __future__ import annotations

import os
from pathlib import Path

from flash_kv.engine.db import DB
from flash_kv.engine.maintenance import Maintenance
from flash_kv.errors import StrPath
from flash_kv.io.system import System
from flash_kv.options import Options


class _Stepped(Maintenance):
    """A background thread that never runs."""

    def start(self) -> None:
        return


class UnsyncedSystem(System):
    """The real one without waiting for the disk, for stores that no power cut can reach."""

    def sync_data(self, fd: int) -> None:
        os.fstat(fd)

    def sync_file(self, fd: int) -> None:
        os.fstat(fd)

    def sync_directory(self, path: StrPath) -> None:
        os.stat(path)


UNSYNCED = UnsyncedSystem()


def open_stepped(path: Path, options: Options, system: System) -> DB:
    """An open store whose background work is `db._maintain`, called by nobody but the caller."""
    return DB(path, options, system, maintenance=_Stepped)
