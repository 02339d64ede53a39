"""What is one step in a dict is one step here: of many threads, exactly one wins."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable

from flash_kv import DB
from support.threads import call_together, repeat_together

OpenDB = Callable[..., DB]
THREADS = 4
SMALL = {"segment_bytes_max": 65536, "reserve_bytes": 0}


def everywhere(step: Callable[[int], object]) -> None:
    """Call `step(number)` in several threads at once."""
    call_together(*(lambda number=number: step(number) for number in range(THREADS)))


def test_setdefault_has_one_winner(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    results: list[list[bytes]] = [[] for _ in range(THREADS)]

    def run(number: int) -> None:
        for key in range(400):
            results[number].append(db.setdefault(b"%d" % key, b"%d" % number * 50))

    everywhere(run)
    assert results[0] == results[1] == results[2] == results[3]
    assert len(db) == 400


def test_pop_has_one_winner(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    names = [b"%d" % key for key in range(800)]
    db.put_many((name, name) for name in names)
    taken: list[list[bytes]] = [[] for _ in range(THREADS)]

    def run(number: int) -> None:
        for name in names:
            value = db.pop(name, None)
            if value is not None:
                assert value == name
                taken[number].append(value)

    everywhere(run)
    assert sorted(itertools.chain(*taken)) == sorted(names)
    assert len(db) == 0


def test_popitem_hands_every_pair_out_once(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    content = {b"%d" % key: b"%d" % (key * key) for key in range(500)}
    db.put_many(content)
    taken: list[list[tuple[bytes, bytes]]] = [[] for _ in range(THREADS)]

    def run(number: int) -> None:
        while True:
            try:
                taken[number].append(db.popitem())
            except KeyError:
                return

    everywhere(run)
    pairs = list(itertools.chain(*taken))
    assert len(pairs) == len(content)
    assert dict(pairs) == content


def test_delete_counts_each_key_once(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    names = [b"%d" % key for key in range(900)]
    db.put_many((name, b"") for name in names)
    counts = [0] * THREADS

    def run(number: int) -> None:
        for name in names[:300]:
            counts[number] += db.delete(name)
        for start in range(300, 600, 50):
            counts[number] += db.delete_many(names[start : start + 50])
        counts[number] += db.delete_range()

    everywhere(run)
    assert sum(counts) == len(names)
    assert len(db) == 0


def test_update_is_seen_whole_or_not_at_all(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    names = [b"%d" % key for key in range(70)]
    db.update(dict.fromkeys(names, b"0"))
    turns = itertools.count(1)

    def update() -> None:
        db.update(dict.fromkeys(names, b"%d" % next(turns)))

    def look() -> None:
        assert len(set(db.values())) == 1

    repeat_together(0.4, update, update, look, look)


def test_clear_is_one_step(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    names = [b"%02d" % key for key in range(60)]

    def fill() -> None:
        db.update(dict.fromkeys(names, b"1"))

    def look() -> None:
        assert len(list(db)) in (0, len(names))

    repeat_together(0.4, fill, db.clear, look)


def test_counters_under_a_lock_of_the_caller_lose_nothing(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    lock = threading.Lock()

    def run(_: int) -> None:
        for turn in range(200):
            with lock:
                key = b"%d" % (turn % 5)
                db[key] = b"%d" % (int(db.get(key, b"0")) + 1)

    everywhere(run)
    assert sum(int(value) for value in db.values()) == 200 * THREADS


def test_every_write_of_every_thread_is_there(open_db: OpenDB) -> None:
    db = open_db(**SMALL)

    def run(number: int) -> None:
        mixed = random.Random(number)
        for turn in range(300):
            key = b"%d %d" % (number, turn)
            if mixed.random() < 0.5:
                db[key] = key * mixed.randrange(1, 30)
            else:
                db.put_many([(key, key), (key + b"+", key)])

    everywhere(run)
    found = Counter(int(key.split()[0]) for key in db if not key.endswith(b"+"))
    assert found == dict.fromkeys(range(THREADS), 300)
    content = dict(db.items())
    db.close()
    assert dict(open_db().items()) == content


def test_lsns_have_no_gap_and_no_double(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    everywhere(lambda number: [db.put(b"%d %d" % (number, turn), b"") for turn in range(250)])
    assert db.stats().lsn == 250 * THREADS == len(db)
