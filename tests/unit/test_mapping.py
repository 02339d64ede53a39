"""The shared mapping: ranges are checked, the file sees what is written, nothing is used after close."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash_kv.io.mapping_cy import Mapping, map_file

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = 64 * PAGE


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, SIZE)
    yield descriptor
    os.close(descriptor)


def test_written_bytes_are_read_back_and_reach_the_file(fd: int) -> None:
    mapping = map_file(fd, SIZE, True)
    mapping.write(10, b"hello")
    assert mapping.read(10, 5) == b"hello"
    assert os.pread(fd, 5, 10) == b"hello"
    mapping.close()


def test_large_copies_without_the_gil_are_whole(fd: int) -> None:
    payload = os.urandom(SIZE)
    mapping = map_file(fd, SIZE, True)
    mapping.write(0, payload)
    assert mapping.read(0, SIZE) == payload
    mapping.close()


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
def test_any_contiguous_buffer_can_be_written(fd: int, data: bytearray | memoryview) -> None:
    mapping = map_file(fd, SIZE, True)
    mapping.write(0, data)
    assert mapping.read(0, 3) == b"abc"
    mapping.close()


def test_offset_selects_the_mapped_part(fd: int) -> None:
    os.pwrite(fd, b"second page", PAGE)
    mapping = map_file(fd, PAGE, False, PAGE)
    assert mapping.read(0, 11) == b"second page"
    mapping.close()


RANGES = [
    (-1, 1),
    (0, -1),
    (0, SIZE + 1),
    (SIZE, 1),
    (SIZE + 1, 0),
    (2**70, 1),
    (1, 2**70),
    (-(2**70), 2**70),
]


@pytest.mark.parametrize(("offset", "size"), RANGES)
def test_reading_outside_is_an_index_error(fd: int, offset: int, size: int) -> None:
    mapping = map_file(fd, SIZE, True)
    with pytest.raises(IndexError, match="outside the mapping"):
        mapping.read(offset, size)
    mapping.close()


@pytest.mark.parametrize("offset", [-1, SIZE - 2, SIZE + 1, 2**70])
def test_writing_outside_is_an_index_error_and_writes_nothing(fd: int, offset: int) -> None:
    mapping = map_file(fd, SIZE, True)
    with pytest.raises(IndexError):
        mapping.write(offset, b"abc")
    assert mapping.read(0, SIZE) == bytes(SIZE)
    mapping.close()


def test_empty_range_at_the_end_is_inside(fd: int) -> None:
    mapping = map_file(fd, SIZE, True)
    assert mapping.read(SIZE, 0) == b""
    mapping.write(SIZE, b"")
    mapping.close()


def test_read_only_mapping_refuses_writes(fd: int) -> None:
    mapping = map_file(fd, SIZE, False)
    assert not mapping.is_writable
    with pytest.raises(PermissionError):
        mapping.write(0, b"a")
    with pytest.raises(PermissionError):
        mapping.advise_populate_write(0, PAGE)
    mapping.close()


def test_writable_mapping_of_a_read_only_descriptor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(PAGE))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError) as caught:
        map_file(descriptor, PAGE, True)
    os.close(descriptor)
    assert caught.value.errno == errno.EACCES


def test_bad_descriptor_is_an_os_error() -> None:
    with pytest.raises(OSError) as caught:
        map_file(-1, PAGE, False)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(("size", "offset"), [(0, 0), (-1, 0), (2**63, 0), (PAGE, -PAGE), (PAGE, 2**62)])
def test_impossible_ranges_are_refused(fd: int, size: int, offset: int) -> None:
    with pytest.raises(ValueError, match="cannot map"):
        map_file(fd, size, False, offset)


def test_close_is_idempotent_and_ends_all_use(fd: int) -> None:
    mapping = map_file(fd, SIZE, True)
    mapping.close()
    mapping.close()
    assert mapping.is_closed
    assert mapping.size == 0
    with pytest.raises(ValueError, match="closed"):
        mapping.read(0, 0)
    with pytest.raises(ValueError, match="closed"):
        mapping.write(0, b"")
    with pytest.raises(ValueError, match="closed"):
        mapping.advise_populate_write(0, 0)


def test_mapping_without_map_file_is_a_closed_one() -> None:
    assert Mapping().is_closed


def _mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_close_and_the_last_reference_both_unmap(tmp_path: Path, fd: int) -> None:
    mapping = map_file(fd, SIZE, True)
    assert _mapped(tmp_path / "file")
    mapping.close()
    assert not _mapped(tmp_path / "file")
    mapping = map_file(fd, SIZE, True)
    del mapping
    assert not _mapped(tmp_path / "file")


def test_mapping_outlives_its_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * PAGE)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    mapping = map_file(descriptor, PAGE, False)
    os.close(descriptor)
    assert mapping.read(0, PAGE) == b"x" * PAGE
    mapping.close()


def test_populating_keeps_the_content(fd: int) -> None:
    os.pwrite(fd, b"kept", PAGE)
    mapping = map_file(fd, SIZE, True)
    assert mapping.advise_populate_write(0, SIZE) in (True, False)
    assert mapping.read(PAGE, 4) == b"kept"
    mapping.close()


def test_populating_behind_the_end_of_the_file_is_an_error_not_a_signal(fd: int) -> None:
    mapping = map_file(fd, SIZE, True)
    os.ftruncate(fd, PAGE)
    if mapping.advise_populate_write(0, PAGE):
        with pytest.raises(OSError):
            mapping.advise_populate_write(0, SIZE)
    mapping.close()


def test_closing_under_running_copies_never_crashes(fd: int) -> None:
    for _ in range(50):
        mapping = map_file(fd, SIZE, True)
        errors: list[BaseException] = []

        def copy(mapping: Mapping = mapping, errors: list[BaseException] = errors) -> None:
            try:
                while True:
                    assert len(mapping.read(0, SIZE)) == SIZE
            except (ValueError, IndexError) as caught:
                errors.append(caught)

        threads = [threading.Thread(target=copy) for _ in range(2)]
        for thread in threads:
            thread.start()
        mapping.close()
        for thread in threads:
            thread.join()
        assert [str(error) for error in errors] == ["the mapping is closed"] * 2
