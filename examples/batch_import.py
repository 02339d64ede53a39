"""Importing a file in batches that may be interrupted: the place reached is committed together with the records.

Each batch holds its lines and the number of lines done. A crash, wherever it comes, leaves both or neither, so the
import goes on where it ended and no line is lost or taken twice. It prints:

    interrupted after 3000 lines
    went on at line 3000
    10000 lines imported
"""

import csv
from itertools import islice
from pathlib import Path

import flash_kv

DONE = b"\0import/done"
BATCH_LINES = 1000


class Interrupted(Exception):
    """Stands for whatever may end a program in the middle."""


def import_file(db: flash_kv.DB, path: Path, lines_max: int | None = None) -> int:
    """Import `path` from where the last call ended; how many lines are done now."""
    done = int(db.get(DONE, b"0"))
    with path.open(newline="") as file:
        rows = islice(csv.reader(file), done, None)
        while lines := list(islice(rows, BATCH_LINES)):
            with db.batch() as batch:
                for name, price in lines:
                    batch[name] = price
                if lines_max is not None and done >= lines_max:
                    raise Interrupted(f"interrupted after {done} lines")
                done += len(lines)
                batch[DONE] = str(done)
    return done


def main() -> None:
    path = Path("prices.csv")
    path.write_text("".join(f"item{n},{n % 97}\n" for n in range(10_000)))

    with flash_kv.open("prices") as db:
        try:
            import_file(db, path, lines_max=3000)
        except Interrupted as reason:
            print(reason)

    with flash_kv.open("prices") as db:
        print(f"went on at line {int(db[DONE])}")
        print(f"{import_file(db, path)} lines imported")
        assert len(db) == 10_000 + 1
        assert db["item9999"] == b"8"


main()
