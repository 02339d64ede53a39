"""The answers are checked, untimed: a store that is fast because it is wrong ends the run."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.dataset import Dataset
from benchmarks.stores.base import BenchmarkError, Handle

SAMPLE_KEYS = 2_000


def all_present(
    handles: Mapping[str, Handle], data: Dataset, ordinals: list[int], versions: Mapping[int, int]
) -> None:
    """The newest value of each key, one by one and many at once; None for missing keys."""
    expected = [data.values([ordinal], versions.get(ordinal, 0))[0] for ordinal in ordinals]
    for name, handle in handles.items():
        for key, value in zip(data.keys(ordinals), expected, strict=True):
            if handle.get(key) != value:
                raise BenchmarkError(f"{name}: get({key!r}) is not what was put")
        if list(handle.get_many(data.keys(ordinals))) != expected:
            raise BenchmarkError(f"{name}: get_many of {len(ordinals)} keys is not what was put")
        for key in data.missing_keys(ordinals):
            if handle.get_missing(key) is not None:
                raise BenchmarkError(f"{name}: get({key!r}) returned a value for a key that was never put")


def all_absent(handles: Mapping[str, Handle], data: Dataset, ordinals: list[int]) -> None:
    """No store returns a deleted key."""
    for name, handle in handles.items():
        for key in data.keys(ordinals):
            if handle.get_missing(key) is not None:
                raise BenchmarkError(f"{name}: get({key!r}) returned a deleted key")


def scans_whole(handles: Mapping[str, Handle], data: Dataset, ordered: set[str]) -> None:
    """Each store's scan gives every key once, the ordered ones in order, as whole pairs."""
    for name, handle in handles.items():
        count, previous, size = 0, b"", data.value_bytes
        for key, value in handle.items():
            count += 1
            if len(value) != size:
                raise BenchmarkError(f"{name}: the scan gave a value of {len(value)} bytes for {key!r}")
            if name in ordered:
                if key <= previous:
                    raise BenchmarkError(f"{name}: the scan gave {key!r} after {previous!r}")
                previous = key
        if count != data.key_count:
            raise BenchmarkError(f"{name}: the scan gave {count} items of {data.key_count}")
