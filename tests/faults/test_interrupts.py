"""Ctrl-C anywhere: each key keeps its old value or gets its new one, nothing hangs, and the store goes on.

One test sends the signal at each place in turn where the interpreter would handle it; by default every 17th place, from one
of chance, with FLASH_KV_TEST_FAULTS=all every one. The other sends it by the clock.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.interrupts import Interrupter
from support.processes import Report, run_forked
from support.workload import Model, Step, content, difference, history, open_with

from flash_kv import DB, LockedError
from flash_kv.io.system import REAL

STRIDE = 1 if os.environ.get("FLASH_KV_TEST_FAULTS") == "all" else 17


class Interrupted:
    """A history with one signal in it; `faults` says what was wrong afterwards."""

    def __init__(self, path: Path, nth: int, io: str, index: str) -> None:
        # The real system: a stand-in would be interrupted itself.
        self._open: Callable[[], DB] = lambda: open_with(path, REAL, io=io, index=index)
        self.interrupter = Interrupter(nth)
        self.faults: list[str] = []
        self.model: Model = {}

    def _with_signal(self, call: Callable[[], object]) -> bool:
        """Whether the call came to its end."""
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
        with self._open() as again:
            self._check("reopened", content(again), self.model)

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

    def _check(self, when: str, found: Model, wanted: Model) -> None:
        if fault := difference(found, wanted):
            self.faults.append(f"{when}: {fault}")


@pytest.mark.parametrize(("io", "index"), [("mmap", "btree"), ("file", "hash")])
def test_a_signal_at_any_place_leaves_the_old_value_or_the_new_one(
    tmp_path: Path, io: str, index: str, rng: random.Random
) -> None:
    wrong = []
    nth = rng.randint(1, STRIDE)
    while True:
        path = tmp_path / f"db{nth}"

        def body(report: Report, nth: int = nth, path: Path = path) -> None:
            run = Interrupted(path, nth, io, index)
            run.run()
            report((run.interrupter.place or "end").encode())
            for fault in run.faults:
                report(fault.encode())

        messages, status = run_forked(body, timeout_s=30)
        shutil.rmtree(path, ignore_errors=True)
        if status or len(messages) != 1:
            wrong.append(f"place {nth}, exit {status}: {messages}")
        elif messages == [b"end"]:
            break
        nth += STRIDE
    assert nth > 500
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@contextmanager
def signals_by_the_clock(interval_s: float) -> Iterator[None]:
    """SIGINT to the main thread again and again."""
    is_over = threading.Event()

    def send() -> None:
        while not is_over.wait(interval_s):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        while thread.is_alive():
            try:
                is_over.set()
                thread.join()
            except KeyboardInterrupt:
                continue


def test_signals_by_the_clock_during_everything_leave_old_or_new_values(
    tmp_path: Path, index: str, io: str
) -> None:
    path = tmp_path / "db"

    def body(report: Report) -> None:
        def reopened() -> DB:
            try:
                return open_with(path, REAL, io=io, index=index)
            except LockedError:
                # A signal between the end of an open and the assignment: the store is nobody's, closed when collected.
                gc.collect()
                return open_with(path, REAL, io=io, index=index)

        possible: dict[bytes, set[bytes | None]] = {b"%d" % i: {None} for i in range(40)}
        counts = {"interrupted": 0, "done": 0}
        stores = [reopened()]

        def attempt(keys: list[bytes], value: bytes | None, call: Callable[[], object]) -> None:
            for key in keys:
                possible[key].add(value)
            try:
                call()
            except KeyboardInterrupt:
                counts["interrupted"] += 1
            else:
                counts["done"] += 1
                for key in keys:
                    possible[key] = {value}

        ends = time.monotonic() + 1.0
        number = 0
        while time.monotonic() < ends:
            try:
                with signals_by_the_clock(0.0007):
                    while time.monotonic() < ends:
                        number += 1
                        _do_something(stores, number, attempt, reopened)
            except KeyboardInterrupt:
                continue
        stores[0].close()  # an interrupted close is finished by the next
        for _ in range(2):
            stores[0] = reopened()
            found = content(stores[0])
            for key, values in possible.items():
                if found.get(key) not in values:
                    report(b"%r has %r" % (key, (found.get(key) or b"nothing")[:20]))
            stores[0].close()
        report(b"done" if counts["interrupted"] and counts["done"] else repr(counts).encode())

    assert run_forked(body) == ([b"done"], 0)


def _do_something(
    stores: list[DB],
    number: int,
    attempt: Callable[[list[bytes], bytes | None, Callable[[], object]], None],
    reopened: Callable[[], DB],
) -> None:
    db = stores[0]
    if db.closed:
        db.close()  # an interrupted close is finished by the next
        db = stores[0] = reopened()
    key = b"%d" % (number % 40)
    value = b"%d " % number * 700
    some = [b"%d" % i for i in range(number % 7)]
    if number % 11 == 0:
        attempt([key], None, lambda: db.delete(key))
    elif number % 13 == 0:
        attempt(some, value, lambda: db.put_many([(one, value) for one in some]))
    elif number % 17 == 0:
        attempt([], None, db.compact)
    elif number % 19 == 0:
        attempt([], None, lambda: list(db.items()))
    elif number % 23 == 0:
        attempt([], None, db.sync)
    elif number % 29 == 0:
        attempt([], None, db.close)
    else:
        attempt([key], value, lambda: db.put(key, value))
