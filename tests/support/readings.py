"""A FlatBuffers table written by hand, with the accessors that its compiler would make for

table Reading { id: long; name: string; celsius: double; samples: [double]; inner: Reading; }
"""

from __future__ import annotations

from typing import Any

import flatbuffers
from flatbuffers.number_types import Float64Flags, Int64Flags, UOffsetTFlags
from flatbuffers.table import Table


class Reading:
    """One reading of an instrument."""

    @classmethod
    def GetRootAs(cls, buffer: Any, offset: int = 0) -> Reading:  # noqa: N802 - FlatBuffers calls it so
        reading = cls()
        reading._tab = Table(
            buffer, flatbuffers.encode.Get(UOffsetTFlags.packer_type, buffer, offset) + offset
        )
        return reading

    def _offset(self, field: int) -> int:
        return int(self._tab.Offset(4 + 2 * field))

    def id(self) -> int:
        at = self._offset(0)
        return int(self._tab.Get(Int64Flags, at + self._tab.Pos)) if at else 0

    def name(self) -> bytes | None:
        at = self._offset(1)
        return bytes(self._tab.String(at + self._tab.Pos)) if at else None

    def celsius(self) -> float:
        at = self._offset(2)
        return float(self._tab.Get(Float64Flags, at + self._tab.Pos)) if at else 0.0

    def sample(self, number: int) -> float:
        at = self._offset(3)
        return float(self._tab.Get(Float64Flags, self._tab.Vector(at) + 8 * number)) if at else 0.0

    def inner(self) -> Reading | None:
        at = self._offset(4)
        if not at:
            return None
        reading = Reading()
        reading._tab = Table(self._tab.Bytes, self._tab.Indirect(at + self._tab.Pos))
        return reading


def build(id: int, name: str, celsius: float, samples: list[float], with_inner: bool = False) -> Any:
    """A finished builder."""
    builder = flatbuffers.Builder(1024)
    inner = None
    if with_inner:
        builder.StartObject(5)
        builder.PrependInt64Slot(0, 7, 0)
        inner = builder.EndObject()
    text = builder.CreateString(name)
    builder.StartVector(8, len(samples), 8)
    for sample in reversed(samples):
        builder.PrependFloat64(sample)
    vector = builder.EndVector()
    builder.StartObject(5)
    builder.PrependInt64Slot(0, id, 0)
    builder.PrependUOffsetTRelativeSlot(1, text, 0)
    builder.PrependFloat64Slot(2, celsius, 0.0)
    builder.PrependUOffsetTRelativeSlot(3, vector, 0)
    if inner is not None:
        builder.PrependUOffsetTRelativeSlot(4, inner, 0)
    builder.Finish(builder.EndObject())
    return builder
