"""Instructions per operation, counted by callgrind: figures that a noisy machine cannot change.

    python -m benchmarks.instructions                   # count, and print beside what is kept
    python -m benchmarks.instructions --check           # fail where one is more than 3 % above what is kept
    python -m benchmarks.instructions --accept WHY      # keep what differs more than that, with the reason for it

The figures are in instructions.json, for each build one set: another compiler or Python counts otherwise. Of a build
without figures nothing can be said, and the command says so. Fewer instructions are not always less time, and a wait
for memory is none at all: what these find is work that came into a path unseen.

What is counted is in instructions_subject.py. The loop and the call are counted too, but for those of an empty loop.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from flash_kv.bench.table import Table
from flash_kv.options import IndexKind

KEPT = Path(__file__).with_name("instructions.json")
ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.03
# What a thread waits for in a phase depends on the clock a little. It only ever adds, so where a figure is too high the
# least of some counts is compared.
AGAIN_MAX = 2
EMPTY = "an empty loop"
OPEN = "open and close"
KINDS: tuple[str, ...] = get_args(IndexKind)

# What the C library would otherwise decide by the processor's caches, or by what was freed before. `rep movsb` is
# counted as an instruction for each byte, so that one copy more or less of a large buffer was a tenth of put_many.
TUNABLES = ":".join(
    (
        "glibc.cpu.x86_rep_movsb_threshold=1073741824",
        "glibc.cpu.x86_non_temporal_threshold=1073741824",
        "glibc.malloc.mmap_threshold=131072",
    )
)

# By operation.
Counts = dict[str, float]


class CannotCountError(Exception):
    """Valgrind failed."""


class NoValgrindError(CannotCountError):
    """There is none here."""


def build_name() -> str:
    """What figures depend on beside the source."""
    compiler = re.search(r"(GCC|Clang) (\d+)", platform.python_compiler())
    name = "unknown compiler" if compiler is None else f"{compiler[1]} {compiler[2]}"
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {python}, {name}, {platform.machine()}"


def count() -> dict[str, Counts]:
    """Instructions of one operation each, for each kind of index. CannotCountError."""
    found: dict[str, Counts] = {kind: {} for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="flash-kv-instructions-") as scratch:
        for phase in run_phases(Path(scratch), KINDS):
            found[phase.kind][phase.name] = _total(phase.dump) / phase.operations
    return {kind: _without_loop(costs) for kind, costs in found.items()}


@dataclass(frozen=True)
class PhaseDump:
    """What callgrind wrote of the loop of one operation."""

    kind: str
    operations: int
    name: str
    dump: Path


def run_phases(scratch: Path, kinds: Sequence[str]) -> list[PhaseDump]:
    """Run the subject under callgrind in an empty directory. CannotCountError."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise NoValgrindError("valgrind is not installed")
    out = scratch / "out"
    command = [
        valgrind,
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        "--dump-before=getppid",
        # The background thread of a store works when its time has come.
        "--separate-threads=yes",
        *(sys.executable, "-m", "benchmarks.instructions_subject", str(scratch), *kinds),
    ]
    # Of the environment as little as it takes: the hashes of strings decide how long a dict looks.
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "GLIBC_TUNABLES": TUNABLES}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotCountError(f"the program under valgrind failed:\n{done.stderr[-2000:]}")
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    # The first dump is what came before the first mark; then come a phase and what is between two in turn.
    return [
        PhaseDump(kind, int(operations), name, out.with_name(f"out.{2 * number + 2}-01"))
        for number, (kind, operations, name) in enumerate(lines)
    ]


def _without_loop(costs: Counts) -> Counts:
    return {
        name: round(cost if name == OPEN else cost - costs[EMPTY], 1)
        for name, cost in costs.items()
        if name != EMPTY
    }


def _total(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)$", dump.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise CannotCountError(f"{dump.name} has no totals")
    return int(found[1])


def kept() -> dict[str, Any]:
    """What instructions.json holds: for each build its figures and the reasons of their changes."""
    loaded: dict[str, Any] = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    return loaded


def exceeded(found: dict[str, Counts], before: dict[str, Counts]) -> list[str]:
    """What is more than what is kept, in words."""
    return [
        f"{name} with {kind}: {now:,.0f} instructions, {now / before[kind][name] - 1:+.1%} of {before[kind][name]:,.0f}"
        for kind, counts in found.items()
        for name, now in counts.items()
        if name in before.get(kind, {}) and now > before[kind][name] * (1 + TOLERANCE)
    ]


def least(first: dict[str, Counts], second: dict[str, Counts]) -> dict[str, Counts]:
    """The lower figure of two counts for each kind and phase."""
    return {
        kind: {name: min(cost, second[kind][name]) for name, cost in costs.items()}
        for kind, costs in first.items()
    }


def accept(found: dict[str, Counts], why: str) -> None:
    """Keep these figures of this build, and why they are others than before.

    What differs less than the guard tolerates stays: the least of some counts, kept again and again, would make it
    stricter each time.
    """
    content = kept()
    entry = content.setdefault(build_name(), {"reasons": []})
    before: dict[str, Counts] = entry.get("figures", {})
    entry["figures"] = {
        kind: {name: _accepted(now, before.get(kind, {}).get(name)) for name, now in counts.items()}
        for kind, counts in found.items()
    }
    entry["reasons"].append(why)
    KEPT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _accepted(now: float, before: float | None) -> float:
    return now if before is None or abs(now - before) > before * TOLERANCE else before


def table(found: dict[str, Counts], before: dict[str, Counts]) -> Table:
    """Operations down, kinds across; in brackets the change since what is kept."""

    def cell(kind: str, name: str) -> str:
        now, was = found[kind][name], before.get(kind, {}).get(name)
        return f"{now:,.0f}" if was is None else f"{now:,.0f} ({now / was - 1:+.1%})"

    rows = [[name, *(cell(kind, name) for kind in found)] for name in next(iter(found.values()))]
    return Table(f"Instructions per operation, {build_name()}", ["", *found], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Count instructions per operation.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--check", action="store_true", help="fail where a figure is more than 3 %% above the kept one"
    )
    choice.add_argument(
        "--accept", metavar="WHY", help="keep today's figures where they differ more, for this reason"
    )
    arguments = parser.parse_args()
    entry = kept().get(build_name())
    before: dict[str, Counts] = {} if entry is None else entry["figures"]
    try:
        found = count()
        for _ in range(AGAIN_MAX):
            if not exceeded(found, before):
                break
            found = least(found, count())
    except CannotCountError as error:
        print(f"not counted: {error}", file=sys.stderr)
        # Where it cannot be had there is nothing to fail.
        return 0 if arguments.check and isinstance(error, NoValgrindError) else 2
    print(table(found, before).plain())
    if arguments.accept is not None:
        accept(found, arguments.accept)
        return 0
    if entry is None:
        print("\nno figures are kept for this build; `--accept WHY` keeps these")
        return 0
    for line in (slower := exceeded(found, before)):
        print(line)
    return 1 if slower and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
