"""Counters changed by several threads, and a transfer between two of them that happens whole or not at all.

One call is atomic by itself. What reads and then writes needs a lock of the program's own; what changes several keys
at once needs a batch. It prints:

    home: 4000
    about: 4000
    after moving 500: 3500 and 4500
"""

import threading

import flash_kv

LOCK = threading.Lock()


def add(db: flash_kv.DB, name: str, amount: int) -> None:
    with LOCK:
        db[name] = str(int(db.get(name, b"0")) + amount)


def move(db: flash_kv.DB, source: str, target: str, amount: int) -> None:
    with LOCK, db.batch(durability="always") as batch:
        batch[source] = str(int(db[source]) - amount)
        batch[target] = str(int(db[target]) + amount)


def visit(db: flash_kv.DB) -> None:
    for _ in range(1000):
        add(db, "home", 1)
        add(db, "about", 1)


def main() -> None:
    with flash_kv.open("counters") as db:
        threads = [threading.Thread(target=visit, args=(db,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in ("home", "about"):
            print(f"{name}: {int(db[name])}")
        move(db, "home", "about", 500)
        print(f"after moving 500: {int(db['home'])} and {int(db['about'])}")


main()
