"""What each kind of power cut needs, found out by trying it, once in a process.

That something is installed says little: in a container a mount, a loop device, FUSE, or the tracing that
user-mode-linux lives on may be refused all the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path

from powercut import guest
from powercut.blockdevice import Counter, RecordingDisk
from powercut.mounts import MAKE, loop_device, make_image, mounted
from powercut.process import listen

# The last words of a guest whose first program ends.
BOOTED = "Attempted to kill init"


@cache
def what_is_missing(kind: str, file_system: str) -> str | None:
    """Why cuts of this kind cannot be made here; None: they can."""
    missing = _missing_for_mounts(file_system)
    if missing is None and kind.startswith("recorded"):
        missing = _missing_for_recording()
    if missing is None and kind == "guests":
        missing = _missing_for_guests()
    return missing


@cache
def _missing_for_mounts(file_system: str) -> str | None:
    if os.geteuid() != 0:
        return "only root can mount"
    for program in (MAKE[file_system][0], "losetup", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "image")
        try:
            make_image(file_system, image)
            with mounted(file_system, image, Path(scratch, "mounted")):
                return None
        except RuntimeError as error:
            return str(error)


@cache
def _missing_for_recording() -> str | None:
    counter = Counter()
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            RecordingDisk(Path(scratch), 1024**2, counter) as disk,
            loop_device(disk.path),
        ):
            return None
    except OSError as error:
        return f"no FUSE: {error}"
    except RuntimeError as error:
        return str(error)
    finally:
        counter.close()


@cache
def _missing_for_guests() -> str | None:
    if shutil.which(guest.PROGRAM) is None:
        return "user-mode-linux is not installed"
    if not os.path.isdir(guest.MOUNT_POINT):
        return f"there is no {guest.MOUNT_POINT}, where a guest mounts its disk"
    with tempfile.TemporaryDirectory() as scratch:
        one = guest.start("/bin/true", Path(scratch))
        assert one.stdout is not None
        said = listen(one.stdout.fileno(), BOOTED, time.monotonic() + guest.BOOT_S_MAX)
        said += guest.cut(one)
    return None if BOOTED in said else f"user-mode-linux does not boot: {said[-300:]}"
