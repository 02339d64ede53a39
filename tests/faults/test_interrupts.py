"""Ctrl-C anywhere: each key keeps its old value or gets its new one, nothing hangs, and the store goes on and is sound.

One test sends the signal at each place in turn where the interpreter would handle it; by default every 193rd
place, from one of chance, with FLASH_KV_TEST_FAULTS=all every one. The other sends it by the clock.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from flash_kv import DB, LockedError
from flash_kv.io.system import REAL
from support.interrupts import Interrupter
from support.processes import Report, run_forked
from support.workload import Model, Step, content, difference, history, open_with

STRIDE = 1 if os.environ.get("FLASH_KV_TEST_FAULTS") == "all" else 193


class Interrupted:
    """A history with one signal in it; `faults` says what was wrong afterwards."""

    def __init__(self, path: Path, nth: int, io: str, index: str, align: int) -> None:
        # The real system: a stand-in would be interrupted itself.
        self._open: Callable[[], DB] = lambda: open_with(path, REAL, io=io, index=index, align=align)
        self.interrupter = Interrupter(nth)
        self.faults: list[str] = []
        self.model: Model = {}

    def _with_signal(self, call: Callable[[], object]) -> bool:
        """Whether the call came to its end."""
        if self.interrupter.has_fired:
            call()
            return True
        try:
            with self.interrupter:
                call()
        except KeyboardInterrupt:
            return False
        return True

    def run(self) -> None:
        opened: list[DB] = []
        self._with_signal(lambda: opened.append(self._open()))
        db = opened[0] if opened else self._open()
        for step in history():
            self._step(db, step)
        if not self._with_signal(db.close):
            db.close()
        if not db.closed:
            self.faults.append("not closed")
        if not self._with_signal(lambda: self._reopen(opened)):
            self._reopen(opened)
        self._check("reopened", content(opened[-1]), self.model)
        opened[-1].close()

    def _reopen(self, opened: list[DB]) -> None:
        if len(opened) < 2 or opened[-1].closed:
            opened.append(self._open())

    def _step(self, db: DB, step: Step) -> None:
        if self.interrupter.has_fired:
            step.run(db)
            step.apply(self.model)
            return
        is_done = self._with_signal(lambda: step.run(db))
        before = dict(self.model)
        step.apply(self.model)
        if not is_done:
            found = content(db)
            if found == before:
                self.model = before
            else:
                self._check(f"after {step}", found, self.model)
            self.faults += [f"verify after {step}: {damage.reason}" for damage in db.verify().damages]

    def _check(self, when: str, found: Model, wanted: Model) -> None:
        if fault := difference(found, wanted):
            self.faults.append(f"{when}: {fault}")


def test_a_signal_while_hint_files_are_written_keeps_no_segment_from_being_closed(tmp_path: Path) -> None:
    def body(report: Report) -> None:
        for nth in itertools.count(1):
            interrupter = Interrupter(nth)
            db = open_with(tmp_path / f"db{nth}", REAL, io="mmap", index="btree")
            db[b"key"] = b"value"
            db._segments.rotate()
            db._segments.seal_rotated()
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                db._segments.write_missing_hints()
            # What is left undone is made up for.
            db._segments.write_missing_hints()
            assert not db._segments.hintless
            report((interrupter.place or "end").encode())
            # A segment that is pinned for ever is waited for: the parent hears nothing any more.
            db.close()
            if not interrupter.has_fired:
                break

    # In a child, for a file that is opened in the moment of the signal stays open.
    messages, status = run_forked(body)
    assert status == 0
    assert messages[-1] == b"end"
    assert len(messages) > 20


@pytest.mark.parametrize(
    ("io", "index", "align"),
    [("mmap", "btree", 64), ("file", "hash", 1), ("mmap", "skiplist", 1), ("mmap", "bptree", 64)],
)
def test_a_signal_at_any_place_leaves_the_old_value_or_the_new_one(
    tmp_path: Path, io: str, index: str, align: int, rng: random.Random
) -> None:
    wrong = []
    nth = rng.randint(1, STRIDE)
    while True:
        path = tmp_path / f"db{nth}"

        def body(report: Report, nth: int = nth, path: Path = path) -> None:
            run = Interrupted(path, nth, io, index, align)
            run.run()
            report((run.interrupter.place or "end").encode())
            for fault in run.faults:
                report(fault.encode())

        messages, status = run_forked(body)
        shutil.rmtree(path, ignore_errors=True)
        if status or len(messages) != 1:
            wrong.append(f"place {nth}, exit {status}: {messages}")
        elif messages == [b"end"]:
            break
        nth += STRIDE
    assert nth > 500
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def test_a_close_after_an_interrupted_one_waits_for_the_background_thread_all_the_same(
    tmp_path: Path, index: str, io: str
) -> None:
    def body(report: Report) -> None:
        db = open_with(tmp_path / "db", REAL, index=index, io=io)
        has_begun, may_go_on = threading.Event(), threading.Event()
        rounds = []

        def slow() -> None:
            has_begun.set()
            assert may_go_on.wait(60)
            rounds.append("ended")

        db._segments.grow_ahead = slow  # type: ignore[method-assign]
        db.put("a", "1")
        assert has_begun.wait(60)
        was_interrupted = threading.Event()

        def interrupt() -> None:
            # Again and again: one that comes just before the wait for a lock does not end it.
            while not was_interrupted.wait(0.05):
                os.kill(os.getpid(), signal.SIGINT)

        def handle(number: int, frame: FrameType | None) -> None:
            if not was_interrupted.is_set():
                was_interrupted.set()
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, handle)
        with pytest.raises(KeyboardInterrupt):
            threading.Thread(target=interrupt).start()
            db.close()
        threading.Timer(0.1, may_go_on.set).start()
        db.close()
        assert rounds == ["ended"]
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)


class SignalsByTheClock:
    """SIGINT to the main thread every millisecond or so; its handler raises only within `attempt`."""

    def __init__(self) -> None:
        self.interrupted = 0
        self._is_armed = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> SignalsByTheClock:
        signal.signal(signal.SIGINT, self._handle)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _send(self) -> None:
        main = threading.main_thread().ident or 0
        while not self._is_over.wait(0.0007):
            signal.pthread_kill(main, signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_armed:
            self._is_armed = False
            raise KeyboardInterrupt

    def attempt(self, call: Callable[[], object]) -> bool:
        """Whether the call came to its end."""
        try:
            self._is_armed = True
            call()
            self._is_armed = False
        except KeyboardInterrupt:
            self.interrupted += 1
            return False
        finally:
            self._is_armed = False
        return True


class Possible:
    """A store under signals, and the values each key may have."""

    def __init__(self, open_store: Callable[[], DB], signals: SignalsByTheClock) -> None:
        self._open = open_store
        self._signals = signals
        self.values: dict[bytes, set[bytes | None]] = {b"%d" % i: {None} for i in range(40)}
        self.done = 0
        self.db = open_store()

    def write(self, keys: list[bytes], value: bytes | None, call: Callable[[], object]) -> None:
        for key in keys:
            self.values[key].add(value)
        if self._signals.attempt(call):
            self.done += 1
            for key in keys:
                self.values[key] = {value}

    def reopen(self) -> None:
        """Close, both under signals, until it is done."""
        while not self._signals.attempt(self.db.close):
            continue
        while not self._signals.attempt(self._assign_opened):
            continue

    def _assign_opened(self) -> None:
        try:
            self.db = self._open()
        except LockedError:
            # A signal between the end of an open and the assignment: the store is nobody's, closed when collected.
            gc.collect()
            self.db = self._open()

    def do(self, number: int) -> None:
        """Something; what, is up to the number."""
        db, key = self.db, b"%d" % (number % 40)
        value = b"%d " % number * 700
        some = [b"%d" % i for i in range(number % 7)]
        if number % 11 == 0:
            self.write([key], None, lambda: db.delete(key))
        elif number % 13 == 0:
            self.write(some, value, lambda: db.put_many([(one, value) for one in some]))
        elif number % 17 == 0:
            self.write([], None, db.compact)
        elif number % 19 == 0:
            self.write([], None, lambda: list(db.items()))
        elif number % 23 == 0:
            self.write([], None, db.sync)
        elif number % 29 == 0:
            self.reopen()
        else:
            self.write([key], value, lambda: db.put(key, value))

    def wrong(self) -> list[bytes]:
        """Keys with a value they cannot have."""
        found = content(self.db)
        return [
            b"%r has %r" % (key, (found.get(key) or b"nothing")[:20])
            for key, values in self.values.items()
            if found.get(key) not in values
        ]


def test_signals_by_the_clock_during_everything_leave_old_or_new_values(
    tmp_path: Path, index: str, io: str
) -> None:
    path = tmp_path / "db"

    def body(report: Report) -> None:
        signals = SignalsByTheClock()
        store = Possible(lambda: open_with(path, REAL, io=io, index=index), signals)
        with signals:
            ends = time.monotonic() + 1.0
            number = 0
            while time.monotonic() < ends or signals.interrupted <= 10 or store.done <= 10:
                number += 1
                store.do(number)
        for fault in store.wrong():
            report(fault)
        store.reopen()
        for fault in store.wrong():
            report(b"reopened: " + fault)
        store.db.close()
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)
