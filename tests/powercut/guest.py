"""Power cuts of a whole machine: a user-mode-linux guest over this machine's files is killed while a store works in it.

What the guest's kernel had given to its disk is left, what stood in its memory is lost. The guest's disk is an image
with ext4 or xfs; its root is this machine's, read only. The store tells of each step that has returned on the console,
which is a pipe to here. Afterwards the image is mounted here and judged, and the next guest goes on from what it holds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from flash_kv.torture.journal import State
from powercut.mounts import make_image
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

PROGRAM = "linux.uml"
# Over the files of this machine, and not to be written to.
ROOT = ("rootfstype=hostfs", "rootflags=/", "ro", "quiet", "mem=192M")
BOOT_S_MAX = 60
# How long the store works before the cut.
LIFE_S = (0.05, 3.0)
MOUNT_POINT = "/mnt"

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t {file_system} /dev/ubda {mount_point} || exit 1
export PYTHONPATH={python_path} PYTHONDONTWRITEBYTECODE=1
exec {python} {script} {mount_point}/db {seed} {steps}
"""


def try_guests(file_system: str, seed: int, count: int, scratch: Path) -> Tally:
    """Cut `count` guests one after the other on one disk."""
    total = Tally()
    image = scratch / "disk"
    make_image(file_system, image)
    base: State = {}
    for one in range(seed, seed + count):
        life_s = random.Random(f"{one}/life").uniform(*LIFE_S)
        done = run_until_cut(file_system, one, image, scratch, life_s)
        journal = journal_after(one, base, done)
        base, tally = judge_image(
            file_system, image, scratch, one, journal, journal.durable, f"guest cut after step {done}"
        )
        total.add(tally)
        if tally.failures:
            break
    image.unlink()
    return total


def run_until_cut(file_system: str, seed: int, image: Path, scratch: Path, life_s: float) -> int:
    """Boot, let the store work for so long, cut; the number of steps that were said to have returned."""
    guest = start(_write_init(file_system, seed, scratch), scratch, f"ubd0={image}")
    assert guest.stdout is not None
    try:
        said = listen(guest.stdout.fileno(), READY, time.monotonic() + BOOT_S_MAX)
        if READY in said:
            said += listen(guest.stdout.fileno(), None, time.monotonic() + life_s)
    finally:
        rest = cut(guest)
    if READY not in said or "Traceback" in said + rest:
        raise RuntimeError(f"the store failed in the guest:\n{(said + rest)[-3000:]}")
    return last_step(said + rest)


def _write_init(file_system: str, seed: int, scratch: Path) -> Path:
    init = scratch / "init"
    init.write_text(
        INIT.format(
            file_system=file_system,
            mount_point=MOUNT_POINT,
            python_path=python_path(),
            python=sys.executable,
            script=SCRIPT,
            seed=seed,
            steps=STEPS,
        )
    )
    init.chmod(0o700)
    return init


def start(init: Path | str, scratch: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A guest whose first program is `init` and whose console is the pipe to here."""
    return subprocess.Popen(
        [PROGRAM, *ROOT, f"init={init}", "con=null", "con0=null,fd:1", f"uml_dir={scratch}/", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def cut(guest: subprocess.Popen[bytes]) -> str:
    """End it at once; what it had said and nobody had read."""
    # The guest's kernel is several processes.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guest.pid, signal.SIGKILL)
    return hear_out(guest)
