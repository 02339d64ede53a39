"""LOCK: one writer, named in the error; content is never trusted; forks neither break nor keep the lock."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flash_kv.errors import LockedError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.io.lockfile import LINE_BYTES, LOCK_NAME, acquire, acquire_shared
from flash_kv.io.system import REAL


def test_lock_names_its_holder_in_one_private_line(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    content = (tmp_path / LOCK_NAME).read_text()
    assert content.startswith(f"pid={os.getpid()} host=")
    assert content.count("\n") == 1
    assert len(content) == LINE_BYTES
    assert (tmp_path / LOCK_NAME).stat().st_mode & 0o777 == 0o600
    lock.release()


def test_second_writer_is_told_who_holds_it(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    with pytest.raises(LockedError) as caught:
        acquire(REAL, tmp_path)
    lock.release()
    assert caught.value.holder_pid == os.getpid()
    assert caught.value.holder_host
    assert caught.value.path == str(tmp_path / LOCK_NAME)
    assert str(os.getpid()) in str(caught.value)


def test_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    assert lock.is_held
    lock.release()
    lock.release()
    assert not lock.is_held
    acquire(REAL, tmp_path).release()
    assert os.listdir(tmp_path) == [LOCK_NAME]


CONTENTS = {
    "empty": b"",
    "garbage": os.urandom(5000),
    "stale": b"pid=1 host=gone started=2001-01-01T00:00:00Z\n",
    "not ascii": "pid=١ host=x started=2001-01-01T00:00:00Z\n".encode(),
    "huge pid": b"pid=99999999999999 host=x started=2001-01-01T00:00:00Z\n",
    "two lines": b"pid=1 host=x started=2001-01-01T00:00:00Z\npid=2\n",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_content_without_a_lock_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_NAME).write_bytes(content)
    lock = acquire(REAL, tmp_path)
    assert len((tmp_path / LOCK_NAME).read_bytes()) == LINE_BYTES
    lock.release()


@pytest.mark.parametrize("name", ["empty", "garbage", "not ascii", "huge pid", "two lines"])
def test_lock_with_content_that_names_nobody_is_still_a_lock(tmp_path: Path, name: str) -> None:
    lock = acquire(REAL, tmp_path)
    (tmp_path / LOCK_NAME).write_bytes(CONTENTS[name])
    with pytest.raises(LockedError) as caught:
        acquire(REAL, tmp_path)
    lock.release()
    assert caught.value.holder_pid is None


def test_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys; from flash_kv.io.lockfile import acquire; from flash_kv.io.system import REAL\n"
        "lock = acquire(REAL, sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError) as caught:
            acquire(REAL, tmp_path)
        assert caught.value.holder_pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    acquire(REAL, tmp_path).release()


def test_writer_is_told_of_readers_and_not_of_the_last_writer(tmp_path: Path) -> None:
    acquire(REAL, tmp_path).release()
    readers = [acquire_shared(REAL, tmp_path) for _ in range(2)]
    for reader in readers:
        with pytest.raises(LockedError, match="locked by readers: close their handles") as caught:
            acquire(REAL, tmp_path)
        assert caught.value.is_read
        assert caught.value.holder_pid is None
        assert reader is not None
        reader.release()
    writer = acquire(REAL, tmp_path)
    with pytest.raises(LockedError) as caught:
        acquire_shared(REAL, tmp_path)
    writer.release()
    assert not caught.value.is_read
    assert caught.value.holder_pid == os.getpid()


def _in_child(action: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0


def test_abandon_in_a_forked_child_keeps_the_parents_lock(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    _in_child(lock.abandon)
    with pytest.raises(LockedError):
        acquire(REAL, tmp_path)
    lock.release()


def test_release_in_a_forked_child_keeps_the_parents_lock(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    _in_child(lock.release)
    with pytest.raises(LockedError):
        acquire(REAL, tmp_path)
    lock.release()


def test_release_in_the_parent_frees_the_lock_while_a_child_lives(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    lock.release()
    acquire(REAL, tmp_path).release()
    os.close(writer)
    os.waitpid(pid, 0)


def test_full_disk_does_not_prevent_the_lock(tmp_path: Path) -> None:
    system = FaultySystem(Fault("write_at", errno=errno.ENOSPC))
    lock = acquire(system, tmp_path)
    with pytest.raises(LockedError) as caught:
        acquire(REAL, tmp_path)
    assert caught.value.holder_pid is None
    lock.release()


@pytest.mark.parametrize("operation", ["open", "lock", "write_at", "truncate", "now_ns"])
def test_failures_leave_no_lock_and_no_descriptor(tmp_path: Path, operation: str) -> None:
    system = FaultySystem(Fault(operation))
    with pytest.raises(OSError) as caught:
        acquire(system, tmp_path)
    assert caught.value.errno == errno.EIO
    assert system.open_paths == {}
    acquire(REAL, tmp_path).release()


def test_unreadable_holder_is_still_locked(tmp_path: Path) -> None:
    lock = acquire(REAL, tmp_path)
    with pytest.raises(LockedError) as caught:
        acquire(FaultySystem(Fault("read_at")), tmp_path)
    assert caught.value.holder_pid is None
    lock.release()


def test_failed_unlock_still_closes(tmp_path: Path) -> None:
    system = FaultySystem(Fault("unlock"))
    lock = acquire(system, tmp_path)
    with pytest.raises(OSError):
        lock.release()
    assert system.open_paths == {}
    acquire(REAL, tmp_path).release()


def test_link_planted_as_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "store" / LOCK_NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError) as caught:
        acquire(REAL, tmp_path / "store")
    assert caught.value.errno == errno.ELOOP
    assert (tmp_path / "victim").read_bytes() == b"precious"
