"""Power cuts by the hundred: `python tests/powercut/run.py [--seconds S] [--seed N] [kind ...]`, as root.

For each kind of cut and each file system a line with what was cut, acknowledged and found; what this machine cannot do
is said, not left out. A failure names the seed that repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# The folder with the package of this file, as pytest has it on the path.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from powercut.commits import OneWriter
from powercut.guest import try_guests
from powercut.many_writers import ManyWriters
from powercut.mounts import FILE_SYSTEMS
from powercut.recorded import record, try_cuts
from powercut.requirements import what_is_missing
from powercut.shutdown import try_shutdowns
from powercut.tally import Tally

CUTS_OF_A_RECORDING = 40
CUTS_OF_AN_IMAGE = 8


def cut_recorded(file_system: str, seed: int, scratch: Path, count: int = CUTS_OF_A_RECORDING) -> Tally:
    return try_cuts(record(file_system, OneWriter(seed), scratch), count, scratch)


def cut_recorded_threads(
    file_system: str, seed: int, scratch: Path, count: int = CUTS_OF_A_RECORDING
) -> Tally:
    return try_cuts(record(file_system, ManyWriters(seed), scratch), count, scratch)


def cut_guests(file_system: str, seed: int, scratch: Path, count: int = CUTS_OF_AN_IMAGE) -> Tally:
    return try_guests(file_system, seed, count, scratch)


def cut_file_system(file_system: str, seed: int, scratch: Path, count: int = CUTS_OF_AN_IMAGE) -> Tally:
    return try_shutdowns(file_system, seed, count, scratch)


KINDS: dict[str, Callable[..., Tally]] = {
    "recorded": cut_recorded,
    "recorded threads": cut_recorded_threads,
    "guests": cut_guests,
    "shutdowns": cut_file_system,
}


def _repeat(kind: str, file_system: str, seed: int, seconds: float) -> Tally:
    """Until the time is over."""
    total = Tally()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and len(total.failures) < 10:
        with tempfile.TemporaryDirectory(prefix="powercut-") as scratch:
            total.add(KINDS[kind](file_system, seed, Path(scratch)))
        seed += CUTS_OF_AN_IMAGE
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power under stores on real file systems.")
    parser.add_argument(
        "kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}; all if none is named"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each kind and file system (60)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    print(f"seed {arguments.seed}")
    status = 0
    for kind in arguments.kinds or KINDS:
        for file_system in FILE_SYSTEMS:
            missing = what_is_missing(kind, file_system)
            if missing is not None:
                print(f"{kind}, {file_system}: not tried: {missing}", flush=True)
                continue
            tally = _repeat(kind, file_system, arguments.seed, arguments.seconds)
            print(f"{kind}, {file_system}: {tally}", *tally.failures, sep="\n  ", flush=True)
            status |= bool(tally.failures)
    return status


if __name__ == "__main__":
    sys.exit(main())
