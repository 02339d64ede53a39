"""Power cuts of a file system: it is told to stop at once, without writing what it has in memory, while a store works.

The command (FS_IOC_GOINGDOWN, of ext4 and xfs) ends all writing to the device. What the process believed to be written
and the file system had not yet given to the device is lost; a sync that had returned before has to hold. One that is
under way at that moment may return as if all were well, and hold nothing: so ext4 of Linux 6.18 does it with a program
that only calls pwrite and fdatasync on an allocated file. When the power goes nobody is there to be told so, and here
what is said after the command was given promises nothing.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

from flash_kv.torture.journal import State
from powercut.mounts import make_image, mounted
from powercut.process import (
    READY,
    SCRIPT,
    STEPS,
    hear_out,
    journal_after,
    judge_image,
    last_step,
    listen,
    python_path,
)
from powercut.tally import Tally

FS_IOC_GOINGDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_LOG = 2
START_S_MAX = 60
# How long the store works before the cut.
LIFE_S = (0.05, 1.0)


def try_shutdowns(file_system: str, seed: int, count: int, scratch: Path) -> Tally:
    """Stop a file system under a store `count` times, one after the other on one image."""
    total = Tally()
    image = scratch / "disk"
    make_image(file_system, image)
    base: State = {}
    for one in range(seed, seed + count):
        life_s = random.Random(f"{one}/life").uniform(*LIFE_S)
        with mounted(file_system, image, scratch / "mounted") as directory:
            before, done = _run_until_cut(one, directory, life_s)
        promised = journal_after(one, base, before).durable
        journal = journal_after(one, base, done)
        where = f"shut down after step {before}, heard of until {done}"
        base, tally = judge_image(file_system, image, scratch, one, journal, promised, where)
        total.add(tally)
        if tally.failures:
            break
    image.unlink()
    return total


def _run_until_cut(seed: int, directory: Path, life_s: float) -> tuple[int, int]:
    """The last step that was heard of before the command, and in all."""
    store = subprocess.Popen(
        [sys.executable, SCRIPT, directory / "db", str(seed), str(STEPS)],
        stdout=subprocess.PIPE,
        # It fails when the file system is gone, or gets a SIGBUS: that is no news.
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert store.stdout is not None
    try:
        said = listen(store.stdout.fileno(), READY, time.monotonic() + START_S_MAX)
        said += listen(store.stdout.fileno(), None, time.monotonic() + life_s)
        _shut_down(directory)
    finally:
        store.kill()
        rest = hear_out(store)
    if READY not in said:
        raise RuntimeError(f"seed {seed}: the store did not open")
    return last_step(said), last_step(said + rest)


def _shut_down(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, FS_IOC_GOINGDOWN, struct.pack("<I", WITHOUT_FLUSHING_THE_LOG))
    finally:
        os.close(fd)
