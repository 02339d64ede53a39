"""Every call to the operating system fails once, and from some call on for good: nothing acknowledged is lost.

For N = 1, 2, ... the Nth call of a scripted history fails, until a run has fewer calls than that. After each: what was
acknowledged is readable, at once and after reopening; what was refused is not there; errors say what and where.

By default every 13th call, from one of chance; with FLASH_KV_TEST_FAULTS=all every one.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash_kv import FlashKVError
from flash_kv.io.faulty import OPERATIONS, Call, Fault, FaultySystem
from support.workload import (
    UNSYNCED,
    Run,
    content,
    difference,
    history,
    open_files_in,
    open_with,
    put,
)

# Clocks and chance do not fail; free and allocated bytes are for reports.
NEVER_FAIL = {"now_ns", "monotonic_s", "boot_id", "random_bytes", "free_bytes", "allocated_bytes"}
FAILING = [name for name in OPERATIONS if name not in NEVER_FAIL]
# The index never sees a fault of the system, so each io kind is tried with one index.
KINDS = [("mmap", "btree"), ("file", "hash")]
STRIDE = 1 if os.environ.get("FLASH_KV_TEST_FAULTS") == "all" else 13


class FailingCalls:
    """The system in which, from call `nth` on or once, calls raise `code`; and which call that was."""

    def __init__(self, nth: int, code: int, from_then_on: bool) -> None:
        self.code = code
        self.failed: list[str] = []
        self.seen = 0
        self.nth = nth
        self.from_then_on = from_then_on
        faults = [Fault(name, action=self._act, from_then_on=True) for name in FAILING]
        self.system = FaultySystem(*faults, inner=UNSYNCED)

    def _act(self, call: Call) -> object:
        self.seen += 1
        if self.seen != self.nth and not (self.from_then_on and self.seen > self.nth):
            return call.proceed()
        self.failed.append(f"{call.operation} {os.path.basename(call.path or '')}")
        if call.operation == "close":
            call.proceed()  # as on Linux: a failed close has closed
        raise OSError(self.code, os.strerror(self.code), call.path)


def run_history(path: Path, calls: FailingCalls, io: str, index: str) -> list[str]:
    """Run it all; what is wrong afterwards."""
    wrong = []
    run = Run(lambda: open_with(path, calls.system, io=io, index=index))
    for steps in (history(), [put("after", b"reopening")]):
        if not run.open():
            break
        assert run.db is not None
        run.steps(steps)
        wrong.append(("before close", difference(content(run.db), run.model)))
        run.close()
    calls.system.heal()
    wrong += [(what, fault) for what, error in run.errors if (fault := _unclear(error))]
    try:
        with open_with(path, io=io, index=index) as db:
            wrong.append(("reopened", difference(content(db), run.model)))
            db.put(b"one", b"more")
    except FlashKVError as error:
        wrong.append(("cannot be reopened", str(error)))
    wrong.append(("left behind", " ".join(name for name in os.listdir(path) if name.startswith("tmp-"))))
    # Also while the errors are there, whose tracebacks hold on to all that was open.
    wrong.append(("left open", " ".join(open_files_in(path))))
    return [f"{when}: {what}" for when, what in wrong if what]


def _unclear(error: Exception) -> str:
    """What is wrong with an error that a caller got to see."""
    if not isinstance(error, FlashKVError):
        return f"{error!r} is no FlashKVError"
    return "" if getattr(error, "path", None) else f"{error!r} has no path"


def each_call(
    tmp_path: Path, kind: tuple[str, str], first: int, code: int, from_then_on: bool
) -> Iterator[tuple[str, list[str]]]:
    """For N = `first`, and each one a stride further: which call failed, and what was wrong afterwards."""
    for nth in range(first, 10_000, STRIDE):
        path = tmp_path / f"db{nth}"
        calls = FailingCalls(nth, code, from_then_on)
        wrong = run_history(path, calls, *kind)
        if not calls.failed:
            assert nth > 50
            assert wrong == []
            return
        shutil.rmtree(path)
        yield f"call {nth}, {calls.failed[0]}", wrong
    raise AssertionError("the history never ends")


@pytest.mark.parametrize("from_then_on", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_any_call_may_fail(
    tmp_path: Path, kind: tuple[str, str], code: int, from_then_on: bool, rng: random.Random
) -> None:
    calls = each_call(tmp_path, kind, rng.randint(1, STRIDE), code, from_then_on)
    wrong = [f"{call}: {fault}" for call, faults in calls for fault in faults]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
