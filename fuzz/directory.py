"""A whole store with changed files: opened for reading and for writing, read, verified, repaired.

Input: the kind of store; flags (1 hash index, 8 skip list, 2 io="file", 4 checksums put right); then changes: file,
what is done, offset (2 bytes), size, and for some as many bytes.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from flash_kv.engine.repair import repair
from flash_kv.engine.verify import verify
from flash_kv.errors import FlashKVError
from flash_kv.io.disk_image import write_image
from flash_kv.options import Options
from flash_kv.torture.specimen import KINDS, Files, Specimen, make_specimen
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from fuzz.checksums import seal_hint, seal_manifest, seal_segment
from fuzz.outcomes import tell

SECONDS_MAX = 1.0
OVERWRITE, INSERT, DROP, REMOVE, OLDER, COPY = range(6)


@cache
def _scratch() -> Path:
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="flash-kv-fuzz-", dir=parent))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def _specimen(number: int) -> Specimen:
    return make_specimen(KINDS[number], _scratch() / f"specimen-{number}")


def run(data: bytes) -> None:
    """Make the store and try all that can be done with it."""
    if len(data) < 2:
        return
    specimen = _specimen(data[0] % len(KINDS))
    flags = data[1]
    files = dict(specimen.files)
    for change in _changes(data[2:]):
        _apply(specimen, files, *change)
    if flags & 4:
        files = {name: _sealed(name, content) for name, content in files.items()}
    started = time.process_time()
    _examine(specimen, files, flags)
    assert time.process_time() - started < SECONDS_MAX * 4


def _changes(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    place = 0
    while place + 5 <= len(data):
        number, what, low, high, size = data[place : place + 5]
        place += 5
        yield (
            number,
            what % 6,
            low + 256 * high,
            data[place : place + size] if what % 6 in (OVERWRITE, INSERT) else bytes(size),
        )
        if what % 6 in (OVERWRITE, INSERT):
            place += size


def _apply(specimen: Specimen, files: Files, number: int, what: int, offset: int, piece: bytes) -> None:
    name = sorted(specimen.files)[number % len(specimen.files)]
    content = files.get(name, b"")
    offset = min(offset, len(content))
    if what == OVERWRITE:
        files[name] = content[:offset] + piece + content[offset + len(piece) :]
    elif what == INSERT:
        files[name] = content[:offset] + piece + content[offset:]
    elif what == DROP:
        files[name] = content[:offset] + content[offset + len(piece) :]
    elif what == REMOVE:
        files.pop(name, None)
    elif what == OLDER:
        files[name] = specimen.older.get(name, b"")
    elif what == COPY:
        files[name] = (
            content[:offset] + content[offset : offset + len(piece)] * 2 + content[offset + len(piece) :]
        )


def _sealed(name: str, content: bytes) -> bytes:
    if name == "MANIFEST":
        return seal_manifest(content)
    return (
        seal_segment(content)
        if name.endswith(".seg")
        else seal_hint(content)
        if name.endswith(".hint")
        else content
    )


def _examine(specimen: Specimen, files: Files, flags: int) -> None:
    path, repaired = _scratch() / "db", _scratch() / "repaired"
    for left in (path, repaired):
        shutil.rmtree(left, ignore_errors=True)
    write_image(dict(files), path)
    options = {
        "index": "hash" if flags & 1 else "skiplist" if flags & 8 else "btree",
        "io": "file" if flags & 2 else "mmap",
        "segment_bytes_max": 64 * 1024,
        "reserve_bytes": 0,
        "load_threads": 1,
        "compaction": "off",
    }
    is_as_written = not flags & 4
    tell("read", _read(specimen, path, Options(**options, read_only=True, create=False), is_as_written))
    try:
        tell("verify", sorted({damage.reason for damage in verify(path, system=UNSYNCED).damages})[:3])
        repair(path, repaired, system=UNSYNCED)
    except FlashKVError as error:
        tell("verify", type(error).__name__)
    else:
        outcome = _read(specimen, repaired, Options(**options, read_only=True, create=False), is_as_written)
        assert not outcome.startswith("refused"), outcome
    tell("write", _read(specimen, path, Options(**options), is_as_written))


def _read(specimen: Specimen, path: Path, options: Options, is_as_written: bool) -> str:
    """What came of it. A value that is read must be one that was written to its key, if checksums are the store's."""
    try:
        # Without a thread of its own, which would cost more than all the rest.
        with open_stepped(path, options, UNSYNCED) as db:
            found = dict(db.items())
            for key in specimen.keys:
                assert db.get(key) == found.get(key)
            if is_as_written:
                for key, value in found.items():
                    assert any(state.get(key) == value for state in specimen.states), (key, value)
            if not options.read_only:
                db.put(b"one more", b"value")
                db.compact()
                assert db.get(b"one more") == b"value"
            return f"{len(found)} keys"
    except FlashKVError as error:
        return f"refused: {type(error).__name__} {getattr(error, 'reason', '')[:24]}"
