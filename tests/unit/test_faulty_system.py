"""FaultySystem: the planned call fails, in the planned way, and nothing else changes."""

import errno
import inspect
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from flash_kv.io import faulty
from flash_kv.io.faulty import OPERATIONS, Call, Fault, FaultySystem
from flash_kv.io.system import System

CREATE = os.O_RDWR | os.O_CREAT


def test_every_public_operation_of_system_is_intercepted() -> None:
    public = {name for name, _ in inspect.getmembers(System, callable) if not name.startswith("_")}
    assert public == set(OPERATIONS)
    for name in public:
        assert name in vars(FaultySystem), name
        assert inspect.signature(getattr(FaultySystem, name)) == inspect.signature(getattr(System, name))


def test_the_system_behind_is_the_one_that_acts() -> None:
    class Recorder(System):
        def now_ns(self) -> int:
            return 42

    system = FaultySystem(inner=Recorder())
    assert system.now_ns() == 42
    assert system.calls["now_ns"] == 1


def _use_everything(system: System, directory: Path) -> set[str]:
    """Calls each operation once or more; the names of those it calls."""
    fd = system.open(directory / "file", CREATE)
    system.allocate(fd, 0, 4096)
    system.write_at(fd, b"hello", 0)
    system.write_back(fd, 0, 4096)
    assert system.read_at(fd, 5, 0) == b"hello"
    system.map(fd, 4096, True).close()
    system.truncate(fd, 5)
    system.sync_data(fd)
    system.sync_file(fd)
    assert system.lock(fd)
    assert system.lock_shared(fd)
    system.unlock(fd)
    system.close(fd)
    system.close(system.open_nameless())
    system.sync_directory(directory)
    system.rename(directory / "file", directory / "a")
    system.link(directory / "a", directory / "b")
    system.copy_file(directory / "a", directory / "c")
    system.unlink(directory / "b")
    system.make_directory(directory / "d")
    assert system.is_directory(directory / "d")
    assert system.list_directory(directory) == ["a", "c", "d"]
    system.remove_directory(directory / "d")
    assert system.file_size(directory / "c") == 5
    assert system.allocated_bytes(directory / "c") >= 0
    assert system.free_bytes(directory) >= 0
    assert system.now_ns() > 0
    assert system.monotonic_s() >= 0
    assert isinstance(system.boot_id(), str)
    assert len(system.random_bytes(3)) == 3
    return set(OPERATIONS)


def test_without_faults_it_is_the_real_system_and_counts(tmp_path: Path) -> None:
    system = FaultySystem()
    used = _use_everything(system, tmp_path)
    assert set(system.calls) == used
    assert system.open_paths == {}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_can_fail(tmp_path: Path, operation: str) -> None:
    system = FaultySystem(Fault(operation, errno=errno.EIO))
    with pytest.raises(OSError) as caught:
        _use_everything(system, tmp_path)
    assert caught.value.errno == errno.EIO
    for fd in list(system.open_paths):
        system.close(fd)


def test_any_operation_matches_the_star(tmp_path: Path) -> None:
    system = FaultySystem(Fault("*", nth=2))
    system.now_ns()
    with pytest.raises(OSError):
        system.list_directory(tmp_path)
    assert system.list_directory(tmp_path) == []


def test_only_the_nth_call_fails(tmp_path: Path) -> None:
    system = FaultySystem(Fault("sync_directory", nth=3))
    outcomes = []
    for _ in range(5):
        try:
            system.sync_directory(tmp_path)
            outcomes.append(True)
        except OSError:
            outcomes.append(False)
    assert outcomes == [True, True, False, True, True]
    assert system.calls["sync_directory"] == 5


def test_from_then_on_fails_until_healed(tmp_path: Path) -> None:
    system = FaultySystem(Fault("list_directory", nth=2, from_then_on=True, errno=errno.EMFILE))
    system.list_directory(tmp_path)
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            system.list_directory(tmp_path)
        assert caught.value.errno == errno.EMFILE
    system.heal()
    assert system.list_directory(tmp_path) == []


def test_added_faults_count_from_now_on() -> None:
    system = FaultySystem()
    system.now_ns()
    system.add(Fault("now_ns", nth=2))
    system.now_ns()
    with pytest.raises(OSError):
        system.now_ns()


def test_path_selects_the_calls_that_count(tmp_path: Path) -> None:
    system = FaultySystem(Fault("write_at", nth=2, path_contains=".seg"))
    segment = system.open(tmp_path / "1.seg", CREATE)
    other = system.open(tmp_path / "LOCK", CREATE)
    system.write_at(segment, b"a", 0)
    for _ in range(5):
        system.write_at(other, b"b", 0)
    with pytest.raises(OSError) as caught:
        system.write_at(segment, b"a", 1)
    assert caught.value.filename == str(tmp_path / "1.seg")
    system.close(segment)
    system.close(other)


@pytest.mark.parametrize("part", ["/old", "/new"])
def test_rename_matches_by_either_name(tmp_path: Path, part: str) -> None:
    (tmp_path / "old").touch()
    system = FaultySystem(Fault("rename", path_contains=part))
    with pytest.raises(OSError):
        system.rename(tmp_path / "old", tmp_path / "new")
    assert system.list_directory(tmp_path) == ["old"]


def test_a_reused_descriptor_belongs_to_its_new_path(tmp_path: Path) -> None:
    system = FaultySystem(Fault("write_at", path_contains="first", from_then_on=True))
    fd = system.open(tmp_path / "first", CREATE)
    system.close(fd)
    again = system.open(tmp_path / "second", CREATE)
    assert again == fd
    system.write_at(again, b"a", 0)
    system.close(again)


def test_failed_close_has_closed(tmp_path: Path) -> None:
    system = FaultySystem(Fault("close"))
    fd = system.open(tmp_path / "file", CREATE)
    with pytest.raises(OSError):
        system.close(fd)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert system.open_paths == {}


def test_short_write_writes_half_and_reports_a_full_disk(tmp_path: Path) -> None:
    system = FaultySystem(Fault("write_at", action="short"))
    fd = system.open(tmp_path / "file", CREATE)
    with pytest.raises(OSError) as caught:
        system.write_at(fd, b"01234567", 2)
    system.close(fd)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == b"\0\0" + b"0123"


def test_delay_delays_and_proceeds(tmp_path: Path) -> None:
    system = FaultySystem(Fault("list_directory", action="delay", delay_s=0.05))
    start = time.monotonic()
    assert system.list_directory(tmp_path) == []
    assert time.monotonic() - start >= 0.05


def test_kill_ends_the_process_before_the_call(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            FaultySystem(Fault("make_directory", nth=2, action="kill")).make_directory(tmp_path / "a")
            system = FaultySystem(Fault("make_directory", action="kill"))
            system.make_directory(tmp_path / "b")
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert os.listdir(tmp_path) == ["a"]


def test_own_action_decides_about_the_outcome(tmp_path: Path) -> None:
    seen: list[Call] = []

    def done_but_reported_as_failed(call: Call) -> object:
        seen.append(call)
        call.proceed()
        raise OSError(errno.EIO, "late")

    system = FaultySystem(Fault("make_directory", action=done_but_reported_as_failed))
    with pytest.raises(OSError, match="late"):
        system.make_directory(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    assert (seen[0].operation, seen[0].path) == ("make_directory", str(tmp_path / "a"))
    assert FaultySystem(Fault("boot_id", action=lambda call: "another")).boot_id() == "another"


def test_first_due_fault_decides_and_the_others_count_on() -> None:
    system = FaultySystem(Fault("now_ns", errno=errno.EIO), Fault("now_ns", nth=2, errno=errno.EPERM))
    codes = []
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            system.now_ns()
        codes.append(caught.value.errno)
    assert codes == [errno.EIO, errno.EPERM]


def test_trace_tells_what_was_called_on_what_in_order(tmp_path: Path) -> None:
    system = FaultySystem(is_tracing=True)
    fd = system.open(tmp_path / "a", CREATE)
    system.sync_file(fd)
    system.close(fd)
    system.rename(tmp_path / "a", tmp_path / "b")
    system.now_ns()
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert system.trace == [
        ("open", a),
        ("sync_file", a),
        ("close", a),
        ("rename", f"{a} -> {b}"),
        ("now_ns", None),
    ]


def test_threads_count_exactly() -> None:
    system = FaultySystem(Fault("now_ns", nth=1000))
    failures: list[OSError] = []

    def call() -> None:
        for _ in range(500):
            try:
                system.now_ns()
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert system.calls["now_ns"] == 2000
    assert len(failures) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"operation": "fsync"},
        {"operation": "open", "nth": 0},
        {"operation": "open", "action": "explode"},
        {"operation": "open", "action": "short"},
    ],
)
def test_impossible_faults_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - four texts, one type
        Fault(**arguments)  # type: ignore[arg-type]


def test_the_star_is_no_operation() -> None:
    assert faulty.ANY_OPERATION not in OPERATIONS
