"""What every suite shares: stores to test with, one per index and io kind, and a check that nothing stays behind.

A test about the engine takes `open_db` and so runs once for each index and each io kind; one that is about a single
kind narrows it with `@pytest.mark.parametrize("index", ["btree"])`. Only the B-tree meets io="file" everywhere, the
others in the tests of models and threads, the hash also in those of faults, unless FLASH_KV_TEST_KINDS=all: all read
records by the same code, and the index on disk hardly reads any. Randomness comes from hypothesis or from the fixture
`rng`; the seed of a run stands in its header and is set again with FLASH_KV_TEST_SEED.

Tests end processes, never the machine, so syncs do nothing but check their descriptor, unless a test asks for
`real_syncs`: waiting for the disk took most of the time. With FLASH_KV_TEST_SYNCS=real all of them are real. For the
same reason their files lie in memory where there is room, unless a test asks for `disk_path`; with
PYTEST_DEBUG_TEMPROOT=/tmp all of them are on a disk.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from flash_kv import DB

INDEXES = ("hash", "btree", "skiplist", "bptree")
IO_KINDS = ("mmap", "file")
# The suites in which these kinds meet io="file".
WITH_FILE = {
    "hash": ("model", "concurrency", "faults"),
    "skiplist": ("model", "concurrency"),
    "bptree": ("model", "concurrency"),
}
SEED = os.environ.get("FLASH_KV_TEST_SEED") or str(random.SystemRandom().randrange(2**32))
# Processes that this one starts to share the work have the same.
os.environ["FLASH_KV_TEST_SEED"] = SEED
PROC_SELF = Path("/proc/self")
CALL_FAILED = pytest.StashKey[bool]()
REAL_SYNCS = {"fsync": os.fsync, "fdatasync": os.fdatasync}

MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 << 30


def _has_room_in_memory() -> bool:
    """Whether MEMORY holds what a whole run needs at a time, and lets what tests compile be run."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return False
    found = os.statvfs(MEMORY)
    return found.f_bavail * found.f_frsize >= MEMORY_BYTES_MIN and not found.f_flag & os.ST_NOEXEC


if _has_room_in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

if os.environ.get("FLASH_KV_TEST_SYNCS") != "real":
    # Compiled like what it stands for, so that a signal or a collection finds the same places.
    os.fsync = os.fdatasync = os.fstat  # type: ignore[assignment]

# What a shell starts in the background ignores Ctrl-C, and so would every process that a test sends it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# New examples on every run, also in CI; a failure prints the blob that repeats it. One operation may hit a slow
# disk, so no example has a deadline.
hypothesis.settings.register_profile(
    "dev", deadline=None, derandomize=False, print_blob=True, max_examples=50
)
hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=False, print_blob=True, max_examples=200
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_report_header() -> str:
    return f"FLASH_KV_TEST_SEED={SEED}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[CALL_FAILED] = report.failed
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("FLASH_KV_TEST_KINDS") == "all":
        return
    config.hook.pytest_deselected(items=[item for item in items if _is_left_out(item)])
    items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    chosen = {} if callspec is None else callspec.params
    if chosen.get("io") != "file" or chosen.get("index") not in WITH_FILE:
        return False
    # What an open replays onto an index on disk is counted with the help of records.
    return (
        item.path.parent.name not in WITH_FILE[chosen["index"]] and item.path.stem != "test_index_checkpoints"
    )


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A generator whose numbers depend on the run's seed and the test's name only."""
    return random.Random(f"{SEED}/{request.node.nodeid}")


@pytest.fixture
def real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs that wait for the disk."""
    for name, function in REAL_SYNCS.items():
        monkeypatch.setattr(os, name, function)


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory where the system has its temporary files, on a disk as a rule."""
    with tempfile.TemporaryDirectory(prefix="flash-kv-test-") as directory:
        yield Path(directory)


@pytest.fixture(params=INDEXES)
def index(request: pytest.FixtureRequest) -> str:
    """The index kind to open stores with; a test that uses it runs once per kind."""
    return str(request.param)


@pytest.fixture(params=IO_KINDS)
def io(request: pytest.FixtureRequest) -> str:
    """The io kind to open stores with; a test that uses it runs once per kind."""
    return str(request.param)


@pytest.fixture
def open_db(tmp_path: Path, index: str, io: str) -> Iterator[Callable[..., DB]]:
    """`open_db(name="db", **options)` opens a store under `tmp_path`; what is still open at the end is closed."""
    import flash_kv

    opened: list[DB] = []

    def open_one(name: str | os.PathLike[str] = "db", **options: Any) -> DB:
        # Those would keep their indexes, and ThreadSanitizer leaves room for a few only.
        opened[:] = [db for db in opened if not db.closed]
        db = flash_kv.open(tmp_path / name, **{"index": index, "io": io, **options})
        opened.append(db)
        return db

    yield open_one
    for db in reversed(opened):
        if not db.closed:
            db.close()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that passes but leaves a thread, or an open file or a mapping under its `tmp_path`."""
    directory = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    threads = set(threading.enumerate())
    yield
    if request.node.stash.get(CALL_FAILED, True):
        return  # what a failed test leaves says nothing new, and its traceback holds on to it
    left = _left_behind(threads, directory)
    if left:
        # What only waits for the collector of reference cycles is not left behind.
        gc.collect()
        left = _left_behind(threads, directory)
    if left:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(left), pytrace=False)


def _left_behind(threads_before: set[threading.Thread], directory: Path | None) -> list[str]:
    left = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads_before]
    if directory is not None and PROC_SELF.is_dir():
        inside = str(directory.resolve())
        left += [f"open file {target}" for target in _open_files() if target.startswith(inside)]
        left += [f"mapping {line}" for line in _mappings() if inside in line]
    return left


def _open_files() -> list[str]:
    targets = []
    for descriptor in os.listdir(PROC_SELF / "fd"):
        try:
            targets.append(os.readlink(PROC_SELF / "fd" / descriptor))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return targets


def _mappings() -> list[str]:
    return (PROC_SELF / "maps").read_text("utf-8", "surrogateescape").splitlines()
