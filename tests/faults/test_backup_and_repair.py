"""Backup and repair while calls to the operating system fail or the process is killed, at each call in turn.

Whatever happens: the source is whole, the destination is whole or not there, and the next attempt succeeds and
leaves nothing of the one before.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flash_kv
from flash_kv import FlashKVError, StoreFullError
from flash_kv.io.faulty import OPERATIONS, Call, Fault, FaultySystem
from flash_kv.io.system import System
from support.damage import flip, segments, tree
from support.processes import run_forked
from support.workload import UNSYNCED, content, open_files_in, open_with

# Clocks and chance do not fail; free and allocated bytes are for reports.
NEVER_FAIL = {"now_ns", "monotonic_s", "boot_id", "random_bytes", "free_bytes", "allocated_bytes"}
FAILING = [name for name in OPERATIONS if name not in NEVER_FAIL]
NO_LINKS = Fault("link", errno=errno.EXDEV, from_then_on=True)
WANTED = {b"key %d" % i: b"%d " % i * 150 for i in range(120)}
CALLS_MAX = 2000


class NthCall:
    """The system in which call `nth` raises `code`, or with None kills the process; armed by `start`."""

    def __init__(self, nth: int, code: int | None, *faults: Fault, inner: System = UNSYNCED) -> None:
        self.nth = nth
        self.code = code
        self.seen = 0
        self.is_armed = False
        self.failed = ""
        self.system = FaultySystem(
            *faults, *(Fault(name, action=self._act, from_then_on=True) for name in FAILING), inner=inner
        )

    def start(self) -> None:
        """Count from now on."""
        self.is_armed = True

    def _act(self, call: Call) -> object:
        self.seen += self.is_armed
        if not self.is_armed or self.seen != self.nth:
            return call.proceed()
        if self.code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        self.failed = f"{call.operation} {os.path.basename(call.path or '')}"
        if call.operation == "close":
            call.proceed()  # as on Linux: a failed close has closed
        raise OSError(self.code, os.strerror(self.code or 0), call.path)


def fill(path: Path) -> None:
    """A closed store with `WANTED` in it, and a few overwritten and deleted records."""
    with open_with(path) as db:
        for key in WANTED:
            db[key] = b"older"
        db.put_many(WANTED)
        db["deleted"] = b"value"
        del db["deleted"]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def assert_whole(path: Path) -> None:
    """This directory is a sound store with all that is wanted."""
    assert flash_kv.verify(path).damages == ()
    with open_with(path) as db:
        assert content(db) == WANTED


def unclear(call: Callable[[], object]) -> str:
    """What is wrong with the error that `call` raises, if it raises one."""
    try:
        call()
    except FlashKVError as error:
        return "" if getattr(error, "path", None) else f"{error!r} names no path"
    except OSError as error:
        return f"{error!r} is no FlashKVError"
    return ""


def attempts(code: int | None) -> Iterator[int]:
    """1, 2, ...; whoever takes them stops."""
    yield from range(1, CALLS_MAX)
    raise AssertionError(f"{CALLS_MAX} calls and no end, with {code}")


# Backup


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    ("io", "faults"), [("mmap", []), ("mmap", [NO_LINKS]), ("file", []), ("file", [NO_LINKS])]
)
def test_a_backup_with_one_failing_call_is_whole_or_not_there(
    tmp_path: Path, io: str, faults: list[Fault], code: int
) -> None:
    fill(tmp_path / "template")
    dest = tmp_path / "copy"
    for nth in attempts(code):
        # Always the same store, so that the calls are the same until one fails.
        shutil.copytree(tmp_path / "template", tmp_path / "db")
        calls = NthCall(nth, code, *faults)
        db = open_with(tmp_path / "db", calls.system, io=io)
        db["written"] = b"%d" % nth
        calls.start()
        assert unclear(lambda db=db: db.backup(dest)) == "", calls.failed
        calls.system.heal()
        assert content(db) == {**WANTED, b"written": b"%d" % nth}, calls.failed
        assert [name for name in names(tmp_path) if name.startswith("tmp-")] == [], calls.failed
        if dest.exists():
            assert flash_kv.verify(dest).damages == (), calls.failed
            remove(dest)
        db.backup(dest)
        assert content(db) == {**WANTED, b"written": b"%d" % nth}
        remove(dest)
        db.close()
        del db
        remove(tmp_path / "db")
        if not calls.failed:
            assert nth > 20
            break
    assert open_files_in(tmp_path) == []


def remove(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def test_a_full_disk_under_the_backup_is_said_and_costs_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "db")
    system = FaultySystem(NO_LINKS, inner=UNSYNCED)
    with open_with(tmp_path / "db", system) as db:
        system.add(Fault("write_at", action="short", path_contains="-copy/0000", from_then_on=True))
        with pytest.raises(StoreFullError):
            db.backup(tmp_path / "copy")
        assert names(tmp_path) == ["db"]
        db["goes"] = b"on"


def test_a_backup_killed_at_any_call_leaves_the_store_whole_and_is_made_again(tmp_path: Path) -> None:
    fill(tmp_path / "db")
    for faults in ([], [NO_LINKS]):
        for nth in attempts(None):
            messages, status = run_forked(lambda report, n=nth, f=faults: _backup(tmp_path, n, f, report))
            if status == 0:
                assert messages == [b"done"]
                assert nth > 20
                remove(tmp_path / "copy")
                break
            assert status == -signal.SIGKILL
            if (tmp_path / "copy").exists():
                assert_whole(tmp_path / "copy")
                remove(tmp_path / "copy")
            with open_with(tmp_path / "db") as db:
                assert content(db) == WANTED
                db.backup(tmp_path / "copy")
            assert_whole(tmp_path / "copy")
            assert names(tmp_path) == ["copy", "db"]
            remove(tmp_path / "copy")


def _backup(directory: Path, nth: int, faults: list[Fault], report: Callable[[bytes], None]) -> None:
    calls = NthCall(nth, None, *faults)
    db = open_with(directory / "db", calls.system)
    calls.start()
    db.backup(directory / "copy")
    report(b"done")


# Repair


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_repair_with_one_failing_call_is_whole_or_not_there(tmp_path: Path, code: int) -> None:
    source, dest = tmp_path / "db", tmp_path / "new"
    fill(source)
    flip(segments(source)[0], 20)
    before = tree(source)
    for nth in attempts(code):
        calls = NthCall(nth, code)
        calls.start()
        assert unclear(lambda c=calls: flash_kv.repair(source, dest, system=c.system)) == "", calls.failed
        assert tree(source) == before, calls.failed
        assert [name for name in names(tmp_path) if name.startswith("tmp-")] == [], calls.failed
        if dest.exists():
            assert flash_kv.verify(dest).damages == (), calls.failed
            with open_with(dest) as db:
                found = content(db)
            # A source that cannot be read is damaged: what is in such places is missing, never wrong.
            assert found.items() <= WANTED.items(), calls.failed
            remove(dest)
        if not calls.failed:
            assert nth > 20
            assert found == WANTED
            break
    assert open_files_in(tmp_path) == []


def test_a_full_disk_under_a_repair_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    source = tmp_path / "db"
    with open_with(source) as db:
        for i in range(100):
            db[f"key {i}"] = os.urandom(10_000)
    system = FaultySystem(
        Fault("allocate", nth=2, errno=errno.ENOSPC, from_then_on=True, path_contains=".seg"), inner=UNSYNCED
    )
    before = tree(source)
    with pytest.raises(StoreFullError):
        flash_kv.repair(source, tmp_path / "new", system=system)
    assert names(tmp_path) == ["db"]
    assert tree(source) == before


def test_a_repair_killed_at_any_call_leaves_the_source_alone_and_is_made_again(tmp_path: Path) -> None:
    source, dest = tmp_path / "db", tmp_path / "new"
    fill(source)
    flip(segments(source)[0], 20)
    before = tree(source)
    for nth in attempts(None):
        messages, status = run_forked(lambda report, n=nth: _repair(tmp_path, n, report))
        assert tree(source) == before
        if status == 0:
            assert messages == [b"done"]
            assert nth > 20
            break
        assert status == -signal.SIGKILL
        if dest.exists():
            assert_whole(dest)
        elif nth % 5 == 0:
            flash_kv.repair(source, dest)
            assert_whole(dest)
            assert names(tmp_path) == ["db", "new"]
        if dest.exists():
            remove(dest)
    assert_whole(dest)


def _repair(directory: Path, nth: int, report: Callable[[bytes], None]) -> None:
    calls = NthCall(nth, None)
    calls.start()
    flash_kv.repair(directory / "db", directory / "new", system=calls.system)
    report(b"done")
