"""A report over a store that is being written to: totals that belong together, and a backup of the same state.

A snapshot shows one moment. The writer below moves money between accounts all the time; the sum over a snapshot is
right every time, while a sum read key by key might not be. It prints:

    every sum was 100000
    the backup holds 100 accounts and 100000 in all
"""

import threading

import flash_kv

ACCOUNTS = [f"account/{n:03}" for n in range(100)]


def write(db: flash_kv.DB, stopped: threading.Event) -> None:
    turn = 0
    while not stopped.is_set():
        source, target = ACCOUNTS[turn % 100], ACCOUNTS[(7 * turn + 3) % 100]
        turn += 1
        if source != target:
            with db.batch() as batch:
                batch[source] = str(int(db[source]) - 1)
                batch[target] = str(int(db[target]) + 1)


def total(accounts: flash_kv.DB | flash_kv.Snapshot) -> int:
    return sum(int(value) for value in accounts.values(prefix="account/"))


def main() -> None:
    with flash_kv.open("bank") as db:
        db.put_many((name, "1000") for name in ACCOUNTS)
        stopped = threading.Event()
        writer = threading.Thread(target=write, args=(db, stopped))
        writer.start()
        try:
            sums = set()
            for _ in range(50):
                with db.snapshot() as snapshot:
                    sums.add(total(snapshot))
            print("every sum was", *sums)
            db.backup("bank-copy")
        finally:
            stopped.set()
            writer.join()

    with flash_kv.open("bank-copy", read_only=True) as copy:
        print(f"the backup holds {len(copy)} accounts and {total(copy)} in all")


main()
