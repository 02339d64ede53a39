"""Work done in a child, one piece after the other, so that a crash of the interpreter or a hang is an outcome too."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

# Far more than any piece takes, also on a busy machine.
DEADLINE_S = 60.0

_LENGTH = struct.Struct("<I")

Piece = TypeVar("Piece")


def each_apart(
    work: Callable[[Piece], object], pieces: Sequence[Piece], *, deadline_s: float = DEADLINE_S
) -> Iterator[tuple[Piece, object, str]]:
    """Each piece, what `work` makes of it in values that JSON knows, and how the child that was at it ended, if it did.

    Another child goes on behind a piece that has killed one. Nothing of the caller's may be open in the child, and no
    other thread be at work in this process: the child is forked.
    """
    done = 0
    while done < len(pieces):
        child = _Child(work, pieces[done:], deadline_s)
        try:
            while done < len(pieces):
                result, how = child.next()
                yield pieces[done], result, how
                done += 1
                if how:
                    break
        finally:
            child.end()


class _Child:
    """A forked process that goes through pieces and sends what it makes of each."""

    def __init__(self, work: Callable[[Piece], object], pieces: Sequence[Piece], deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._reading, writing = os.pipe()
        self._received = bytearray()
        self._status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 warns of a fork beside threads, such as one that draws a progress bar.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _be_child(work, pieces, self._reading, writing)
        os.close(writing)

    def next(self) -> tuple[object, str]:
        """The next result, or how it ended instead."""
        while True:
            if len(self._received) >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(self._received)
                end = _LENGTH.size + size
                if len(self._received) >= end:
                    message = bytes(self._received[_LENGTH.size : end])
                    del self._received[:end]
                    return json.loads(message), ""
            if not select.select([self._reading], [], [], self._deadline_s)[0]:
                return None, f"nothing came of it in {self._deadline_s:.0f} s"
            received = os.read(self._reading, 1 << 16)
            if not received:
                return None, self._how_it_ended()
            self._received += received

    def _how_it_ended(self) -> str:
        status = self._wait()
        if status < 0:
            return f"the process was ended by {signal.Signals(-status).name}"
        return f"the process ended with status {status}"

    def _wait(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status

    def end(self) -> None:
        """It is gone afterwards, whatever it was at."""
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        os.close(self._reading)


def _be_child(
    work: Callable[[Piece], object], pieces: Sequence[Piece], reading: int, writing: int
) -> NoReturn:
    status = 1
    try:
        os.close(reading)
        for piece in pieces:
            message = json.dumps(work(piece)).encode()
            rest = memoryview(_LENGTH.pack(len(message)) + message)
            while rest:
                rest = rest[os.write(writing, rest) :]
        status = 0
    except BrokenPipeError:
        # Nobody wants to know any more.
        status = 0
    except BaseException:  # noqa: BLE001 - told, and never back into the caller's code
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # No cleanup of the parent's happens here.
        os._exit(status)
