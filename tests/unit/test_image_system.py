"""A store opened from an image in memory is the one that the image was taken from, and no call can change it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, get_args

import pytest

from flash_kv import CorruptionError, Options, ReadOnlyError
from flash_kv.engine.db import DB
from flash_kv.io import image_system
from flash_kv.io.disk_image import Image
from flash_kv.io.image_system import ImageSystem
from flash_kv.io.system import System
from flash_kv.options import IndexKind, IoKind

ROOT = "/nowhere/at all"
READING = {"list_directory", "is_directory", "file_size", "open", "read_at", "close"}


def image_of(directory: Path) -> Image:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def image(tmp_path: Path) -> Image:
    path = tmp_path / "db"
    with DB(path, Options(segment_bytes_max=65536)) as db:
        for number in range(900):
            db[b"%d" % (number % 70)] = b"%d" % number * 50
    assert len(list(path.glob("*.seg"))) > 1
    return {"db": image_of(path)}


@pytest.mark.parametrize("index", get_args(IndexKind))
@pytest.mark.parametrize("io", get_args(IoKind))
def test_a_store_reads_as_from_a_directory(tmp_path: Path, image: Image, index: Any, io: Any) -> None:
    options = Options(index=index, io=io, read_only=True, create=False)
    with ImageSystem(ROOT) as system:
        system.image = image
        with DB(f"{ROOT}/db", options, system) as db:
            found = dict(db.items())
            with pytest.raises(ReadOnlyError):
                db[b"1"] = b""
    with DB(tmp_path / "db", options) as db:
        assert found == dict(db.items())


def test_the_next_image_is_what_the_next_store_finds(image: Image) -> None:
    options = Options(read_only=True, create=False)
    with ImageSystem(ROOT) as system:
        system.image = image
        DB(f"{ROOT}/db", options, system).close()
        store = image["db"]
        assert isinstance(store, dict)
        name = min(name for name in store if name.endswith(".seg"))
        system.image = {"db": {other: content for other, content in store.items() if other != name}}
        with pytest.raises(CorruptionError, match=name):
            DB(f"{ROOT}/db", options, system)


def test_contents_in_memory_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_system, "DESCRIPTORS_MAX", 3)
    before = len(os.listdir("/proc/self/fd"))
    with ImageSystem(ROOT) as system:
        for _ in range(2):
            system.image = {f"{number}": b"%d" % number for number in range(10)}
            for number in range(10):
                fd = system.open(f"{ROOT}/{number}", os.O_RDONLY)
                assert system.read_at(fd, 10, 0) == b"%d" % number
                system.close(fd)
        system.image = {}
        assert len(os.listdir("/proc/self/fd")) == before + 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_system_without_files_in_memory_serves_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with ImageSystem(ROOT) as system:
        system.image = {"a": b"content"}
        fd = system.open(f"{ROOT}/a", os.O_RDONLY)
        assert system.read_at(fd, 100, 0) == b"content"
        system.close(fd)


def test_what_is_not_there_is_said_as_a_file_system_does() -> None:
    with ImageSystem(ROOT) as system:
        system.image = {"folder": {"a": b""}}
        assert system.is_directory(ROOT)
        assert system.is_directory(f"{ROOT}/folder")
        for path in (f"{ROOT}/b", f"{ROOT}/folder/b", f"{ROOT}/folder/a/b", "/elsewhere"):
            assert not system.is_directory(path)
            with pytest.raises(FileNotFoundError):
                system.file_size(path)
        with pytest.raises(IsADirectoryError):
            system.open(f"{ROOT}/folder", os.O_RDONLY)
        with pytest.raises(NotADirectoryError):
            system.list_directory(f"{ROOT}/folder/a")


def test_nothing_can_be_changed() -> None:
    path = f"{ROOT}/a"
    calls: dict[str, tuple[Any, ...]] = {
        "allocate": (0, 0, 1),
        "truncate": (0, 0),
        "write_at": (0, b"x", 0),
        "rename": (path, f"{ROOT}/b"),
        "unlink": (path,),
        "link": (path, f"{ROOT}/b"),
        "copy_file": (path, f"{ROOT}/b"),
        "make_directory": (f"{ROOT}/b",),
        "remove_directory": (ROOT,),
    }
    # What ImageSystem takes over and is not tried here would be a way past it.
    assert {*calls, *READING, "open_nameless", "close"} == {
        name for name in vars(ImageSystem) if hasattr(System, name) and not name.startswith("_")
    }
    with ImageSystem(ROOT) as system:
        system.image = {"a": b"1"}
        for name, arguments in calls.items():
            with pytest.raises(OSError) as caught:
                getattr(system, name)(*arguments)
            assert caught.value.errno == errno.EROFS, name
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_CREAT, os.O_TRUNC):
            with pytest.raises(OSError) as caught:
                system.open(path, flags)
            assert caught.value.errno == errno.EROFS
        assert system.image == {"a": b"1"}


def test_a_file_without_a_name_is_its_openers_own() -> None:
    with ImageSystem(ROOT) as system:
        system.image = {"a": b"1"}
        fd = system.open_nameless()
        system.allocate(fd, 0, 4096)
        system.write_at(fd, b"own", 0)
        assert system.read_at(fd, 100, 0).rstrip(b"\0") == b"own"
        system.truncate(fd, 1)
        assert system.read_at(fd, 100, 0) == b"o"
        system.close(fd)
        with pytest.raises(OSError) as caught:
            system.write_at(fd, b"x", 0)
        assert caught.value.errno == errno.EROFS
        assert system.image == {"a": b"1"}
