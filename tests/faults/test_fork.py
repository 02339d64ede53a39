"""A forked child: every use of the parent's store is refused, and the parent and its lock take no notice of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import flash_kv
from flash_kv import DB, ForkedError, LockedError, Snapshot, WriteBatch
from support.processes import Report, forked, run_forked

USES: dict[str, Callable[[DB, Snapshot, WriteBatch], object]] = {
    "get": lambda db, snapshot, batch: db.get("a"),
    "item": lambda db, snapshot, batch: db["a"],
    "contains": lambda db, snapshot, batch: "a" in db,
    "len": lambda db, snapshot, batch: len(db),
    "contains_many": lambda db, snapshot, batch: db.contains_many(["a"]),
    "sorted load": lambda db, snapshot, batch: db.put_many([("a", "child")], sorted=True),
    "get_many": lambda db, snapshot, batch: db.get_many(["a", "b"]),
    "put": lambda db, snapshot, batch: db.put("a", "child"),
    "delete": lambda db, snapshot, batch: db.delete("a"),
    "pop": lambda db, snapshot, batch: db.pop("a"),
    "popitem": lambda db, snapshot, batch: db.popitem(),
    "setdefault": lambda db, snapshot, batch: db.setdefault("c", "child"),
    "update": lambda db, snapshot, batch: db.update(a="child"),
    "clear": lambda db, snapshot, batch: db.clear(),
    "put_many": lambda db, snapshot, batch: db.put_many([("a", "child")]),
    "delete_many": lambda db, snapshot, batch: db.delete_many(["a"]),
    "delete_range": lambda db, snapshot, batch: db.delete_range(),
    "keys": lambda db, snapshot, batch: list(db.keys()),
    "values": lambda db, snapshot, batch: list(db.values()),
    "items": lambda db, snapshot, batch: list(db.items()),
    "iteration": lambda db, snapshot, batch: list(db),
    "batch": lambda db, snapshot, batch: db.batch(),
    "commit of a batch": lambda db, snapshot, batch: batch.commit(),
    "snapshot": lambda db, snapshot, batch: db.snapshot(),
    "get of a snapshot": lambda db, snapshot, batch: snapshot.get("a"),
    "items of a snapshot": lambda db, snapshot, batch: list(snapshot.items()),
    "sync": lambda db, snapshot, batch: db.sync(),
    "compact": lambda db, snapshot, batch: db.compact(),
    "dry run": lambda db, snapshot, batch: db.compact(dry_run=True),
    "backup": lambda db, snapshot, batch: db.backup("/dev/null/nowhere"),
    "verify": lambda db, snapshot, batch: db.verify(),
    "stats": lambda db, snapshot, batch: db.stats(),
}


def test_every_use_in_a_forked_child_is_refused(open_db: Callable[..., DB]) -> None:
    db = open_db()
    db.update(a="1", b="2")
    snapshot = db.snapshot()
    batch = db.batch()
    batch.put("c", "3")
    scan = iter(db.items())
    next(scan)

    def body(report: Report) -> None:
        uses = USES | {"an iteration under way": lambda db, snapshot, batch: next(scan)}
        for name, use in uses.items():
            try:
                answer: object = use(db, snapshot, batch)
            except ForkedError as error:
                if error.opened_pid != os.getppid() or error.path != str(db.path):
                    report(f"{name}: {error}".encode())
            except BaseException as error:
                report(f"{name}: {error!r}".encode())
            else:
                report(f"{name}: {answer!r}".encode())

    assert run_forked(body) == ([], 0)
    batch.commit()
    scan.close()  # type: ignore[attr-defined]
    snapshot.close()
    assert dict(db) == {b"a": b"1", b"b": b"2", b"c": b"3"}


def test_the_parent_goes_on_after_a_child_has_closed_and_dropped_everything(
    open_db: Callable[..., DB],
) -> None:
    db = open_db()
    db["a"] = "1"
    holder: list[object] = [db, db.snapshot(), iter(db), db.batch()]

    def body(report: Report) -> None:
        snapshot, batch = holder[1], holder[3]
        assert isinstance(snapshot, Snapshot)
        assert isinstance(batch, WriteBatch)
        batch.discard()
        snapshot.close()
        db.close()
        db.close()
        holder.clear()
        report(b"done")

    assert run_forked(body) == ([b"done"], 0)
    db["b"] = "2"
    holder.clear()
    assert dict(db) == {b"a": b"1", b"b": b"2"}


def test_the_lock_of_the_parent_outlives_the_child(open_db: Callable[..., DB], tmp_path: Path) -> None:
    db = open_db()
    for use in (lambda: None, db.close, lambda: None):

        def body(report: Report, use: Callable[[], object] = use) -> None:
            use()

        assert run_forked(body)[1] == 0
    with pytest.raises(LockedError) as caught:
        flash_kv.open(tmp_path / "db")
    assert caught.value.holder_pid == os.getpid()


def test_a_child_opens_the_store_once_the_parent_has_closed_it(
    open_db: Callable[..., DB], index: str, io: str
) -> None:
    db = open_db()
    db["a"] = "1"
    reading, writing = os.pipe()

    def body(report: Report) -> None:
        os.read(reading, 1)
        with flash_kv.open(db.path, index=index, io=io) as own:
            own["b"] = own["a"]
        report(b"done")

    with forked(body) as child:
        db.close()
        os.write(writing, b".")
        assert list(child.messages()) == [b"done"]
        assert child.wait() == 0
    os.close(reading)
    os.close(writing)
    assert dict(open_db()) == {b"a": b"1", b"b": b"1"}


def test_a_living_child_of_a_killed_parent_does_not_hold_the_lock(
    tmp_path: Path, index: str, io: str
) -> None:
    path = tmp_path / "db"
    reading, writing = os.pipe()

    def body(report: Report) -> None:
        db = flash_kv.open(path, index=index, io=io)
        db["a"] = "1"
        grandchild = os.fork()
        if grandchild == 0:
            os.close(writing)
            os.read(reading, 1)  # until the test is over
            os._exit(0)
        report(b"%d" % grandchild)
        os.kill(os.getpid(), signal.SIGKILL)

    with forked(body) as child:
        grandchild = int(next(child.messages()))
        assert child.was_killed
        try:
            os.kill(grandchild, 0)
            with flash_kv.open(path, index=index, io=io) as db:
                assert dict(db) == {b"a": b"1"}
        finally:
            os.kill(grandchild, signal.SIGKILL)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("use", ["nothing", "close", "snapshot", "get"])
def test_a_fork_while_another_thread_writes_does_not_hang(open_db: Callable[..., DB], use: str) -> None:
    db = open_db()
    snapshot = db.snapshot()
    is_over = threading.Event()
    # Checked and copied under the write lock without the GIL: at any moment the lock is most likely held.
    value = b"v" * 2_000_000
    uses = {"nothing": repr, "close": DB.close, "snapshot": lambda _: snapshot.close(), "get": _refused_get}

    def write() -> None:
        while not is_over.is_set():
            db["big"] = value

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            assert run_forked(lambda report: uses[use](db))[1] == 0
    finally:
        is_over.set()
        thread.join()
        snapshot.close()
    assert db["big"] == value


def _refused_get(db: DB) -> None:
    with pytest.raises(ForkedError):
        db.get("big")
