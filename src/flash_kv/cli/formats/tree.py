"""A directory tree as records: the path below the root, with `/`, is the key, the content the value.

Invariants: reading follows links to files but not to directories, so that it ends; writing never leaves the
destination, whatever the keys say, and never overwrites anything.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from flash_kv.cli.exits import BadRow, ExitCode, Failure, InputError
from flash_kv.cli.output import shown

NAME_BYTES_MAX = 255
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeReader:
    """Every regular file below `root`, in the order of its names; what is left out is counted in `left_out`.

    `offset` counts the bytes of contents, for progress alone: a tree has no place to go on at.
    `skipped_directory`: a directory inside the tree that is passed over, such as the store that is loaded.
    """

    unit = "file"

    def __init__(
        self,
        root: Path,
        *,
        exclude: tuple[str, ...],
        file_bytes_max: int,
        skipped_directory: Path | None = None,
    ) -> None:
        self._root = root
        self._exclude = exclude
        self._file_bytes_max = file_bytes_max
        self._skipped_directory = (
            os.path.realpath(skipped_directory) if skipped_directory is not None else None
        )
        self._paths = self._walk()
        self._unlisted: OSError | None = None
        self.left_out: Counter[str] = Counter()
        self.offset = 0
        self.row = 0
        self.began = (0, 0)

    def resume(self, offset: int, row: int) -> None:
        """A tree has no place to go on at: the loader compares contents instead."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        path = next(self._paths)
        self.row += 1
        key = os.fsencode(os.path.relpath(path, self._root).replace(os.sep, "/"))
        if self._unlisted is not None:
            error, self._unlisted = self._unlisted, None
            raise BadRow(f"{error.filename}: {error.strerror}", row=self.row, unit=self.unit)
        try:
            return key, self._content(path)
        except OSError as error:
            raise BadRow(f"{path}: {error.strerror or error}", row=self.row, unit=self.unit) from error

    def _content(self, path: str) -> bytes:
        # O_NONBLOCK: what was a file when it was listed may be a pipe by now, and opening it would wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            content = file.read(self._file_bytes_max + 1)
        self.offset += len(content)
        if len(content) > self._file_bytes_max:
            reason = f"{path}: more than {self._file_bytes_max} bytes; raise --row-bytes-max"
            raise BadRow(reason, row=self.row, unit=self.unit)
        return content

    def _walk(self) -> Iterator[str]:
        waiting = [os.fspath(self._root)]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._unlisted = error
                yield directory
                continue
            deeper = []
            for entry in listed:
                if self._is_directory(entry):
                    deeper.append(entry.path)
                elif self._is_file(entry):
                    yield entry.path
            waiting += reversed(deeper)

    def _is_directory(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_dir(follow_symlinks=False) or self._is_excluded(entry):
            return False
        return self._skipped_directory is None or os.path.realpath(entry.path) != self._skipped_directory

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        if self._is_excluded(entry):
            return False
        try:
            mode = entry.stat().st_mode
        except OSError:
            self.left_out["broken link"] += 1
            return False
        if stat.S_ISREG(mode):
            return True
        if stat.S_ISDIR(mode):
            if entry.is_symlink():
                self.left_out["link to a directory"] += 1
        else:
            self.left_out["special file"] += 1
        return False

    def _is_excluded(self, entry: os.DirEntry[str]) -> bool:
        return any(fnmatch(entry.name, pattern) for pattern in self._exclude)


class TreeWriter:
    """Writes each record as a file below `root`, which must be new or empty."""

    def __init__(self, root: Path) -> None:
        # An empty directory holds no link that could lead a path out of it.
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise Failure(f"{root} is there already: choose a new or an empty directory", ExitCode.USAGE)
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def write(self, key: bytes, value: bytes | None) -> int:
        body = value or b""
        path = os.path.join(os.fsencode(self._root), safe_path(key))
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
            )
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise InputError(
                f"the key {shown(key, limit=80)} is both a file and a directory, or differs from another only "
                "in a way this file system cannot keep: choose --format jsonl or binary"
            ) from error
        with open(descriptor, "wb") as file:
            file.write(body)
        return len(body)


def safe_path(key: bytes) -> bytes:
    """A key as a relative path; `InputError` for one that could leave its directory or names no file."""
    parts = key.split(b"/")
    has_bad_part = any(part in (b"", b".", b"..") or len(part) > NAME_BYTES_MAX for part in parts)
    if has_bad_part or b"\0" in key:
        raise InputError(
            f"the key {shown(key, limit=80)} is no safe path below a directory: "
            "choose --format jsonl or binary, or dump the other keys with --prefix, --start and --stop"
        )
    return key
