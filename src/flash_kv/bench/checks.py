"""The answers are checked, untimed: a store that is fast because it is wrong ends the run."""

from __future__ import annotations

from collections.abc import Mapping

from flash_kv.bench.dataset import Dataset
from flash_kv.bench.stores.base import BenchmarkError, Handle
from flash_kv.bench.workloads import PREFIX_DIGITS_LESS, PREFIX_ITEMS

SAMPLE_KEYS = 500


def all_present(
    name: str, handle: Handle, data: Dataset, ordinals: list[int], versions: Mapping[int, int]
) -> None:
    """The newest value of each key, one by one and many at once; None for missing keys."""
    expected = [data.values([ordinal], versions.get(ordinal, 0))[0] for ordinal in ordinals]
    for key, value in zip(data.keys(ordinals), expected, strict=True):
        if handle.get(key) != value:
            raise BenchmarkError(f"{name}: get({key!r}) is not what was put")
    if list(handle.get_many(data.keys(ordinals))) != expected:
        raise BenchmarkError(f"{name}: get_many of {len(ordinals)} keys is not what was put")
    for key in data.missing_keys(ordinals):
        if handle.get_missing(key) is not None:
            raise BenchmarkError(f"{name}: get({key!r}) returned a value for a key that was never put")


def all_absent(name: str, handle: Handle, data: Dataset, ordinals: list[int]) -> None:
    """No deleted key is returned."""
    for key in data.keys(ordinals):
        if handle.get_missing(key) is not None:
            raise BenchmarkError(f"{name}: get({key!r}) returned a deleted key")


def scans_whole(name: str, handle: Handle, data: Dataset, *, is_ordered: bool) -> None:
    """A scan gives every key once, in order where there is one, as whole pairs; backwards the same."""
    forwards = [_scanned(name, pair, data) for pair in handle.items()]
    if len(set(forwards)) != len(forwards) or len(forwards) != data.key_count:
        raise BenchmarkError(
            f"{name}: the scan gave {len(forwards)} items of {data.key_count}, or some twice"
        )
    if is_ordered and forwards != sorted(forwards):
        raise BenchmarkError(f"{name}: the scan is not in order")
    if (
        handle.reverse is not None
        and [_scanned(name, pair, data) for pair in handle.reverse()] != forwards[::-1]
    ):
        raise BenchmarkError(f"{name}: the scan backwards is not the scan the other way round")


def finds_its_place(name: str, handle: Handle, data: Dataset, ordinals: list[int]) -> None:
    """A seek between two keys finds the next, a prefix all that begins with it and nothing else."""
    for ordinal in ordinals:
        key, following = data.missing_keys([ordinal])[0], data.keys([ordinal + 1])[0]
        if handle.scan_from is not None and ordinal + 1 < data.key_count:
            found = [found for found, _ in handle.scan_from(key, 1)]
            if found != [following]:
                raise BenchmarkError(f"{name}: a seek to {key!r} found {found} and not {following!r}")
        if handle.prefix is not None:
            prefix = key[:-PREFIX_DIGITS_LESS]
            first = int(prefix) * PREFIX_ITEMS
            expected = data.keys(list(range(first, min(first + PREFIX_ITEMS, data.key_count))))
            if [found for found, _ in handle.prefix(prefix)] != expected:
                raise BenchmarkError(
                    f"{name}: the prefix {prefix!r} gave other keys than those that begin with it"
                )


def _scanned(name: str, pair: tuple[bytes, bytes], data: Dataset) -> bytes:
    key, value = pair
    if len(value) != data.value_bytes:
        raise BenchmarkError(f"{name}: the scan gave a value of {len(value)} bytes for {key!r}")
    return key
