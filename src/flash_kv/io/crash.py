"""A `System` that knows what a power cut would leave of everything below one directory.

    with CrashSystem(root, watch=look) as system:
        db = DB(root / "db", Options(), system)     # look(moment) is called before each call that changes something
        system.disk.note()
        system.disk.choose(chooser)                 # one state that a power cut at this moment may leave

The calls go to the real file system, except that syncs only enter in the books (disk_image.py) what is durable from
then on. Bytes stored into a mapping pass no System; they are found by looking: at `disk.note`, and
before each write, what the real files hold is compared with what was synced.

Invariant: with the same seed the same calls give the same bytes: ids are drawn from the seed, the clock counts calls.

Requires: used from one thread at a time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from flash_kv.errors import StrPath
from flash_kv.io.disk_image import Change, File, Folder, Node
from flash_kv.io.mapping_cy import Mapping
from flash_kv.io.system import System

START_NS = 1_700_000_000_000_000_000


class CrashSystem(System):
    """What is in `root` when it is made is durable. Paths outside are served and not simulated."""

    def __init__(self, root: Path, *, seed: int = 0, watch: Callable[[str], object] | None = None) -> None:
        self.root = root
        self.watch = watch
        """Called with the name of each call that changes something, before it, and with "after ..." after a sync."""
        self.calls = 0
        self._rng = random.Random(seed)
        self._ns = START_NS
        self._files: dict[tuple[int, int], File] = {}
        self.disk = self._adopt(root)

    # -- the books

    def _adopt(self, directory: Path) -> Folder:
        names: dict[str, Node] = {}
        for entry in sorted(directory.iterdir()):
            names[entry.name] = self._adopt(entry) if entry.is_dir() else self._track(entry, is_durable=True)
        return Folder(names)

    def _track(self, path: StrPath, *, is_durable: bool) -> File:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        file = File(fd, b"")
        if is_durable:
            file.sync()
        else:
            file.is_changed = True
        status = os.fstat(fd)
        # The number cannot be given out again while this descriptor is open.
        self._files[status.st_dev, status.st_ino] = file
        return file

    def _locate(self, path: StrPath) -> tuple[Folder | None, str]:
        """The directory and the name in it; None for what is not below `root`."""
        parts = Path(os.path.relpath(path, self.root)).parts
        if not parts or parts[0] == "..":
            return None, ""
        folder = self.disk
        for part in parts[:-1]:
            node = folder.names.get(part)
            if not isinstance(node, Folder):
                return None, ""
            folder = node
        return folder, parts[-1]

    def _folder(self, path: StrPath) -> Folder | None:
        if os.path.realpath(path) == os.path.realpath(self.root):
            return self.disk
        folder, name = self._locate(path)
        node = folder.names.get(name) if folder is not None else None
        return node if isinstance(node, Folder) else None

    def _file(self, fd: int) -> File | None:
        status = os.fstat(fd)
        return self._files.get((status.st_dev, status.st_ino))

    def _tell(self, moment: str) -> None:
        self.calls += 1
        if self.watch is not None:
            self.watch(moment)

    def close_files(self) -> None:
        """Close the descriptors of the books; afterwards nothing can be chosen any more."""
        while self._files:
            self._files.popitem()[1].close()

    def __enter__(self) -> CrashSystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_files()

    # -- files

    def open(self, path: StrPath, flags: int, mode: int = 0o600) -> int:
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return super().open(path, flags, mode)
        folder, name = self._locate(path)
        if folder is None:
            return super().open(path, flags, mode)
        self._tell(f"open {name}")
        before = folder.names.get(name)
        if isinstance(before, File):
            before.note()
        fd = super().open(path, flags, mode)
        if before is None:
            folder.change(Change(name, self._track(path, is_durable=False)))
        elif isinstance(before, File) and flags & os.O_TRUNC:
            before.is_changed = True
            before.note()
        return fd

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._write("allocate", fd, lambda: System.allocate(self, fd, offset, size))

    def truncate(self, fd: int, size: int) -> None:
        self._write("truncate", fd, lambda: System.truncate(self, fd, size))

    def write_at(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        self._write("write_at", fd, lambda: System.write_at(self, fd, data, offset))

    def _write(self, operation: str, fd: int, call: Callable[[], None]) -> None:
        self._tell(operation)
        file = self._file(fd)
        if file is not None:
            file.note()
        try:
            call()
        finally:
            if file is not None:
                file.is_changed = True
                file.note()

    def sync_data(self, fd: int) -> None:
        self._sync("sync_data", fd)

    def sync_file(self, fd: int) -> None:
        self._sync("sync_file", fd)

    def _sync(self, operation: str, fd: int) -> None:
        self._tell(operation)
        file = self._file(fd)
        if file is not None:
            file.sync()
        self._tell(f"after {operation}")

    def map(self, fd: int, size: int, writable: bool) -> Mapping:
        file = self._file(fd)
        if file is not None and writable:
            file.is_mapped = True
        return super().map(fd, size, writable)

    # -- names and directories

    def sync_directory(self, path: StrPath) -> None:
        self._tell("sync_directory")
        folder = self._folder(path)
        if folder is not None:
            folder.sync()
            self._forget_lost()
        self._tell("after sync_directory")

    def _forget_lost(self) -> None:
        """Files without a name, now and after any power cut, are not followed any more."""
        kept = set(self.disk.files())
        for key, file in list(self._files.items()):
            if file not in kept:
                del self._files[key]
                file.close()

    def rename(self, src: StrPath, dst: StrPath) -> None:
        folder, name = self._locate(src)
        target, target_name = self._locate(dst)
        if folder is not target:
            raise ValueError(f"a rename between two directories is not simulated: {src} -> {dst}")
        self._tell(f"rename {target_name}")
        super().rename(src, dst)
        if folder is not None:
            folder.change(Change(target_name, folder.names[name], gone=name))

    def unlink(self, path: StrPath) -> None:
        folder, name = self._locate(path)
        self._tell(f"unlink {name}")
        super().unlink(path)
        if folder is not None:
            folder.change(Change(name, None))

    def link(self, src: StrPath, dst: StrPath) -> None:
        self._tell("link")
        super().link(src, dst)
        folder, name = self._locate(src)
        target, target_name = self._locate(dst)
        if folder is not None and target is not None:
            target.change(Change(target_name, folder.names[name]))

    def copy_file(self, src: StrPath, dst: StrPath) -> None:
        self._tell("copy_file")
        super().copy_file(src, dst)
        target, name = self._locate(dst)
        if target is not None:
            target.change(Change(name, self._track(dst, is_durable=False)))

    def make_directory(self, path: StrPath, mode: int = 0o700) -> None:
        self._tell("make_directory")
        super().make_directory(path, mode)
        folder, name = self._locate(path)
        if folder is not None:
            folder.change(Change(name, Folder()))

    def remove_directory(self, path: StrPath) -> None:
        folder, name = self._locate(path)
        self._tell("remove_directory")
        super().remove_directory(path)
        if folder is not None:
            folder.change(Change(name, None))

    # -- time and chance

    def now_ns(self) -> int:
        self._ns += 1_000_000
        return self._ns

    def random_bytes(self, size: int) -> bytes:
        return self._rng.randbytes(size)
