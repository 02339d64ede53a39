"""`Cell`: how many requests of one kind there were and how long they took, in buckets an eighth of an octave wide; and
`Counting`, which has one for each kind.

Compiled, since every request is counted: some additions in C instead of a dozen objects. Only the event loop counts.
"""

import cython
from cython.cimports.libc.stdint import int64_t

# Each octave above the first 16 microseconds has so many buckets.
STEPS = 8
BUCKETS = 16 + STEPS * 40

_BUCKETS = cython.declare(cython.int, BUCKETS)


@cython.cfunc
@cython.exceptval(check=False)
def _bucket_of(microseconds: int64_t) -> cython.int:
    shift: cython.int = 0
    if microseconds < 0:
        return 0
    if microseconds < 16:
        return cython.cast(cython.int, microseconds)
    while microseconds >> shift >= 16:
        shift += 1
    bucket: cython.int = 8 * shift + cython.cast(cython.int, microseconds >> shift)
    return min(bucket, _BUCKETS - 1)


def bucket_of(microseconds: int) -> int:
    """The bucket of a duration."""
    return _bucket_of(microseconds)


def bucket_end(bucket: int) -> int:
    """The microseconds from which on a duration is in a later bucket."""
    if bucket < 16:
        return bucket + 1
    shift, step = divmod(bucket - STEPS, STEPS)
    return (step + STEPS + 1) << shift


@cython.cclass
class Cell:
    """Requests of one method, route and status."""

    kind = cython.declare(str, visibility="readonly")
    count = cython.declare(int64_t, visibility="readonly")
    seconds = cython.declare(cython.double, visibility="readonly")
    bytes_in = cython.declare(int64_t, visibility="readonly")
    bytes_out = cython.declare(int64_t, visibility="readonly")
    # BUCKETS of them.
    _counts: int64_t[336]

    def __init__(self, kind):
        self.kind = kind

    def add(self, seconds: cython.double, bytes_in: int64_t, bytes_out: int64_t) -> None:
        """Count one request."""
        self.count += 1
        self.seconds += seconds
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        # Longer than the last bucket is no duration of a request: it is as good as any other there.
        microseconds: int64_t = cython.cast(int64_t, min(seconds, 1e9) * 1e6)
        self._counts[_bucket_of(microseconds)] += 1

    @property
    def buckets(self) -> list:
        """How many there were in each bucket."""
        return [self._counts[bucket] for bucket in range(_BUCKETS)]


@cython.cclass
class Counting:
    """Counts requests as they end, in `cells` by method, route and status.

    `new_cell` makes the cell of a kind that is new; `note` is called with each request that took `noted_s` or longer.
    """

    cells = cython.declare(dict, visibility="readonly")
    _new_cell: object
    _note: object
    _noted_s: cython.double

    def __init__(self, cells, new_cell, note, noted_s):
        self.cells = cells
        self._new_cell = new_cell
        self._note = note
        self._noted_s = noted_s

    def observe(self, request) -> None:
        """Count one request."""
        seconds: cython.double = request.duration_s
        kind: tuple = (request.method, request.route, request.status)
        cell: Cell = self.cells.get(kind)
        if cell is None:
            cell = self._new_cell(*kind)
        cell.add(seconds, request.bytes_in, request.bytes_out)
        if seconds >= self._noted_s:
            self._note(request)
