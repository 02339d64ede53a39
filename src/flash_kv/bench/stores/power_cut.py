"""A directory as a power cut may leave it, of our store: made by the crash simulator (io/crash.py).

Half of the records are synced. The rest is written and no more: of the pages since the sync each is there or not, or
torn, by chance. The store's background thread is not run, because the simulator serves one thread.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from flash_kv.bench.stores.base import Pairs
from flash_kv.io.crash import CrashSystem
from flash_kv.io.disk_image import Image, RandomChooser, write_image
from flash_kv.options import IndexKind, Options
from flash_kv.torture.stepped import open_stepped

NEWEST = 0.5
"""The chance of what was not synced to be there."""
_NAME = "store"


def power_cutter(index: IndexKind) -> Callable[[Path, Callable[[int], Pairs], int], None]:
    """A function that writes such a directory to a path where nothing is yet."""

    def cut_power(path: Path, pairs_of: Callable[[int], Pairs], parts: int) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="fkv-power-") as root:
            write_image(_image(index, Path(root), pairs_of, parts), path)

    return cut_power


def _image(index: IndexKind, root: Path, pairs_of: Callable[[int], Pairs], parts: int) -> Image:
    with CrashSystem(root) as system, open_stepped(root / _NAME, Options(index=index), system) as db:
        for number in range(parts):
            if number == -(-parts // 2):
                db.sync()
            db.put_many(pairs_of(number))
        system.disk.note()
        image = system.disk.choose(RandomChooser(random.Random(1), NEWEST))
    store = image[_NAME]
    assert isinstance(store, dict), "the store's directory was synced when it was made"
    return store
