"""The demo's input: the source tree of the running Python's standard library, path below it -> content."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from flash_kv.cli.exits import Failure
from flash_kv.cli.formats.tree import TreeReader

EXCLUDED = ("__pycache__", "site-packages", "dist-packages")
FILE_BYTES_MAX = 1 << 30


@dataclass(frozen=True)
class Corpus:
    """The files by key, with their sizes."""

    root: Path
    sizes: dict[bytes, int]

    @property
    def bytes_total(self) -> int:
        return sum(self.sizes.values())

    def content(self, key: bytes) -> bytes:
        """The file of `key` as it is on disk now."""
        return (self.root / os.fsdecode(key)).read_bytes()


def standard_library_root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def files_of(root: Path) -> TreeReader:
    """The rows of the corpus, for the parent and for the child process alike."""
    return TreeReader(root, exclude=EXCLUDED, file_bytes_max=FILE_BYTES_MAX)


def read_corpus(root: Path) -> Corpus:
    sizes = {key: len(content) for key, content in files_of(root)}
    if len(sizes) < 2:
        raise Failure(f"no source tree of the standard library at {root}: run a Python that has one on disk")
    return Corpus(root, sizes)
