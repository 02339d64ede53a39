"""What a figure depends on beside the code: the machine, the file system, the versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from flash_kv.bench.stores.base import Store

_ROOT = Path(__file__).resolve().parent
WATCHED_S = 0.5
"""How long the machine is watched before a run."""


def machine_facts(directory: Path, stores: list[Store]) -> dict[str, object]:
    """JSON-ready facts, recorded in every result file."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file_system": _file_system(directory),
        "python": " ".join(
            [platform.python_implementation(), platform.python_version(), platform.python_compiler()]
        ),
        "versions": {store.name: store.version() for store in stores if store.distribution is not None},
        "busy_cores_at_start": _busy_cores(),
    }


def machine_lines(machine: dict[str, object]) -> list[str]:
    """The same for people."""
    return [
        f"Date {machine['date']}, commit {machine['commit']}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"{machine['file_system']}, {machine['python']}; "
        f"{machine['busy_cores_at_start']:.2f} of the cores busy at start",
    ]


def busy_lines(machine: dict[str, object]) -> list[str]:
    """A warning where it is needed."""
    if not is_busy(machine):
        return []
    return ["THE MACHINE WAS BUSY when the run began: these figures are rough, don't quote them"]


def is_busy(machine: dict[str, object]) -> bool:
    """Whether other programs took a good part of this machine when the run began."""
    busy, cores = machine["busy_cores_at_start"], machine["cores"]
    return isinstance(busy, float) and isinstance(cores, int) and busy > cores / 8


def _busy_cores() -> float:
    """How many processors other programs keep busy now; a load average still tells of what has just ended."""
    before = _busy_s()
    if before is None:
        return os.getloadavg()[0]
    time.sleep(WATCHED_S)
    after = _busy_s()
    assert after is not None
    return (after - before) / WATCHED_S


def _busy_s() -> float | None:
    """Seconds that all processors have been busy since the system started, other guests' included; None: not known."""
    try:
        words = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, words[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _commit() -> str:
    """The commit measured, marked when the work tree differs from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    return f"{head} with uncommitted changes" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1)


def _file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`: the mount point with the longest common path."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return f"unknown on {sys.platform}"
    path = str(directory.resolve())
    best, kind = "", "unknown"
    for line in mounts.read_text().splitlines():
        _device, point, type_name = line.split()[:3]
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):
            best, kind = point, type_name
    return kind
