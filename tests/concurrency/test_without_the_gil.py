"""What runs without the GIL, all at once: large values, large batches, compaction, chunks of a scan, loading, syncs.

Under the GIL threads never meet inside compiled code. Here they do, which is what ThreadSanitizer has to see
(`make sanitize-threads` runs these for longer).
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable

import pytest

from flash_kv import DB, BatchStateError
from support.threads import repeat_together

OpenDB = Callable[..., DB]

SECONDS = 5.0 if os.environ.get("FLASH_KV_TEST_SANITIZER") == "thread" else 0.5
LARGE = 100_000
OPTIONS = {
    "segment_bytes_max": 1024**2,
    "reserve_bytes": 0,
    "compaction_interval_s": 0.005,
    "compaction_dead_bytes": 65536,
    "compaction_segment_bytes_min": 65536,
}


@pytest.mark.parametrize("durability", ["process", "always", ("interval", 0.002)])
def test_everything_without_the_gil_meets(open_db: OpenDB, rng: random.Random, durability: object) -> None:
    db = open_db(**OPTIONS, durability=durability)
    names = [b"%04d" % number for number in range(2000)]
    large = [b"large %d" % number for number in range(4)]
    db.put_many((name, name * 5) for name in names)
    db.put_many((name, name * LARGE) for name in large[:2])
    steady = names[:500]
    changing = names[500:]

    def write_batch() -> None:
        db.put_many((name, name * rng.randrange(2, 30)) for name in rng.sample(changing, 600))

    def delete_and_put() -> None:
        db.delete_many(rng.sample(changing, 300))
        for name in rng.sample(changing, 50):
            db.put(name, name)

    def write_large() -> None:
        name = rng.choice(large)
        db.put(name, name * LARGE)
        db.get_many(large)

    def read() -> None:
        assert db.get_many(steady) == [name * 5 for name in steady]
        name = rng.choice(large)
        assert db.get(name) in (None, name * LARGE)

    def scan() -> None:
        found = dict(db.items())
        assert all(found[name] == name * 5 for name in steady)

    repeat_together(SECONDS, write_batch, delete_and_put, write_large, read, read, scan, db.compact)
    content = dict(db.items())
    db.close()
    assert dict(open_db(load_threads=2).items()) == content


def test_a_batch_that_another_thread_ends_beside_a_long_put_is_left_alone_and_not_used_again(
    open_db: OpenDB,
) -> None:
    db = open_db()
    value = bytes(64 * 1024**2)
    batch = db.batch()
    batch.put(b"small", b"1")
    adding = threading.Thread(target=lambda: batch.put(b"large", value))
    adding.start()
    while True:
        try:
            batch.get(b"small")
        except BatchStateError:
            break  # the value is being copied
        if not adding.is_alive():
            break  # it was, too fast to be seen
    batch.discard()
    with db.batch() as other:
        other.put(b"other", b"2")
        assert len(other) == 1
    adding.join()
    assert dict(db.items()) == {b"other": b"2"}
