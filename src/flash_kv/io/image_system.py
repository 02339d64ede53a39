"""A `System` that serves an `Image` (disk_image.py) as if it were a directory, for stores that are only read.

No directory holds it: a content is put into memory that has a descriptor (memfd_create) when a file of it is opened
first, and is kept there for the next image, which shares most of its contents with this one. So a crash state costs the
opening of a store and no files. Descriptors are given to all who open the same content and closed by none of them.

Invariant: nothing here changes. What would change something raises EROFS, but for LOCK, which opens as an empty file:
nobody else can have the store open. Files without a name are the opener's own, in memory.

Requires: used from one thread at a time.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections import OrderedDict
from types import TracebackType

from flash_kv.errors import StrPath
from flash_kv.io.disk_image import Image
from flash_kv.io.lockfile import LOCK_NAME
from flash_kv.io.system import System

# Contents kept from one image to the next: those of some images, well below what a process may open.
DESCRIPTORS_MAX = 128


class ImageSystem(System):
    """`image` as the content of the directory `root`, a path that need not exist. A context manager."""

    def __init__(self, root: StrPath) -> None:
        self.root = os.fspath(root)
        self._nodes: dict[str, bytes | Image] = {}
        self._descriptors: OrderedDict[bytes, int] = OrderedDict()
        self._nameless: set[int] = set()
        self._contents: dict[int, bytes] = {}
        self.image = {}

    @property
    def image(self) -> Image:
        """What is served; may be replaced whenever no store is open."""
        return self._image

    @image.setter
    def image(self, image: Image) -> None:
        self._image = image
        while len(self._descriptors) > DESCRIPTORS_MAX:
            self._drop()
        self._nodes.clear()
        self._enter(self.root, image)

    def _enter(self, path: str, image: Image) -> None:
        self._nodes[path] = image
        for name, node in image.items():
            if isinstance(node, dict):
                self._enter(f"{path}/{name}", node)
            else:
                self._nodes[f"{path}/{name}"] = node

    def __enter__(self) -> ImageSystem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the memory back."""
        while self._descriptors:
            self._drop()

    def _drop(self) -> None:
        _, fd = self._descriptors.popitem(last=False)
        del self._contents[fd]
        os.close(fd)

    def _find(self, path: StrPath) -> bytes | Image:
        """FileNotFoundError for what is not in the image."""
        node = self._nodes.get(os.fspath(path))
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return node

    def _content(self, path: StrPath) -> bytes:
        node = self._find(path)
        if isinstance(node, dict):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return node

    def open(self, path: StrPath, flags: int, mode: int = 0o600) -> int:
        if os.fspath(path).endswith(f"/{LOCK_NAME}"):
            return self._memory(b"")
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            raise _refusal(path)
        return self._memory(self._content(path))

    def open_nameless(self) -> int:
        fd = _nameless_file()
        self._nameless.add(fd)
        return fd

    def close(self, fd: int) -> None:
        # Others are kept for the next who opens the same content.
        if fd in self._nameless:
            self._nameless.discard(fd)
            super().close(fd)

    def _memory(self, content: bytes) -> int:
        """A descriptor of memory with this content."""
        fd = self._descriptors.get(content)
        if fd is None:
            fd = _nameless_file()
            try:
                System.write_at(self, fd, content, 0)
            except BaseException:
                os.close(fd)
                raise
            self._descriptors[content] = fd
            self._contents[fd] = content
        else:
            self._descriptors.move_to_end(content)
        return fd

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        content = self._contents.get(fd)
        return super().read_at(fd, size, offset) if content is None else content[offset : offset + size]

    def file_size(self, path: StrPath) -> int:
        return len(self._content(path))

    def is_directory(self, path: StrPath) -> bool:
        try:
            return isinstance(self._find(path), dict)
        except FileNotFoundError:
            return False

    def list_directory(self, path: StrPath) -> list[str]:
        node = self._find(path)
        if not isinstance(node, dict):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return sorted(node)

    # -- what would change something

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._require_nameless(fd)
        super().allocate(fd, offset, size)

    def truncate(self, fd: int, size: int) -> None:
        self._require_nameless(fd)
        super().truncate(fd, size)

    def write_at(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        self._require_nameless(fd)
        super().write_at(fd, data, offset)

    def _require_nameless(self, fd: int) -> None:
        if fd not in self._nameless:
            raise _refusal(fd)

    def rename(self, src: StrPath, dst: StrPath) -> None:
        raise _refusal(src)

    def unlink(self, path: StrPath) -> None:
        raise _refusal(path)

    def link(self, src: StrPath, dst: StrPath) -> None:
        raise _refusal(dst)

    def copy_file(self, src: StrPath, dst: StrPath) -> None:
        raise _refusal(dst)

    def make_directory(self, path: StrPath, mode: int = 0o700) -> None:
        raise _refusal(path)

    def remove_directory(self, path: StrPath) -> None:
        raise _refusal(path)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("flash-kv-image", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _refusal(what: StrPath | int) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), None if isinstance(what, int) else os.fspath(what))
