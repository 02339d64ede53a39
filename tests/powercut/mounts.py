"""File systems on loop devices."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_SYSTEMS = ("ext4", "xfs")
# The least that each can be made on, with a journal.
IMAGE_BYTES = {"ext4": 24 * 1024**2, "xfs": 32 * 1024**2}
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "nodiscard,lazy_itable_init=0"],
    # Smaller than it recommends, which it allows under this name only.
    "xfs": ["mkfs.xfs", "-q", "-f", "-K", "--unsupported"],
}
# Two images of one file system may be mounted at once.
MOUNT_OPTIONS = {"ext4": "loop", "xfs": "loop,nouuid"}


def make_file_system(file_system: str, path: Path | str) -> None:
    """On an image, or on a device."""
    _run(*MAKE[file_system], str(path))


def make_image(file_system: str, path: Path) -> None:
    """A new file with an empty file system in it."""
    with open(path, "xb") as file:
        file.truncate(IMAGE_BYTES[file_system])
    make_file_system(file_system, path)


@contextmanager
def loop_device(path: Path) -> Iterator[str]:
    """A loop device over a file, for as long as the block runs."""
    device = _run("losetup", "--find", "--show", str(path)).strip()
    try:
        yield device
    finally:
        _run("losetup", "--detach", device)


@contextmanager
def mounted(file_system: str, source: Path | str, directory: Path) -> Iterator[Path]:
    """An image or a device, mounted at `directory` for as long as the block runs."""
    options = MOUNT_OPTIONS[file_system]
    if str(source).startswith("/dev/"):
        options = options.replace("loop", "rw")
    directory.mkdir(exist_ok=True)
    _run("mount", "-t", file_system, "-o", options, str(source), str(directory))
    try:
        yield directory
    finally:
        _run("umount", str(directory))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
