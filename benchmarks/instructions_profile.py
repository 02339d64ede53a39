"""Where the instructions of an operation go: `python -m benchmarks.instructions_profile get put`.

The loops are those of `benchmarks.instructions`, under callgrind, and so is what they need. One table for each
operation: what its functions are for down, the kinds of index across. `--functions` shows the functions themselves,
under the names of their sources; those of the interpreter and of the C library under theirs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.instructions import KINDS, CannotCountError, PhaseDump, run_phases
from benchmarks.report import Table

# Below it a function is among the others.
SHARE_MIN = 0.01
OTHERS = "everything else"
# What a function is for, by the first pattern that its name begins with.
STAGES: list[tuple[str, str]] = [
    (
        "the call, from the loop to the method's first line and back",
        r"map_next|method_vectorcall|listiter_next|repeat_next|_Py_CheckFunctionResult|__Pyx_CyFunction|"
        r"reads_cy\.Reads\.get|writes_cy\.Writes\.(put|delete)$|_PyEval_|unicodekeys_|tuple|deque_|consume_iterator",
    ),
    ("borrow the bytes of key and value; is the store open?", r"arguments_cy\.borrow|core_cy\.Core\.check_"),
    ("the key's hash, SipHash-1-3 with a key of the store's", r"arguments_cy\.begin_key"),
    ("the checksum, CRC32C, of the record", r"fk_crc32c|checksum_cy|table_cy\.is_record_sound"),
    ("compare bytes (keys, separators)", r"__memcmp|table_cy\.match_key|table_cy\.load_key"),
    ("copy bytes", r"__memcpy|__memmove|__memset"),
    (
        "objects made and dropped: the answer",
        r"reads_cy\.Reads\.value_at|Py|_Py|bytes_dealloc|object_dealloc",
    ),
    ("the write lock, taken and released", r"pthread_|__pthread_|writes_cy\.Writes\.(enter|leave)"),
    ("room in index and version chains, so that nothing later can fail", r".*\.reserve$"),
    (
        "find the place in the index, change it",
        r"(hash|hash_buckets|btree|leaf|skiplist|bptree|page)\w*\.",
    ),
    ("the scan", r"scan_cy"),
    ("write the record", r"writer_cy|batch_cy"),
    (
        "the critical section: old record, live and dead bytes, publishing",
        r"core_cy|writes_cy|reads_cy|table_cy",
    ),
]

_FUNCTION = re.compile(r"fn=\((\d+)\)(?: (.*))?")
_NAMED = re.compile(r"(?:c?fn)=\((\d+)\) (.*)")


def instructions_by_function(dump: Path) -> Counter[str]:
    """What each function itself took, without those it called."""
    found: Counter[str] = Counter()
    names: dict[str, str] = {}
    current = ""
    is_call = False
    for line in dump.read_text("utf-8").splitlines():
        if named := _NAMED.match(line):
            names[named[1]] = named[2]
        if function := _FUNCTION.match(line):
            current = function[1]
        elif line.startswith("calls="):
            is_call = True
        elif line[:1] in set("+-*0123456789"):
            # The line behind a call has what was called.
            if not is_call:
                found[current] += int(line.split()[1])
            is_call = False
    return Counter({names[number]: total for number, total in found.items()})


def readable(name: str) -> str:
    """A function's name as its source has it, with its module and class."""
    name = name.removesuffix("'2")
    if not name.startswith("__pyx"):
        return name
    parts: list[str] = []
    rest = re.sub(r"^__pyx_\w+?_(?=\d)", "", name)
    # Each part is preceded by its length, but the name of a method by a number of its own.
    while (match := re.match(r"\d+", rest)) and rest[match.end() + int(match[0]) :][:1] in ("_", ""):
        end = match.end() + int(match[0])
        parts.append(rest[match.end() : end])
        rest = rest[end:].removeprefix("_")
    last = re.sub(r"^\d+", "", rest)
    return ".".join([*parts[2:], *([last] if last else [])])


def costs_of(phase: PhaseDump) -> Counter[str]:
    """Instructions of one operation by the readable names of functions."""
    costs: Counter[str] = Counter()
    for name, total in instructions_by_function(phase.dump).items():
        costs[readable(name)] += total
    return costs


def functions_table(phase: PhaseDump) -> Table:
    """The functions of one operation, the dearest first."""
    costs = costs_of(phase)
    whole = costs.total()
    shown = [(name, cost) for name, cost in costs.most_common() if cost >= SHARE_MIN * whole]
    rest = whole - sum(cost for _, cost in shown)
    rows = [
        [name, f"{cost / phase.operations:,.0f}", f"{cost / whole:.0%}"]
        for name, cost in [*shown, (OTHERS, rest), ("together", whole)]
    ]
    return Table(f"{phase.name}, {phase.kind}", ["function", "instructions", "share"], rows)


def stage_of(function: str) -> str:
    """What a function is for."""
    return next((stage for stage, pattern in STAGES if re.match(pattern, function)), OTHERS)


def stages_table(phases: list[PhaseDump]) -> Table:
    """What one operation consists of, with each kind of index."""
    by_kind: list[Counter[str]] = []
    for phase in phases:
        stages: Counter[str] = Counter()
        for name, total in costs_of(phase).items():
            stages[stage_of(name)] += total
        by_kind.append(stages)
    rows = [
        [
            stage,
            *(
                f"{stages[stage] / phase.operations:,.0f}"
                for stages, phase in zip(by_kind, phases, strict=True)
            ),
        ]
        for stage in [*(stage for stage, _ in STAGES), OTHERS]
        if any(stages[stage] >= phase.operations for stages, phase in zip(by_kind, phases, strict=True))
    ]
    totals = [
        f"{stages.total() / phase.operations:,.0f}" for stages, phase in zip(by_kind, phases, strict=True)
    ]
    return Table(
        f"{phases[0].name}, instructions",
        ["", *(phase.kind for phase in phases)],
        [*rows, ["together", *totals]],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Show where the instructions of an operation go.")
    parser.add_argument("operations", nargs="+", help="such as get, put, or 'scan, an item'")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of index (default: all)"
    )
    parser.add_argument("--functions", action="store_true", help="show the functions themselves")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flash-kv-instructions-") as scratch:
        try:
            phases = run_phases(Path(scratch), arguments.kinds)
        except CannotCountError as error:
            sys.exit(f"not counted: {error}")
        names = dict.fromkeys(phase.name for phase in phases)
        if unknown := [name for name in arguments.operations if name not in names]:
            sys.exit(f"no such operation: {', '.join(unknown)}; there are: {'; '.join(names)}")
        for name in arguments.operations:
            chosen = [phase for phase in phases if phase.name == name]
            for found in map(functions_table, chosen) if arguments.functions else [stages_table(chosen)]:
                print(found.markdown() if arguments.markdown else found.plain(), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
