"""What a disk may hold after a power cut: files and directories with what is durable of them and what came since.

A `File` knows its content as of its last sync and the contents and sizes it had since; a `Folder` its names as of
its last sync and each creation, rename and removal since. `Folder.note` takes down what the files hold at this moment;
then `Folder.choose` makes one of the states that a power cut may leave, an `Image`; which one, a `Chooser` decides, by
chance or one after the other until all have been made.

The model: of a file, each page of 4 KiB is one of the versions it had since the sync, or a mixture of two of them
in sectors of 512 bytes, and the size is one of those it had. Of a directory, each change of a name since the sync
has happened or not, independently of the others; a rename is one change. So nothing is assumed about the order in
which a file system writes back, and space that was allocated but not synced reads as zeros or is not there.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from typing import Protocol, TypeAlias

from flash_kv.errors import StrPath

PAGE_BYTES = 4096
SECTOR_BYTES = 512
SECTORS = PAGE_BYTES // SECTOR_BYTES
# Contents between two syncs that are remembered beside the durable and the present one.
VERSIONS_MAX = 3

Image: TypeAlias = "dict[str, bytes | Image]"


class Chooser(Protocol):
    """Decides what a power cut leaves."""

    def choose(self, count: int) -> int:
        """A number below `count`; 0 is what is durable, the highest what is newest."""

    def tear(self) -> int:
        """Which sectors of a torn page are new, as bits: some and not all."""


class RandomChooser:
    """Each choice by chance, the newest with probability `newest`: near 1 little is lost, near 0 nearly all."""

    def __init__(self, rng: random.Random, newest: float) -> None:
        self._rng = rng
        self._newest = newest

    def choose(self, count: int) -> int:
        return count - 1 if self._rng.random() < self._newest else self._rng.randrange(count)

    def tear(self) -> int:
        return self._rng.randrange(1, 2**SECTORS - 1)


class EveryChooser:
    """All combinations of choices, one for each round: `while chooser.has_next(): folder.choose(chooser)`.

    Torn pages are those where the write got to some sector and no further.
    """

    def __init__(self) -> None:
        self._choices: list[list[int]] = []
        self._place = -1

    def has_next(self) -> bool:
        if self._place >= 0:
            while self._choices and self._choices[-1][0] == self._choices[-1][1] - 1:
                self._choices.pop()
            if not self._choices:
                return False
            self._choices[-1][0] += 1
        self._place = 0
        return True

    def choose(self, count: int) -> int:
        if self._place == len(self._choices):
            self._choices.append([0, count])
        chosen, before = self._choices[self._place]
        if before != count:
            raise RuntimeError("the disk changed while its states were gone through")
        self._place += 1
        return chosen

    def tear(self) -> int:
        return (1 << (1 + self.choose(SECTORS - 1))) - 1


class File:
    """One file, under whatever names. `fd` is a descriptor of its own on the real one, to be closed by `close`."""

    def __init__(self, fd: int, durable: bytes) -> None:
        self._fd = fd
        self.durable = durable
        self.is_mapped = False
        """There is, or was, a writable mapping: its content may change at any moment."""
        self.is_changed = False
        """It was written to since the last sync."""
        self._versions: list[bytes] = []
        self._sizes = [len(durable)]
        # The contents of each page in those versions, once somebody has asked.
        self._pages: list[list[bytes]] = []

    def content(self) -> bytes:
        """What it holds now, stores through mappings included."""
        size = os.fstat(self._fd).st_size
        return os.pread(self._fd, size, 0) if size else b""

    @property
    def newest(self) -> bytes:
        """What it held when it was noted last."""
        return self._versions[-1] if self._versions else self.durable

    def note(self) -> None:
        """Remember what it holds now as something that may be written back at any later time."""
        if not self.is_mapped and not self.is_changed:
            return
        content = self.content()
        if content != self.newest:
            self._versions.append(content)
            self._pages.clear()
            if len(self._versions) > VERSIONS_MAX:
                # The oldest but one goes: what came right after the sync is the rarest to see.
                del self._versions[1]
            if len(content) not in self._sizes:
                self._sizes.append(len(content))

    def sync(self) -> None:
        """What it holds now is durable."""
        content = self.content()
        if content != self.durable:
            self.durable = content
        self.is_changed = False
        self._versions.clear()
        self._pages.clear()
        self._sizes = [len(self.durable)]

    def choose(self, chooser: Chooser) -> bytes:
        """One content that a power cut may leave."""
        if not self._versions:
            return self.durable
        newest = len(self.newest)
        sizes = [size for size in self._sizes if size != newest] + [newest]
        size = sizes[chooser.choose(len(sizes))]
        if not self._pages:
            versions = [self.durable, *self._versions]
            self._pages = [_pages_at(versions, offset) for offset in range(0, max(sizes), PAGE_BYTES)]
        pages = self._pages[: -(-size // PAGE_BYTES)]
        return b"".join([page[0] if len(page) == 1 else _choose_page(page, chooser) for page in pages])[:size]

    def close(self) -> None:
        os.close(self._fd)


def _pages_at(versions: list[bytes], offset: int) -> list[bytes]:
    """What a page may hold: each content once, in the order in which they were there last."""
    pages: list[bytes] = []
    for version in versions:
        page = version[offset : offset + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
        if page in pages:
            pages.remove(page)
        pages.append(page)
    return pages


def _choose_page(pages: list[bytes], chooser: Chooser) -> bytes:
    # The choice before the last is a torn page, so that the last remains the newest.
    chosen = chooser.choose(len(pages) + 1)
    if chosen < len(pages) - 1:
        return pages[chosen]
    if chosen == len(pages):
        return pages[-1]
    new, old, mask = pages[-1], pages[0], chooser.tear()
    sectors = [
        (new if mask >> number & 1 else old)[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]
        for number in range(SECTORS)
    ]
    return b"".join(sectors)


class Change:
    """One change of a directory: `name` now means `node`, or nothing, and `gone` nothing any more."""

    def __init__(self, name: str, node: Node | None, gone: str | None = None) -> None:
        self._name = name
        self.node = node
        self._gone = gone

    def apply(self, names: dict[str, Node]) -> None:
        if self._gone is not None:
            names.pop(self._gone, None)
        if self.node is None:
            names.pop(self._name, None)
        else:
            names[self._name] = self.node


class Folder:
    """One directory: its names now, as of its last sync, and the changes between."""

    def __init__(self, names: dict[str, Node] | None = None) -> None:
        self.names: dict[str, Node] = dict(names or {})
        self.durable: dict[str, Node] = dict(self.names)
        self._changes: list[Change] = []

    def change(self, change: Change) -> None:
        change.apply(self.names)
        self._changes.append(change)

    def sync(self) -> None:
        """The names it has now are durable."""
        self.durable = dict(self.names)
        self._changes.clear()

    def note(self) -> None:
        """Take down what all files hold now, for `choose` and `present`."""
        for node in {
            *self.names.values(),
            *self.durable.values(),
            *(change.node for change in self._changes),
        }:
            if node is not None:
                node.note()

    def choose(self, chooser: Chooser) -> Image:
        """One state that a power cut at the moment of the last `note` may leave, all below included."""
        return self._choose(chooser, {})

    def _choose(self, chooser: Chooser, chosen: dict[File, bytes]) -> Image:
        names = dict(self.durable)
        for change in self._changes:
            if chooser.choose(2):
                change.apply(names)
        image: Image = {}
        for name, node in names.items():
            if isinstance(node, Folder):
                image[name] = node._choose(chooser, chosen)
            else:
                # A file with two names has one content.
                if node not in chosen:
                    chosen[node] = node.choose(chooser)
                image[name] = chosen[node]
        return image

    def present(self) -> Image:
        """What was there at the last `note`: what the death of the process leaves."""
        return {
            name: node.present() if isinstance(node, Folder) else node.newest
            for name, node in self.names.items()
        }

    def files(self) -> Iterator[File]:
        """All files below, those of which only the durable or an earlier name is left included."""
        nodes = [*self.names.values(), *self.durable.values(), *(change.node for change in self._changes)]
        for node in nodes:
            if isinstance(node, Folder):
                yield from node.files()
            elif node is not None:
                yield node


Node: TypeAlias = File | Folder


def write_image(image: Image, directory: StrPath) -> None:
    """Make the new directory `directory` with what `image` holds."""
    os.mkdir(directory, 0o700)
    for name, content in image.items():
        path = os.path.join(directory, name)
        if isinstance(content, dict):
            write_image(content, path)
            continue
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            os.close(fd)
