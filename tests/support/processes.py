"""Child processes to kill: forked, so that one costs milliseconds, and watched, so that a hang is a failure."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flash_kv import DB

# A hang is a failure, a busy machine is not.
DEADLINE_S = 60.0
_LENGTH = struct.Struct("<I")
Report = Callable[[bytes], None]


@dataclass
class Child:
    """A forked process that runs a function and sends messages; made by `forked`."""

    pid: int
    reading: int
    timeout_s: float
    status: int | None = None
    _received: bytearray = field(default_factory=bytearray)

    def messages(self) -> Iterator[bytes]:
        """What the child reports, until it ends. A child that is silent for too long is killed: AssertionError."""
        while True:
            while len(self._received) >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(self._received)
                if len(self._received) < _LENGTH.size + size:
                    break
                message = bytes(self._received[_LENGTH.size : _LENGTH.size + size])
                del self._received[: _LENGTH.size + size]
                yield message
            if not select.select([self.reading], [], [], self.timeout_s)[0]:
                self._abort()
                raise AssertionError(f"process {self.pid} did nothing for {self.timeout_s} s")
            piece = os.read(self.reading, 1 << 16)
            if not piece:
                return
            self._received += piece

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _abort(self) -> None:
        """End it in a way that has faulthandler, which it has from pytest, say where its threads are."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGABRT)
        time.sleep(1)
        self.kill()

    def wait(self) -> int:
        """Its exit status, negative for a signal; it has to end by itself in time."""
        if self.status is None:
            ends = time.monotonic() + self.timeout_s
            while True:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
                    break
                if time.monotonic() > ends:
                    self.kill()
                    os.waitpid(self.pid, 0)
                    raise AssertionError(f"process {self.pid} did not end within {self.timeout_s} s")
                time.sleep(0.001)
        return self.status

    @property
    def was_killed(self) -> bool:
        return self.wait() == -signal.SIGKILL


@contextlib.contextmanager
def forked(body: Callable[[Report], None], timeout_s: float = DEADLINE_S) -> Iterator[Child]:
    """A child that runs `body(report)` and ends with 0, or with 1 and a traceback; it is gone afterwards."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads: some tests are about just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_child(body, reading, writing)
    os.close(writing)
    child = Child(pid, reading, timeout_s)
    try:
        yield child
    finally:
        if child.status is None:
            child.kill()
            child.wait()
        os.close(reading)


def _be_child(body: Callable[[Report], None], reading: int, writing: int) -> None:
    status = 1
    try:
        os.close(reading)
        body(lambda message: _send(writing, message))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Never back into the test run: no cleanup of the parent's happens here.
        os._exit(status)


def _send(writing: int, message: bytes) -> None:
    rest = memoryview(_LENGTH.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(writing, rest) :]


def run_forked(body: Callable[[Report], None], timeout_s: float = DEADLINE_S) -> tuple[list[bytes], int]:
    """All messages and the exit status of a child that ends by itself, or by a kill it brings upon itself."""
    with forked(body, timeout_s) as child:
        return list(child.messages()), child.wait()


def killed(body: Callable[[], object]) -> None:
    """Run `body` in a child that is killed at its end, before a store that it lets go could be closed."""

    def then_die(report: Report) -> None:
        DB.__del__ = lambda self: None  # type: ignore[method-assign]
        body()
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(then_die)[1] == -signal.SIGKILL
