"""Tuples as keys: they sort as Python sorts them, come back as they were, and nothing else is taken for one."""

from __future__ import annotations

import math
import struct
import sys
import uuid
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import flash_kv
from flash_kv.codecs import IntKeys, StrKeys, TupleKeys
from flash_kv.errors import DecodeError, EncodeError, FlashKVError, KeySizeError

CODEC = TupleKeys()
UTC = UTC

ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-720, 840))
NUMBERS = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-(2**2000), 2**2000),
    st.floats(allow_nan=False),
    st.floats(-3, 3, allow_nan=False),
    st.builds(lambda number, by: float(number) + by, st.integers(-(2**54), 2**54), st.sampled_from([0, 0.5])),
)
TEXTS = st.one_of(st.text(), st.text("a\0\x01\uffff\U0010ffff", max_size=4))
DATA = st.one_of(
    st.binary(), st.binary(max_size=3), st.lists(st.sampled_from([0, 1, 255]), max_size=4).map(bytes)
)
SIMPLE = st.one_of(
    st.none(),
    NUMBERS,
    TEXTS,
    DATA,
    st.datetimes(),
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES),
    st.uuids(),
)
ELEMENTS = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
TUPLES = st.lists(ELEMENTS, max_size=4).map(tuple)


def place(element: Any) -> Any:
    """What Python compares, behind the place of its kind."""
    if element is None:
        return (0, 0)
    if isinstance(element, (int, float)):
        return (1, element if isinstance(element, float) and math.isinf(element) else Fraction(element))
    if isinstance(element, bytes):
        return (2, element)
    if isinstance(element, str):
        return (3, element)
    if isinstance(element, datetime):
        return (4 if element.tzinfo is None else 5, element)
    if isinstance(element, uuid.UUID):
        return (6, element)
    return (7, tuple(map(place, element)))


def sign(a: Any, b: Any) -> int:
    return int(a > b) - int(a < b)


@given(TUPLES, TUPLES)
@example((0.5,), (0,))
@example((-0.5,), (0,))
@example((2**53 + 1,), (float(2**53),))
@example(("a",), ("a\0",))
@example(("a", None), ("a\0",))
@example((("a",),), (("a", None),))
@example((b"\xff",), ("",))
@example((), (None,))
def test_the_order_of_the_bytes_is_that_of_the_tuples(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    expected = sign(tuple(map(place, a)), tuple(map(place, b)))
    assert sign(CODEC.encode(a), CODEC.encode(b)) == expected
    assert (CODEC.encode(a) == CODEC.encode(b)) == (a == b)


@given(TUPLES, TUPLES)
def test_where_python_has_an_order_it_is_that_one(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    try:
        expected = a < b
    except TypeError:
        return
    assert (CODEC.encode(a) < CODEC.encode(b)) == expected


@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_numbers_sort_by_their_exact_value(numbers: list[Any]) -> None:
    by_bytes = sorted(numbers, key=lambda number: CODEC.encode((number,)))
    assert all(a <= b for a, b in pairwise(by_bytes))


def _neighbours() -> list[Any]:
    found: list[Any] = [
        0,
        0.0,
        -0.0,
        True,
        5e-324,
        -5e-324,
        sys.float_info.min,
        sys.float_info.max,
        math.inf,
        -math.inf,
    ]
    for exponent in (1, 7, 8, 52, 53, 54, 63, 64, 119 * 8 - 1, 119 * 8, 119 * 8 + 1, 255 * 8, 256 * 8, 1023):
        for near, side in product((-1, 0, 1), (-1, 1)):
            found.append(side * (2**exponent + near))
            if exponent <= 1023:
                found += [side * 2.0**exponent, side * math.nextafter(2.0**exponent, 0.0)]
    return found


def test_numbers_at_every_border_of_the_encoding() -> None:
    numbers = _neighbours()
    for a, b in product(numbers, numbers):
        assert sign(CODEC.encode((a,)), CODEC.encode((b,))) == sign(a, b), (a, b)
    for number in numbers:
        assert CODEC.decode(CODEC.encode((number,))) == (number,)


@given(TUPLES)
def test_what_is_encoded_is_decoded(key: tuple[Any, ...]) -> None:
    found = CODEC.decode(CODEC.encode(key))
    assert found == key
    assert hash(found) == hash(key)


def test_equal_numbers_are_one_key_and_it_is_the_int() -> None:
    for number in (1, 1.0, True):
        assert CODEC.encode((number,)) == CODEC.encode((1,))
        assert type(CODEC.decode(CODEC.encode((number,)))[0]) is int
    assert CODEC.encode((-0.0,)) == CODEC.encode((0,))
    assert type(CODEC.decode(CODEC.encode((1.5,)))[0]) is float
    assert CODEC.decode(CODEC.encode((1e300,))) == (int(1e300),)


def test_aware_datetimes_are_one_key_when_they_are_one_instant() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    same = noon.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert CODEC.encode((same,)) == CODEC.encode((noon,))
    assert CODEC.decode(CODEC.encode((same,)))[0].tzinfo is UTC
    assert CODEC.encode((noon.replace(tzinfo=None),)) < CODEC.encode((datetime(1, 1, 1, tzinfo=UTC),))


def test_the_hour_that_comes_twice() -> None:
    # Without a zone `fold` says nothing, and Python's == does not look at it.
    first, second = datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 2, 30, fold=1)
    assert first == second
    assert CODEC.encode((first,)) == CODEC.encode((second,))


@given(TUPLES, TUPLES)
@example((), ())
@example(("a",), ("a\0b",))
@example((1,), (1.5,))
@example((b"",), (b"\0",))
@example(((1,),), ((1, 2),))
def test_the_range_of_a_prefix_has_the_tuples_that_begin_with_it(
    a: tuple[Any, ...], b: tuple[Any, ...]
) -> None:
    for prefix, key in ((a, b), (a, a + b), (b, b[:1]), (a[:1], a)):
        low, high = CODEC.prefix_range(prefix)
        assert high is not None
        assert (low <= CODEC.encode(key) < high or key == prefix == ()) == (key[: len(prefix)] == prefix)


# What has no encoding


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("user", r"\(element,\)"),
        (["user"], "no tuple"),
        ((math.nan,), "NaN"),
        (("\ud800",), "surrogates"),
        (([1],), "list"),
        ((1j,), "complex"),
        ((datetime(2026, 1, 1).date(),), "date"),
        ((datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),), "years 1 to 9999"),
        ((datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))),), "years 1 to 9999"),
        ((bytearray(b"a"),), "bytearray"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_has_no_place_in_the_order_is_refused(tmp_path: Path, key: Any, reason: str) -> None:
    with flash_kv.open(tmp_path / "db", key_codec="tuple") as db:
        with pytest.raises(EncodeError, match=reason) as caught:
            db[key] = b"value"
        assert (caught.value.what, caught.value.codec) == ("key", "tuple")
        assert isinstance(caught.value.__cause__, (TypeError, ValueError))
        assert len(db) == 0


def test_numbers_have_an_end_far_beyond_that_of_keys() -> None:
    assert CODEC.decode(CODEC.encode((1 << 8 * 65_536,))) == (1 << 8 * 65_536,)
    with pytest.raises(ValueError, match="too large"):
        CODEC.encode((1 << 8 * 2**24,))


def test_nesting_has_an_end() -> None:
    deep: Any = ()
    for _ in range(64):
        deep = (deep,)
    assert CODEC.decode(CODEC.encode(deep)) == deep
    with pytest.raises(ValueError, match="64 deep"):
        CODEC.encode((deep,))
    with pytest.raises(ValueError, match="64 deep"):
        CODEC.decode(b"\x50" * 60_000)


def test_a_tuple_too_long_for_a_key_is_the_stores_error(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", key_codec="tuple") as db, pytest.raises(KeySizeError):
        db["x" * 65_536,] = b"value"


# What is no encoding of a tuple


@given(st.binary(max_size=40))
def test_any_bytes_are_a_key_of_one_encoding_or_an_error(data: bytes) -> None:
    for codec in (CODEC, IntKeys(), StrKeys()):
        try:
            key: Any = codec.decode(data)  # type: ignore[attr-defined]
        except ValueError:
            continue
        assert codec.encode(key) == data  # type: ignore[attr-defined]


@given(TUPLES, st.integers(0, 2**32), st.binary(min_size=1, max_size=2))
def test_a_damaged_key_is_another_key_or_an_error(key: tuple[Any, ...], seed: int, put: bytes) -> None:
    data = CODEC.encode(key)
    at = seed % len(data)
    damaged = data[:at] + put + data[at + 1 :]
    for changed in (damaged, data[:at]):
        try:
            found = CODEC.decode(changed)
        except ValueError:
            continue
        assert CODEC.encode(found) == changed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x20",
        b"\x20\x82\x00\x01\x80",  # a leading zero
        b"\x20\xf8\x01\x05\x80",  # a short number written long
        b"\x20\xf9\x00\x80" + b"\1" * 128 + b"\x80",  # its size with a leading zero
        b"\x20\xfb\x01\x01\x01\x01",  # a size of 16 MiB or more
        b"\x20\xff",
        b"\x20\x81\x01",
        b"\x20\x81\x01\x82",
        b"\x20\x81\x01\x81" + struct.pack(">d", 1.0),  # a whole number with a fraction
        b"\x20\x81\x01\x81" + struct.pack(">d", 2.5),  # another's fraction
        b"\x20\x81\x01\x81" + struct.pack(">d", math.nan),
        b"\x20\x80\x7f" + struct.pack(">d", 0.5),
        b"\x30\xff\x00",
        b"\x30a",
        b"\x30a\0\xff",
        b"\x38" + b"\xff" * 8,
        b"\x40\0",
        b"\x48" + b"\0" * 15,
        b"\x50\x02",
        b"\x02\x01",
        b"\x01\x01",
        b"\xff",
    ],
    ids=bytes.hex,
)
def test_what_no_tuple_has_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        CODEC.decode(data)
    if not data:
        return
    with flash_kv.open(tmp_path / "db", key_codec="tuple") as db:
        db.raw[data] = b"value"
        for read in (lambda: list(db), lambda: list(db.items()), db.popitem):
            with pytest.raises(DecodeError, match="'tuple'") as caught:
                read()
            assert isinstance(caught.value, FlashKVError)
            assert (caught.value.what, caught.value.key) == ("key", data)
        assert dict(db.raw) == {data: b"value"}


# In a store


def test_scans_by_a_part_of_the_tuple(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", codec="str", key_codec="tuple") as db:
        for name, number in product(("user", "user\0", "usher"), (-1, 0.5, 2, 10, 2**70)):
            db[name, number] = f"{name} {number}"
        db["user",] = "itself"
        db[()] = "nothing"
        assert list(db.keys(prefix=("user",))) == [("user",)] + [("user", n) for n in (-1, 0.5, 2, 10, 2**70)]
        assert list(db.keys(prefix=("user", 2))) == [("user", 2)]
        assert list(db.keys(prefix=("user",), start=("user", 0), stop=("user", 10))) == [
            ("user", 0.5),
            ("user", 2),
        ]
        assert list(db.keys(start=("user\0", 10), stop=("usher", 0)))[:2] == [
            ("user\0", 10),
            ("user\0", 2**70),
        ]
        assert next(iter(db.items(reverse=True))) == (("usher", 2**70), f"usher {2**70}")
        assert len(db.keys(prefix=())) == len(db) == 17
        assert next(iter(db)) == ()
        assert db.delete_range(prefix=("user",)) == 6
        assert not [key for key in db if key[:1] == ("user",)]
        assert len(db) == 11


@given(st.dictionaries(TUPLES, st.text(max_size=3), max_size=12), TUPLES)
def test_a_store_iterates_in_the_order_of_python(
    tmp_path_factory: Any, content: dict[Any, str], prefix: Any
) -> None:
    path = tmp_path_factory.mktemp("stores") / "db"
    with flash_kv.open(path, codec="str", key_codec="tuple", reserve_bytes=0) as db:
        db.update(content)
        in_order = sorted(content, key=lambda key: tuple(map(place, key)))
        assert list(db) == in_order
        assert list(db.items(reverse=True)) == [(key, content[key]) for key in reversed(in_order)]
        assert list(db.keys(prefix=prefix)) == [key for key in in_order if key[: len(prefix)] == prefix]
        for key in content:
            assert db[key] == content[key]


# Keys of one part


@given(st.lists(st.one_of(st.integers(), st.integers(-(2**2000), 2**2000))))
def test_whole_numbers_sort_and_come_back(numbers: list[int]) -> None:
    codec = IntKeys()
    assert [codec.decode(codec.encode(number)) for number in numbers] == numbers
    assert sorted(numbers, key=codec.encode) == sorted(numbers)


@given(st.lists(st.text()))
def test_texts_sort_and_come_back(texts: list[str]) -> None:
    codec = StrKeys()
    assert [codec.decode(codec.encode(text)) for text in texts] == texts
    assert sorted(texts, key=codec.encode) == sorted(texts)


def test_keys_of_text_and_of_numbers_in_a_store(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "texts", codec="str", key_codec="str") as texts:
        texts.update(apple="1", apricot="2", banana="3")
        assert list(texts.keys(prefix="ap")) == ["apple", "apricot"]
        with pytest.raises(EncodeError, match="no str"):
            texts[b"apple"]  # type: ignore[index]
    with flash_kv.open(tmp_path / "numbers", codec="str", key_codec="int") as numbers:
        numbers.update({n: str(n) for n in (300, -5, 0, 7)})
        assert list(numbers.items(start=0)) == [(0, "0"), (7, "7"), (300, "300")]
        with pytest.raises(EncodeError, match="start and stop"):
            numbers.keys(prefix=3)
        with pytest.raises(EncodeError, match="no int"):
            numbers["7"]  # type: ignore[index]
