"""Text, JSON and pickles: what they take, what they refuse, and what is never unpickled."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flash_kv
from flash_kv.codecs import Json, Pickle, Str
from flash_kv.codecs.choice import CODECS
from flash_kv.errors import CodecMismatchError, DecodeError, EncodeError

SECRET = b"a secret of 32 bytes, never told"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
).filter(lambda value: "\\ud" not in ascii(value))


class Trap:
    """Unpickling it is an attack that succeeded."""

    def __reduce__(self) -> Any:
        return exec, ("import sys; sys.flash_kv_trap = True",)


@pytest.fixture
def is_sprung() -> Iterator[Callable[[], bool]]:
    yield lambda: hasattr(sys, "flash_kv_trap")
    if hasattr(sys, "flash_kv_trap"):
        del sys.flash_kv_trap


@given(JSON)
def test_json_comes_back(value: Any) -> None:
    assert Json().decode(Json().encode(value)) == value


@given(st.text())
def test_text_comes_back(value: str) -> None:
    assert Str().decode(Str().encode(value)) == value


def test_json_is_compact_utf_8() -> None:
    assert Json().encode({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        ("json", {1}),
        ("json", float("nan")),
        ("json", [float("inf")]),
        ("json", b"bytes"),
        ("json", "\ud800"),
        ("json", {(1,): 1}),
        ("str", b"bytes"),
        ("str", "\ud800"),
        ("str", None),
    ],
)
def test_what_is_refused_is_not_stored(tmp_path: Path, codec: str, value: Any) -> None:
    with flash_kv.open(tmp_path / "db", codec=codec) as db:
        with pytest.raises(EncodeError, match=codec):
            db[b"key"] = value
        assert len(db) == 0


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("json", b""),
        ("json", b"{"),
        ("json", b"NaN"),
        ("json", b"-Infinity"),
        ("json", b"\xff\xfe1\0"),
        ("json", b"[" * 100_000),
        ("json", b"1" * 5000),
        ("str", b"\xff"),
        ("str", b"\xed\xa0\x80"),
    ],
)
def test_any_other_bytes_are_a_decode_error(tmp_path: Path, codec: str, data: bytes) -> None:
    with flash_kv.open(tmp_path / "db", codec=codec) as db:
        db.raw[b"key"] = data
        with pytest.raises(DecodeError, match=codec):
            db[b"key"]


# Pickle


def test_an_unsigned_pickle_is_taken_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="run whatever program"):
        db = flash_kv.open(tmp_path / "db", codec="pickle")
    with db:
        db[b"key"] = {1, 2j, (3,)}
        assert db[b"key"] == {1, 2j, (3,)}
        assert db.codecs == ("pickle", "raw")


def test_nothing_is_unpickled_unless_it_is_asked_for_by_name(
    tmp_path: Path, is_sprung: Callable[[], bool]
) -> None:
    data = pickle.dumps(Trap())
    for codec in CODECS.keys() - {"pickle"}:
        with flash_kv.open(tmp_path / codec, codec=codec) as db:
            db.raw[b"key"] = data
            try:
                db[b"key"]
            except DecodeError:
                continue
            assert codec == "raw"
    assert not is_sprung()


def test_signed_pickles_come_back_without_a_warning(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", codec=Pickle(key=SECRET)) as db:
        db[b"key"] = {1, 2j}
        assert db[b"key"] == {1, 2j}
        assert db.codecs == ("pickle-hmac", "raw")


def test_a_pickle_that_is_not_signed_with_the_key_is_not_unpickled(
    tmp_path: Path, is_sprung: Callable[[], bool]
) -> None:
    good = Pickle(key=SECRET).encode("good")
    attack = pickle.dumps(Trap())
    with flash_kv.open(tmp_path / "db", codec=Pickle(key=SECRET)) as db:
        forged = [
            b"",
            attack,
            bytes(32) + attack,
            good[:32] + attack,
            Pickle(key=b"another key, as long as the first").encode(Trap()),
            *(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))),
            *(good[:size] for size in range(len(good))),
        ]
        for data in forged:
            db.raw[b"key"] = data
            with pytest.raises(DecodeError, match="has not been unpickled"):
                db[b"key"]
        db.raw[b"key"] = good
        assert db[b"key"] == "good"
    assert not is_sprung()
    # The trap does work.
    Pickle(key=SECRET).decode(Pickle(key=SECRET).encode(Trap()))
    assert is_sprung()


def test_signed_and_unsigned_stores_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", codec=Pickle(key=SECRET)) as db:
        db[b"key"] = 1
    with pytest.warns(UserWarning, match="unsigned"), pytest.raises(CodecMismatchError):
        flash_kv.open(tmp_path / "db", codec="pickle")


@pytest.mark.parametrize("key", [b"", b"short", "a text that is long enough"])
def test_a_key_that_is_none_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="16"):
        Pickle(key=key)


def test_what_does_not_pickle_is_refused(tmp_path: Path) -> None:
    with (
        flash_kv.open(tmp_path / "db", codec=Pickle(key=SECRET)) as db,
        pytest.raises(EncodeError, match="pickle"),
    ):
        db[b"key"] = lambda: None
