"""Views held while others write, delete, compact and close: what is looked at never changes."""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable

import pytest

from flash_kv import DB, ClosedError
from support.stores import OFTEN
from support.threads import call_together, repeat_together

OpenDB = Callable[..., DB]

SECONDS = 0.5
NAMES = [b"%03d" % number for number in range(60)]


def seal(body: bytes) -> bytes:
    """A value that tells whether it is whole."""
    return zlib.crc32(body).to_bytes(4, "little") + body


def is_whole(value: memoryview) -> bool:
    return zlib.crc32(value[4:]) == int.from_bytes(value[:4], "little")


def test_what_is_looked_at_stays_whole(open_db: OpenDB, rng: random.Random) -> None:
    db = open_db(**OFTEN)
    held: deque[memoryview] = deque(maxlen=200)

    def write() -> None:
        # Some of them are checked by every view, some by the first, some without the GIL.
        db.put(rng.choice(NAMES), seal(rng.randbytes(rng.choice((50, 600, 5_000, 70_000)))))

    def delete() -> None:
        db.delete(rng.choice(NAMES))

    def look() -> None:
        view = db.view(rng.choice(NAMES))
        if view is not None:
            assert is_whole(view)
            held.append(view)

    def look_again() -> None:
        for view in list(held):
            assert is_whole(view)

    def scan() -> None:
        with db.snapshot() as snapshot:
            for view in snapshot.values(view=True):
                assert is_whole(view)

    for name in NAMES:
        db.put(name, seal(rng.randbytes(600)))
    look()
    repeat_together(SECONDS, write, delete, look, look_again, scan, at_least=3)
    db.compact()
    db.close()
    assert held
    look_again()


@pytest.mark.parametrize("size", [100, 5_000, 200_000])
def test_a_view_beside_a_close_is_whole_or_refused(open_db: OpenDB, size: int) -> None:
    value = seal(bytes(size))
    for _ in range(4):
        db = open_db(**OFTEN)
        db[b"key"] = value
        found: list[memoryview | None] = []

        def look(db: DB = db, found: list[memoryview | None] = found) -> None:
            try:
                while True:
                    found.append(db.view(b"key"))
            except ClosedError:
                return

        call_together(look, look, db.close)
        assert all(view == value for view in found[-50:])
