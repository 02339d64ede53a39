"""The ways to damage a small store: each bit, each length, each block, each file, and files of two generations.

A `Case` is one damaged store, made when it is wanted. All cases of a specimen, in order, are the sweep.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

from flash_kv.log.names import INDEX
from flash_kv.torture.specimen import Files, Specimen, SpecimenKind

BLOCK_BYTES = (512, 4096)
EXTENSION_BYTES = (1, 8, 64, 4096)
# Combinations of files of both generations that are tried beside those of one or two.
MIXTURES = 150
# Of some specimens not every bit and length is tried, since others have them all. 0: no bits.
BIT_STEPS: dict[SpecimenKind, int] = {"blocks": 0, "replay": 61}
LENGTH_STEPS: dict[SpecimenKind, int] = {"blocks": 512, "replay": 512}

Changes: TypeAlias = "dict[str, bytes | None]"
"""Files with another content; None: removed."""


class Case(NamedTuple):
    """One way to damage a specimen."""

    text: str
    make: Callable[[], Changes]
    is_flip: bool = False
    """A single bit."""
    is_mixture: bool = False
    """Of two generations, each file whole."""

    def files(self, specimen: Specimen) -> Files:
        """All files of the damaged store."""
        changed: Changes = {**specimen.files, **self.make()}
        return {name: content for name, content in changed.items() if content is not None}


def cases(specimen: Specimen) -> Iterator[Case]:
    """Every case, in the same order each time."""
    damaged = INDEX if specimen.has_index else None
    for name, content in specimen.files.items():
        if damaged not in (None, name):
            continue
        bit_step = BIT_STEPS.get(specimen.kind, 1)
        if bit_step:
            yield from _flips(name, content, bit_step)
        yield from _cuts(name, content, LENGTH_STEPS.get(specimen.kind, 1))
        yield from _extensions(name, content)
        for size in BLOCK_BYTES:
            yield from _blocks(name, content, specimen.older.get(name), size)
    yield from _exchanges(specimen.files, damaged)
    yield from _missing(specimen.files, damaged)
    yield from _mixtures(specimen)


def _as_given(changes: Changes) -> Changes:
    return changes


def _flip(name: str, content: bytes, offset: int, bit: int) -> Changes:
    changed = bytearray(content)
    changed[offset] ^= 1 << bit
    return {name: bytes(changed)}


def _flips(name: str, content: bytes, step: int) -> Iterator[Case]:
    for number in range(0, 8 * len(content), step):
        offset, bit = divmod(number, 8)
        make = partial(_flip, name, content, offset, bit)
        yield Case(f"bit {bit} of byte {offset} of {name} flipped", make, is_flip=True)


def _cuts(name: str, content: bytes, step: int) -> Iterator[Case]:
    for size in range(0, len(content), step):
        yield Case(f"{name} cut at {size}", partial(_as_given, {name: content[:size]}))


def _extensions(name: str, content: bytes) -> Iterator[Case]:
    for size, byte in itertools.product(EXTENSION_BYTES, (b"\0", b"\xff")):
        extended = content + byte * size
        yield Case(f"{name} extended by {size} bytes {byte.hex()}", partial(_as_given, {name: extended}))
    yield Case(f"{name} extended by itself", partial(_as_given, {name: content * 2}))


def _blocks(name: str, content: bytes, older: bytes | None, size: int) -> Iterator[Case]:
    """Blocks of `size` bytes overwritten, as a disk does that writes in blocks."""

    def put(offset: int, block: bytes) -> Changes:
        return {name: content[:offset] + block + content[offset + len(block) :]}

    starts = range(0, len(content), size)
    for offset in starts:
        block = content[offset : offset + size]
        what = f"{size} bytes at {offset} of {name}"
        others: dict[str, Changes] = {
            "zeroed": put(offset, bytes(len(block))),
            "set to ff": put(offset, b"\xff" * len(block)),
            "written over the next": put(offset + size, block[: max(len(content) - offset - size, 0)]),
            "doubled": {name: content[:offset] + block + content[offset:]},
            "dropped": {name: content[:offset] + content[offset + size :]},
        }
        if older is not None and older[offset : offset + size] != block:
            others["as they were once"] = put(offset, older[offset : offset + size])
        for later in starts:
            if later > offset and len(content[later : later + size]) == len(block):
                swap = partial(_swap, name, content, offset, later, size)
                yield Case(f"{what} swapped with those at {later}", swap)
        for how, changes in others.items():
            yield Case(f"{what} {how}", partial(_as_given, changes))


def _swap(name: str, content: bytes, offset: int, later: int, size: int) -> Changes:
    changed = bytearray(content)
    changed[offset : offset + size] = content[later : later + size]
    changed[later : later + size] = content[offset : offset + size]
    return {name: bytes(changed)}


def _exchanges(files: Files, damaged: str | None) -> Iterator[Case]:
    """Two files under each other's name, or one under both."""
    for one, other in itertools.permutations(files, 2):
        if damaged in (None, one, other):
            yield Case(f"{one} in the place of {other}", partial(_as_given, {other: files[one]}))
    for one, other in _pairs(files, damaged):
        exchanged: Changes = {one: files[other], other: files[one]}
        yield Case(f"{one} and {other} exchanged", partial(_as_given, exchanged))


def _pairs(files: Files, damaged: str | None) -> list[tuple[str, str]]:
    return [pair for pair in itertools.combinations(files, 2) if damaged is None or damaged in pair]


def _missing(files: Files, damaged: str | None) -> Iterator[Case]:
    for name in files:
        if damaged in (None, name):
            yield Case(f"{name} missing", partial(_as_given, {name: None}))
    for one, other in _pairs(files, damaged):
        yield Case(f"{one} and {other} missing", partial(_as_given, {one: None, other: None}))


def _mixtures(specimen: Specimen) -> Iterator[Case]:
    """Some of the files as they were once: there, not there yet, or still there."""
    names = sorted({*specimen.files, *specimen.older})
    names = [name for name in names if specimen.files.get(name) != specimen.older.get(name)]
    rng = random.Random("mixtures")
    chosen = [frozenset({name}) for name in names]
    chosen += [frozenset(pair) for pair in itertools.combinations(names, 2)]
    chosen += [frozenset(names) - {name} for name in names]
    chosen += [frozenset(rng.sample(names, rng.randint(3, len(names) - 2))) for _ in range(MIXTURES)]
    for older in dict.fromkeys(chosen):
        changes = {name: specimen.older.get(name) for name in older}
        text = f"{', '.join(sorted(older))} of an older generation"
        yield Case(text, partial(_as_given, changes), is_mixture=True)
