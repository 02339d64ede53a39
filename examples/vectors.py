"""Vectors for a search by similarity: written as one array, read where they lie in the log.

`put_many` takes two numpy arrays, a key and a row for each; `view` and `values(view=True)` give memoryviews into the
log, so a pass over all vectors copies none of them. It prints:

    stored 1000 vectors of 64 numbers
    the nearest to v/000123 is v/000123
    copied nothing: True
"""

import numpy

import flash_kv

COUNT, WIDTH = 1000, 64


def nearest(db: flash_kv.DB, wanted: "numpy.ndarray[tuple[int], numpy.dtype[numpy.float32]]") -> bytes:
    """The key of the vector with the smallest distance."""
    distances = (
        (float(((numpy.frombuffer(view, "f4") - wanted) ** 2).sum()), key)
        for key, view in db.items(view=True)
    )
    return min(distances)[1]


def main() -> None:
    vectors = numpy.random.default_rng(1).random((COUNT, WIDTH), dtype="f4")
    names = numpy.array([f"v/{number:06}" for number in range(COUNT)], dtype="S8")
    with flash_kv.open("vectors") as db:
        db.put_many(names, vectors, sorted=True)
        print(f"stored {len(db)} vectors of {WIDTH} numbers")
        print("the nearest to v/000123 is", nearest(db, vectors[123]).decode())
        found = numpy.frombuffer(db.view("v/000123") or b"", "f4")
        print("copied nothing:", not found.flags.owndata and numpy.array_equal(found, vectors[123]))


main()
