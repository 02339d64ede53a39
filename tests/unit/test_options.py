"""Options: defaults, every limit from both sides, and all faults in one error."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from flash_kv import options as options_module
from flash_kv.errors import OptionsError
from flash_kv.options import Durability, Options, parse_durability


def test_defaults_are_as_documented() -> None:
    options = Options()
    assert (options.index, options.durability, options.io) == ("btree", "process", "mmap")
    assert (options.read_only, options.create) == (False, True)
    assert options.segment_bytes_max == 256 * 1024**2
    assert options.compaction == "auto"


def test_options_are_frozen_hashable_and_keyword_only() -> None:
    options = Options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.index = "hash"  # type: ignore[misc]
    assert {options: 1}[Options()] == 1
    with pytest.raises(TypeError):
        Options("hash")  # type: ignore[misc]


GOOD: list[dict[str, Any]] = [
    {"index": "hash"},
    {"io": "file"},
    {"read_only": True},
    {"create": False},
    {"segment_bytes_max": 64 * 1024},
    {"segment_bytes_max": 4 * 1024**3},
    {"load_threads": 1},
    {"reserve_bytes": 0},
    {"index": "bptree", "index_cache_bytes": 65536, "index_checkpoint_bytes": 4096},
    {"compaction": "off"},
    {"compaction_dead_ratio": 1},
    {"compaction_dead_ratio": 0.01},
    {"compaction_dead_bytes": 0},
    {"compaction_segment_bytes_min": 0},
    {"compaction_window": (22, 6)},
    {"compaction_window": (0, 23)},
    {"compaction_rate_bytes_per_s": 1},
    {"compaction_interval_s": 0.01},
    {"durability": "always"},
    {"durability": ("interval", 1)},
    {"durability": ("bytes", 1)},
]


@pytest.mark.parametrize("chosen", GOOD, ids=str)
def test_good_options_are_kept(chosen: dict[str, Any]) -> None:
    for options in (Options(**chosen), Options.from_kwargs(**chosen)):
        assert {name: getattr(options, name) for name in chosen} == chosen


BAD: list[dict[str, Any]] = [
    {"index": "skip"},
    {"index": None},
    {"io": "ram"},
    {"align": 24},
    {"align": "64"},
    {"read_only": 1},
    {"create": "yes"},
    {"segment_bytes_max": 64 * 1024 - 4096},
    {"segment_bytes_max": 4 * 1024**3 + 4096},
    {"segment_bytes_max": 64 * 1024 + 8},
    {"segment_bytes_max": 1e6},
    {"segment_bytes_max": "1 MiB"},
    {"load_threads": -1},
    {"load_threads": True},
    {"reserve_bytes": -1},
    {"index_cache_bytes": 65535},
    {"index_checkpoint_bytes": 4095},
    {"compaction": True},
    {"compaction_dead_ratio": 0},
    {"compaction_dead_ratio": 1.1},
    {"compaction_dead_ratio": math.nan},
    {"compaction_dead_bytes": -1},
    {"compaction_segment_bytes_min": -1},
    {"compaction_window": (6, 6)},
    {"compaction_window": (0, 24)},
    {"compaction_window": (1, 2, 3)},
    {"compaction_window": "22-6"},
    {"compaction_rate_bytes_per_s": 0},
    {"compaction_rate_bytes_per_s": 1.5},
    {"compaction_interval_s": 0},
    {"compaction_interval_s": math.inf},
    {"compaction_interval_s": None},
    {"durability": "sometimes"},
    {"durability": ("bytes", 0)},
]


@pytest.mark.parametrize("chosen", BAD, ids=str)
def test_bad_option_is_one_fault_that_names_it_and_its_value(chosen: dict[str, Any]) -> None:
    with pytest.raises(OptionsError) as caught:
        Options(**chosen)
    (name, value), (fault,) = *chosen.items(), caught.value.faults
    assert fault.startswith(name)
    assert repr(value) in fault


def test_every_option_has_a_bad_value_here() -> None:
    assert {name for chosen in BAD for name in chosen} == {
        field.name for field in dataclasses.fields(Options)
    }


def test_all_faults_are_reported_at_once() -> None:
    chosen = {name: value for bad in BAD for name, value in bad.items()}
    with pytest.raises(OptionsError) as caught:
        Options(**chosen)
    assert len(caught.value.faults) == len(chosen)


def test_unknown_names_are_faults_beside_the_others_with_the_nearest_name() -> None:
    with pytest.raises(OptionsError) as caught:
        Options.from_kwargs(segment_byte_max=1, zzz=2, index="skip")
    first, second, third = caught.value.faults
    assert first == "there is no option 'segment_byte_max', did you mean 'segment_bytes_max'?"
    assert second == "there is no option 'zzz'"
    assert third.startswith("index")


def test_options_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="index"):
        Options(index="skip")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("process", Durability("process")),
        ("always", Durability("always")),
        (("interval", 0.05), Durability("interval", seconds=0.05)),
        (("interval", 86_400), Durability("interval", seconds=86_400.0)),
        (("bytes", 4096), Durability("bytes", bytes=4096)),
        (Durability("always"), Durability("always")),
    ],
)
def test_durability_is_normalised(value: Any, expected: Durability) -> None:
    assert parse_durability(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "interval",
        "Always",
        b"always",
        1,
        (),
        ("interval",),
        ("interval", 0),
        ("interval", -1),
        ("interval", math.nan),
        ("interval", math.inf),
        ("interval", 86_401),
        ("interval", True),
        ("interval", "1"),
        ("interval", 1, 2),
        ("bytes", 0),
        ("bytes", 1.0),
        ("bytes", True),
        ("bytes", 2**63),
        ("always", 1),
    ],
    ids=repr,
)
def test_anything_else_is_no_durability(value: Any) -> None:
    with pytest.raises(OptionsError, match="durability must be") as caught:
        parse_durability(value)
    assert repr(value) in str(caught.value)


def test_every_field_has_a_comment_above_it() -> None:
    lines = Path(options_module.__file__).read_text().splitlines()
    for field in dataclasses.fields(Options):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"    {field.name}: "))
        assert lines[at - 1].startswith("    # "), field.name
