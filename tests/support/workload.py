"""A scripted history of a store, and what must be in it after any part of that history.

The steps write a few segments of 64 KiB, so that a run rotates, seals, compacts, closes and reopens within some
hundred calls to the operating system: few enough to fail each one of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_kv import Options
from flash_kv.engine.db import DB
from flash_kv.errors import StrPath
from flash_kv.io.system import System
from flash_kv.torture.stepped import UNSYNCED

if TYPE_CHECKING:
    from collections.abc import Mapping

SEGMENT_BYTES = 64 * 1024
Model = dict[bytes, bytes]


@dataclass(frozen=True)
class Step:
    """One call on a store: its name, and the writes it stands for (None deletes)."""

    name: str
    writes: Mapping[bytes, bytes | None] = field(default_factory=dict)

    def apply(self, model: Model) -> None:
        """Do to `model` what the step does to a store."""
        for key, value in self.writes.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value

    def run(self, db: DB) -> None:
        """Do it to a store."""
        if self.name == "batch":
            with db.batch() as batch:
                for key, value in self.writes.items():
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
            return
        if not self.writes:
            getattr(db, self.name)()
            return
        for key, value in self.writes.items():
            if value is None:
                db.delete(key)
            else:
                db.put(key, value)

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(map(repr, self.writes))}" if self.writes else self.name


def put(key: str, value: bytes) -> Step:
    """A step of one put."""
    return Step("put", {key.encode(): value})


def delete(key: str) -> Step:
    """A step of one delete."""
    return Step("delete", {key.encode(): None})


def history() -> list[Step]:
    """Puts over three segments, a batch, deletes, a sync, overwrites, two compactions."""
    steps = [put(f"k{i}", b"%d " % i * 2000) for i in range(26)]
    steps.append(Step("batch", {b"k0": b"batch", b"k3": None, b"b0": b"x" * 9000, b"b1": b"y" * 50}))
    steps += [delete(f"k{i}") for i in range(0, 20, 2)]
    steps.append(Step("sync"))
    steps += [put(f"k{i}", b"again %d " % i * 500) for i in range(5)]
    steps.append(Step("compact"))
    steps += [put(f"k{i}", b"third %d " % i * 1000) for i in range(4, 10)]
    steps.append(delete("k1"))
    steps.append(Step("compact"))
    steps.append(put("last", b"of all"))
    return steps


def model_after(steps: Iterable[Step]) -> Model:
    """What a store holds after these steps."""
    model: Model = {}
    for step in steps:
        step.apply(model)
    return model


def content(db: DB) -> Model:
    """Everything in the store, by iteration; by `get` it has to be the same."""
    found = dict(db.items())
    assert {key: db.get(key) for key in found} == found
    assert len(db) == len(found)
    return found


def difference(found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> str:
    """In a line, how two states differ; empty when they do not."""
    parts = {
        "missing": [key for key in wanted if key not in found],
        "not deleted": [key for key in found if key not in wanted],
        "another value": [key for key in found if key in wanted and found[key] != wanted[key]],
    }
    return "; ".join(f"{name}: {keys[:5]} ({len(keys)})" for name, keys in parts.items() if keys)


def open_with(path: StrPath, system: System = UNSYNCED, **options: Any) -> DB:
    """A store that goes through `system`, with small segments, and compacted only when told to."""
    chosen: dict[str, Any] = {
        "segment_bytes_max": SEGMENT_BYTES,
        "compaction": "off",
        "reserve_bytes": SEGMENT_BYTES,
        "load_threads": 2,
        **options,
    }
    return DB(path, Options(**chosen), system)


def open_files_in(directory: Path) -> list[str]:
    """What this process has open or mapped of the files in `directory`, removed ones included."""
    inside = str(directory.resolve()) + "/"
    left = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
        if target.startswith(inside):
            left.append(target)
    maps = Path("/proc/self/maps").read_text("utf-8", "surrogateescape")
    return left + [line for line in maps.splitlines() if inside in line]
