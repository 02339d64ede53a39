"""The real System: every operation does all of what it says, or raises OSError."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flash_kv.io import system as system_module
from flash_kv.io.system import CHUNK_BYTES, REAL, System

pytestmark = pytest.mark.usefixtures("real_syncs")


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = REAL.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_new_files_are_private_and_closed_on_exec(tmp_path: Path, fd: int) -> None:
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(fd)


def test_new_directories_are_private(tmp_path: Path) -> None:
    REAL.make_directory(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        REAL.make_directory(tmp_path / "store")


def test_close_closes(tmp_path: Path) -> None:
    descriptor = REAL.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    REAL.close(descriptor)
    with pytest.raises(OSError) as caught:
        os.fstat(descriptor)
    assert caught.value.errno == errno.EBADF


def test_a_file_without_a_name_ends_with_its_descriptor() -> None:
    system = System()
    fd = system.open_nameless()
    try:
        system.write_at(fd, b"bytes", 0)
        assert system.read_at(fd, 10, 0) == b"bytes"
        status = os.fstat(fd)
        assert (status.st_nlink, status.st_size) == (0, 5)
        assert not os.get_inheritable(fd)
    finally:
        system.close(fd)


def test_written_bytes_are_read_back(fd: int) -> None:
    REAL.write_at(fd, b"hello", 10)
    assert REAL.read_at(fd, 5, 10) == b"hello"
    assert REAL.read_at(fd, 10, 0) == bytes(10)


@pytest.mark.parametrize("data", [bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"abcd").cast("H")])
def test_any_buffer_is_written_as_bytes(fd: int, data: bytearray | memoryview) -> None:
    REAL.write_at(fd, data, 0)
    assert REAL.read_at(fd, 9, 0) == b"abcd"


def test_write_goes_on_after_short_writes(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
    REAL.write_at(fd, b"0123456789", 2)
    assert REAL.read_at(fd, 99, 0) == b"\0\0" + b"0123456789"


def test_read_goes_on_after_short_reads_and_ends_at_the_end(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    REAL.write_at(fd, b"0123456789", 0)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 3), offset))
    assert REAL.read_at(fd, 8, 1) == b"12345678"
    assert REAL.read_at(fd, 2**40, 1) == b"123456789"
    assert REAL.read_at(fd, 5, 10) == b""


def test_reads_larger_than_one_piece_are_whole(fd: int) -> None:
    payload = os.urandom(CHUNK_BYTES + 5)
    REAL.write_at(fd, payload, 0)
    assert REAL.read_at(fd, len(payload), 0) == payload


def test_allocated_space_is_real_and_reads_as_zeros(tmp_path: Path, fd: int) -> None:
    REAL.allocate(fd, 0, 2**20)
    assert REAL.file_size(tmp_path / "file") == 2**20
    assert REAL.allocated_bytes(tmp_path / "file") >= 2**20
    assert REAL.read_at(fd, 2**20, 0) == bytes(2**20)


def test_allocating_keeps_what_is_there(fd: int) -> None:
    REAL.write_at(fd, b"kept", 100)
    REAL.allocate(fd, 0, 4096)
    assert REAL.read_at(fd, 4, 100) == b"kept"


def _cannot(*_: int) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def test_file_system_without_preallocation_gets_zeros_written(
    tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _cannot)
    REAL.write_at(fd, b"kept", 100)
    os.ftruncate(fd, 2**19)
    REAL.allocate(fd, 50, CHUNK_BYTES + 1000)
    assert REAL.file_size(tmp_path / "file") == CHUNK_BYTES + 1050
    assert REAL.allocated_bytes(tmp_path / "file") >= CHUNK_BYTES
    expected = bytes(50) + b"kept" + bytes(CHUNK_BYTES + 1000 - 54)
    assert REAL.read_at(fd, 2**40, 50) == expected


def test_failed_allocation_leaves_the_size_as_it_was(
    tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(fd: int, offset: int, size: int) -> None:
        os.ftruncate(fd, offset + size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    REAL.write_at(fd, b"kept", 0)
    monkeypatch.setattr(os, "posix_fallocate", half)
    with pytest.raises(OSError) as caught:
        REAL.allocate(fd, 4, 2**20)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, -1), (-1, 10)])
def test_impossible_allocations_are_errors(fd: int, offset: int, size: int) -> None:
    with pytest.raises(OSError) as caught:
        REAL.allocate(fd, offset, size)
    assert caught.value.errno == errno.EINVAL


def test_truncate_cuts_and_extends(tmp_path: Path, fd: int) -> None:
    REAL.write_at(fd, b"0123456789", 0)
    REAL.truncate(fd, 4)
    assert (tmp_path / "file").read_bytes() == b"0123"
    REAL.truncate(fd, 6)
    assert (tmp_path / "file").read_bytes() == b"0123\0\0"


def test_syncs_reach_the_kernel(tmp_path: Path, fd: int) -> None:
    REAL.sync_data(fd)
    REAL.sync_file(fd)
    REAL.sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        REAL.sync_directory(tmp_path / "file")


@pytest.mark.parametrize("sync", [REAL.sync_data, REAL.sync_file])
def test_syncing_what_cannot_be_synced_is_an_error(sync: Callable[[int], None]) -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError) as caught:
        sync(writer)
    os.close(reader)
    os.close(writer)
    assert caught.value.errno == errno.EINVAL


def test_macos_syncs_use_the_full_sync(tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[int] = []
    monkeypatch.setattr(system_module, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", lambda _fd, command: commands.append(command))
    REAL.sync_data(fd)
    REAL.sync_file(fd)
    REAL.sync_directory(tmp_path)
    assert commands == [51, 51, 51]


def test_rename_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    REAL.rename(tmp_path / "a", tmp_path / "b")
    assert REAL.list_directory(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"new"


def test_link_and_unlink(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    REAL.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FileExistsError):
        REAL.link(tmp_path / "a", tmp_path / "b")
    REAL.unlink(tmp_path / "a")
    assert REAL.list_directory(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"x"


def test_copy_is_a_private_copy(tmp_path: Path) -> None:
    payload = os.urandom(3 * 2**20 + 7)
    (tmp_path / "a").write_bytes(payload)
    REAL.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == payload
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_copy_without_help_from_the_kernel_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = os.urandom(CHUNK_BYTES + 7)
    (tmp_path / "a").write_bytes(payload)
    monkeypatch.setattr(os, "copy_file_range", _cannot)
    REAL.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == payload


def test_copy_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        REAL.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"


def test_failed_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a").write_bytes(b"data")
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError) as caught:
        REAL.copy_file(tmp_path / "a", tmp_path / "b")
    assert caught.value.errno == errno.ENOSPC
    assert REAL.list_directory(tmp_path) == ["a"]


def test_missing_files_are_file_not_found(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for operation in (
        REAL.file_size,
        REAL.allocated_bytes,
        REAL.unlink,
        REAL.list_directory,
        REAL.free_bytes,
    ):
        with pytest.raises(FileNotFoundError):
            operation(missing)
    with pytest.raises(FileNotFoundError):
        REAL.open(missing, os.O_RDONLY)


def test_names_are_sorted(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        (tmp_path / name).touch()
    assert REAL.list_directory(tmp_path) == ["a", "b", "c"]


def test_only_a_directory_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert REAL.is_directory(tmp_path)
    for name in ("file", "file/below", "missing", "loop"):
        assert not REAL.is_directory(tmp_path / name)
    with pytest.raises(OSError) as caught:
        REAL.is_directory(tmp_path / ("x" * 300))
    assert caught.value.errno == errno.ENAMETOOLONG


def test_free_bytes_is_about_the_file_system_of_the_path(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert 0 <= REAL.free_bytes(tmp_path) <= status.f_blocks * status.f_frsize


def test_map_shares_the_file(fd: int) -> None:
    REAL.allocate(fd, 0, 4096)
    mapping = REAL.map(fd, 4096, True)
    mapping.write(0, b"shared")
    assert REAL.read_at(fd, 6, 0) == b"shared"
    mapping.close()


def test_exclusive_lock_keeps_everybody_else_out(tmp_path: Path, fd: int) -> None:
    other = REAL.open(tmp_path / "file", os.O_RDWR)
    assert REAL.lock(fd)
    assert not REAL.lock(other)
    assert not REAL.lock_shared(other)
    REAL.unlock(fd)
    assert REAL.lock(other)
    REAL.close(other)


def test_shared_locks_stand_side_by_side(tmp_path: Path, fd: int) -> None:
    other = REAL.open(tmp_path / "file", os.O_RDWR)
    assert REAL.lock_shared(fd)
    assert REAL.lock_shared(other)
    assert not REAL.lock(other)
    REAL.close(other)


def test_clocks_tick() -> None:
    assert REAL.now_ns() > 1_700_000_000 * 10**9
    assert REAL.monotonic_s() <= REAL.monotonic_s()


def test_boot_id_is_the_same_in_every_process() -> None:
    command = "from flash_kv.io.system import REAL; print(REAL.boot_id())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, check=True, text=True, env=environment
    )
    assert other.stdout.strip() == REAL.boot_id()


def test_random_bytes_differ() -> None:
    assert len(REAL.random_bytes(16)) == 16
    assert REAL.random_bytes(16) != REAL.random_bytes(16)


def test_every_operation_is_documented_or_says_it_all_by_its_name() -> None:
    bare = {"close", "unlink", "file_size"}
    for name, member in vars(System).items():
        if callable(member) and not name.startswith("_") and name not in bare:
            assert member.__doc__, name
