"""One field of a large table, read in place and by decoding all of it: `python -m benchmarks.lazy_tables`.

The same table, of an id, a name and a vector of numbers, stored as FlatBuffers, msgspec, MessagePack and JSON; each
call gets the value by its key and reads the id and one number. The codecs take turns, many times; what an empty call
takes is subtracted.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import flatbuffers
import msgspec
from flatbuffers.number_types import Float64Flags, Int64Flags, UOffsetTFlags
from flatbuffers.table import Table

import flash_kv
from benchmarks.figures import Figure
from benchmarks.machine import busy_lines, machine_facts, machine_lines
from benchmarks.report import Table as ReportTable
from benchmarks.timing import empty_handle, time_each_ns

NUMBERS = (10, 1_000, 100_000)
ROUNDS = 11
SECONDS_PER_TURN = 0.05
CODECS = ("flatbuffers", "msgspec", "msgpack", "json")


class Run:
    """As the compiler of FlatBuffers makes it of `table Run { id: long; name: string; numbers: [double]; }`."""

    _tab: Any

    @classmethod
    def GetRootAs(cls, buffer: Any, offset: int = 0) -> Run:  # noqa: N802 - FlatBuffers calls it so
        """The table that begins `buffer`."""
        run = cls()
        run._tab = Table(buffer, flatbuffers.encode.Get(UOffsetTFlags.packer_type, buffer, offset) + offset)
        return run

    def id(self) -> int:
        """Field 0."""
        at = self._tab.Offset(4)
        return int(self._tab.Get(Int64Flags, at + self._tab.Pos)) if at else 0

    def number(self, place: int) -> float:
        """One element of field 2."""
        at = self._tab.Offset(8)
        return float(self._tab.Get(Float64Flags, self._tab.Vector(at) + 8 * place)) if at else 0.0


class Struct(msgspec.Struct):
    """The same for msgspec."""

    id: int
    name: str
    numbers: list[float]


def build(id: int, name: str, numbers: list[float]) -> flatbuffers.Builder:
    """The table as FlatBuffers."""
    builder = flatbuffers.Builder(8 * len(numbers) + 1024)
    text = builder.CreateString(name)
    builder.StartVector(8, len(numbers), 8)
    for number in reversed(numbers):
        builder.PrependFloat64(number)
    vector = builder.EndVector()
    builder.StartObject(3)
    builder.PrependInt64Slot(0, id, 0)
    builder.PrependUOffsetTRelativeSlot(1, text, 0)
    builder.PrependUOffsetTRelativeSlot(2, vector, 0)
    builder.Finish(builder.EndObject())
    return builder


def open_all(directory: Path, stack: ExitStack) -> dict[str, flash_kv.TypedDB[int, Any]]:
    """A store for each codec."""
    tables = flash_kv.codecs.FlatBuffers(Run)
    structs = flash_kv.codecs.Msgspec(Struct)
    codecs: dict[str, Any] = {"flatbuffers": tables, "msgspec": structs, "msgpack": "msgpack", "json": "json"}
    rng = random.Random(7)
    stores: dict[str, flash_kv.TypedDB[int, Any]] = {}
    for name in CODECS:
        stores[name] = flash_kv.open(directory / name, codec=codecs[name], key_codec="int")
        stack.enter_context(stores[name])
    for count in NUMBERS:
        numbers = [rng.random() for _ in range(count)]
        stores["flatbuffers"][count] = tables.root(build(count, "a run", numbers))
        stores["msgspec"][count] = Struct(count, "a run", numbers)
        for name in ("msgpack", "json"):
            stores[name][count] = {"id": count, "name": "a run", "numbers": numbers}
    return stores


def readers(stores: dict[str, flash_kv.TypedDB[int, Any]]) -> dict[str, Callable[[int], tuple[int, float]]]:
    """What is timed, for each codec: id and last number of the table under a key."""
    tables, structs, packed, texts = (stores[name] for name in CODECS)

    def read_table(key: int) -> tuple[int, float]:
        run = tables[key]
        return run.id(), run.number(key - 1)

    def read_struct(key: int) -> tuple[int, float]:
        run = structs[key]
        return run.id, run.numbers[key - 1]

    def read_packed(key: int) -> tuple[int, float]:
        run = packed[key]
        return run["id"], run["numbers"][key - 1]

    def read_text(key: int) -> tuple[int, float]:
        run = texts[key]
        return run["id"], run["numbers"][key - 1]

    return dict(zip(CODECS, (read_table, read_struct, read_packed, read_text), strict=True))


def main() -> None:
    """Measure and print one table."""
    empty = empty_handle(1).get
    rows = []
    with tempfile.TemporaryDirectory(prefix="flash-kv-bench-") as directory, ExitStack() as stack:
        facts = machine_facts(Path(directory), [])
        stores = open_all(Path(directory), stack)
        calls = readers(stores)
        for count in NUMBERS:
            answers = {call(count) for call in calls.values()}
            if len(answers) != 1:
                raise SystemExit(f"the codecs do not agree: {answers}")
            samples: dict[str, list[float]] = {name: [] for name in CODECS}
            repeats = {name: _repeats(call, count) for name, call in calls.items()}
            for _ in range(ROUNDS):
                for name, call in calls.items():
                    keys = [count] * repeats[name]
                    overhead_us = time_each_ns(empty, keys) / len(keys) / 1e3
                    samples[name].append(time_each_ns(call, keys) / len(keys) / 1e3 - overhead_us)
            size = len(stores["flatbuffers"].view(count, b""))
            rows.append([f"{count:,}", f"{size:,} B", *(str(Figure.of(samples[name])) for name in CODECS)])
    print("\n".join([*machine_lines(facts), *busy_lines(facts)]))
    print(ReportTable("get and read two fields, us per call", ["numbers", "size", *CODECS], rows).plain())


def _repeats(call: Callable[[int], object], key: int) -> int:
    """Calls that take about `SECONDS_PER_TURN`, 3 at least."""
    call(key)
    once_ns = max(1, time_each_ns(call, [key] * 3) // 3)
    return max(3, int(SECONDS_PER_TURN * 1e9 / once_ns))


if __name__ == "__main__":
    main()
