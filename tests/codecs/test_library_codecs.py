"""The codecs of other libraries: what comes back, what is read in place, what is refused, what is missing."""

from __future__ import annotations

import gc
import io
import random
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import msgspec
import numpy
import pyarrow
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import flash_kv
from flash_kv import CodecMismatchError, CodecUnavailableError, DecodeError, EncodeError, TypedDB
from flash_kv.codecs import (
    Arrow,
    Codec,
    FlatBuffers,
    Json,
    Lz4,
    Msgpack,
    Msgspec,
    NumPy,
    Pickle,
    Raw,
    Str,
    Zstd,
)
from support.readings import Reading, build

SECRET = b"a secret of 32 bytes, never told"


class User(msgspec.Struct):
    """What a program stores."""

    name: str
    age: int = 0


class Other(msgspec.Struct):
    """What it does not."""

    name: str


def table(rows: int = 100) -> pyarrow.Table:
    return pyarrow.table({"n": list(range(rows)), "text": [f"row {n}" for n in range(rows)]})


def bytes_of(value: Any) -> bytes:
    return bytes(memoryview(value))


# What comes back


OBJECTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary()
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    max_leaves=8,
)


@given(OBJECTS)
def test_msgpack_comes_back(value: Any) -> None:
    assert Msgpack().decode(Msgpack().encode(value)) == value


def test_structs_come_back_as_structs(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", codec=Msgspec(User), key_codec="str") as db:
        db["ann"] = User("Ann", 41)
        assert db["ann"] == User("Ann", 41)
        assert db.codecs == ("msgspec", "str")
        with pytest.raises(EncodeError, match="no User"):
            db["bob"] = Other("Bob")  # type: ignore[assignment]
        db.raw["bob"] = msgspec.msgpack.encode({"name": "Bob", "age": "old"})
        with pytest.raises(DecodeError, match=r"age"):
            db["bob"]
    with flash_kv.open(tmp_path / "many", codec=Msgspec(list[User])) as many:
        many[b"all"] = [User("Ann"), User("Bob", 3)]
        assert many[b"all"][1].age == 3


DTYPES = ["<f8", ">i4", "|b1", "<u2", "<c16", "<M8[ns]", "<U5", "|S3", [("a", "<i4"), ("b", "<f8", (2,))]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (3, 0, 2)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_with_shape_dtype_and_order(dtype: Any, shape: tuple[int, ...], order: Any) -> None:
    rng = numpy.random.default_rng(7)
    kind = numpy.dtype(dtype)
    content = rng.integers(0, 2, (*shape, kind.itemsize), dtype=numpy.uint8)
    array = numpy.ndarray(shape, kind, content.tobytes()).copy(order)
    data = NumPy().encode(array)
    found = NumPy().decode(memoryview(bytes(data)))
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    assert found.tobytes() == array.tobytes()
    assert found.flags.f_contiguous == array.flags.f_contiguous
    assert not found.flags.writeable
    assert (len(data) - array.nbytes) % 64 == 0
    assert numpy.load(io.BytesIO(data)).tobytes() == array.tobytes()


def test_an_array_that_is_a_slice_is_stored_by_its_elements() -> None:
    array = numpy.arange(20).reshape(4, 5)[::2, 1::2]
    assert numpy.array_equal(NumPy().decode(memoryview(bytes(NumPy().encode(array)))), array)


def test_flatbuffers_come_back_and_can_be_stored_again(tmp_path: Path) -> None:
    codec = FlatBuffers(Reading)
    with flash_kv.open(tmp_path / "db", codec=codec, key_codec="int") as db:
        db[1] = codec.root(build(1, "roof", 21.5, [1.0, 2.0, 3.0]))
        db[2] = db[1]
        db[3] = codec.root(bytes(build(3, "", 0.0, [], with_inner=True).Output()))
        found = db[2]
        assert (found.id(), found.name(), found.celsius(), found.sample(2)) == (1, b"roof", 21.5, 3.0)
        inner = db[3].inner()
        assert inner is not None
        assert inner.id() == 7
        with pytest.raises(EncodeError, match="a part of another"):
            db[4] = inner
        with pytest.raises(EncodeError, match="no Reading"):
            db[4] = build(4, "", 0.0, [])
        with pytest.raises(ValueError, match="too few"):
            codec.root(b"")
    with pytest.raises(TypeError, match="GetRootAs"):
        FlatBuffers(dict)


WRAPPED: list[tuple[Callable[[], Codec[Any]], Any]] = [
    (Raw, b"plain bytes" * 100),
    (Raw, "a text"),
    (Str, "text " * 1000),
    (Str, ""),
    (Json, {"a": [1, None]}),
    (Msgpack, {"a": b"1"}),
    (lambda: Msgspec(User), User("Ann", 3)),
    (lambda: Pickle(key=SECRET), {1, 2}),
]


@pytest.mark.parametrize("wrapper", [Zstd, Lz4])
@pytest.mark.parametrize(("inner", "value"), WRAPPED)
def test_compressed_values_come_back(
    tmp_path: Path, wrapper: Any, inner: Callable[[], Any], value: Any
) -> None:
    with flash_kv.open(tmp_path / "db", codec=wrapper(inner())) as db:
        db[b"key"] = value
        expected = value.encode() if inner is Raw and isinstance(value, str) else value
        assert db[b"key"] == expected
        assert db.codecs[0] == f"{inner().name}+{wrapper._suffix}"


@pytest.mark.parametrize("wrapper", [Zstd, Lz4])
def test_compressed_arrays_and_tables_come_back(wrapper: Any) -> None:
    array = numpy.arange(1000).reshape(10, 100)
    codec = wrapper(NumPy())
    data = codec.encode(array)
    assert len(data) < array.nbytes
    assert numpy.array_equal(codec.decode(data), array)
    assert wrapper(Arrow()).decode(wrapper(Arrow()).encode(table())).equals(table())
    reading = wrapper(FlatBuffers(Reading))
    assert reading.decode(reading.encode(FlatBuffers(Reading).root(build(1, "x", 2.0, [])))).id() == 1


def test_a_name_says_all_of_a_compressed_codec(tmp_path: Path) -> None:
    for name in ("json+zstd", "str+lz4", "json+lz4+zstd", "numpy+zstd"):
        with flash_kv.open(tmp_path / name, codec=name) as db:
            assert db.codecs == (name, "raw")
    with flash_kv.open(tmp_path / "json+zstd", codec=Zstd(Json(), level=19)) as db:
        db[b"key"] = "x" * 10_000
        assert len(db.raw[b"key"]) < 100
    with pytest.raises(CodecMismatchError, match=r"json\+zstd"):
        flash_kv.open(tmp_path / "json+zstd", codec="json+lz4")
    with pytest.raises(ValueError, match="level"):
        Zstd(Json(), level=23)


# In place


@pytest.mark.parametrize("io_kind", ["mmap", "file"])
def test_an_array_outlives_its_value_and_its_store(tmp_path: Path, io_kind: Any) -> None:
    with flash_kv.open(tmp_path / "db", codec="numpy", io=io_kind, segment_bytes_max=65536) as db:
        db[b"key"] = numpy.arange(2000)
        array = db[b"key"]
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        db[b"key"] = numpy.zeros(3)
        db.compact()
        assert array.sum() == 1999000
    assert array.sum() == 1999000
    del array
    gc.collect()


def test_large_values_are_not_copied(tmp_path: Path) -> None:
    size = 8 * 1024**2
    codecs: dict[str, tuple[Codec[Any], Any]] = {
        "numpy": (NumPy(), numpy.ones(size // 8)),
        "arrow": (Arrow(), pyarrow.table({"n": numpy.ones(size // 8)})),
        "arrow array": (Arrow(), pyarrow.array(numpy.ones(size // 8))),
        "flatbuffers": (FlatBuffers(Reading), FlatBuffers(Reading).root(build(1, "x" * size, 1.5, []))),
    }
    for name, (codec, value) in codecs.items():
        with flash_kv.open(tmp_path / name, codec=codec, key_codec="str") as db:
            db["key"] = value
            db["key"]
            allocated = pyarrow.total_allocated_bytes()
            tracemalloc.start()
            try:
                snapshot = db.snapshot()
                found = [db["key"], db.get("key"), *db.values(), *db.get_many(["key"]), snapshot["key"]]
                assert tracemalloc.get_traced_memory()[1] < size / 8
            finally:
                tracemalloc.stop()
            snapshot.close()
            assert pyarrow.total_allocated_bytes() - allocated < size / 8
            del found
            gc.collect()


# What is refused


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        ("msgpack", {1}),
        ("msgpack", 2**64),
        ("numpy", [1, 2]),
        ("numpy", numpy.array([object()])),
        ("numpy", numpy.ma.masked_array([1, 2], [True, False])),
        ("numpy", numpy.zeros(1, [("x" * 20_000, "<i4")])),
        ("arrow", {"a": [1]}),
        ("arrow", table(1).replace_schema_metadata({"flash_kv.kind": "array"})),
        ("json+zstd", {1}),
        ("str+lz4", b"bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_has_no_encoding_is_not_stored(tmp_path: Path, codec: str, value: Any) -> None:
    with flash_kv.open(tmp_path / "db", codec=codec) as db:
        with pytest.raises(EncodeError, match=codec.replace("+", r"\+")):
            db[b"key"] = value
        assert len(db) == 0


GOOD: dict[str, tuple[Codec[Any], Any]] = {
    "msgpack": (Msgpack(), [1, {"a": b"b"}]),
    "msgspec": (Msgspec(User), User("Ann", 3)),
    "numpy": (NumPy(), numpy.arange(6).reshape(2, 3)),
    "arrow": (Arrow(), table(5)),
    "arrow array": (Arrow(), pyarrow.array([1, None, 3])),
    "flatbuffers": (FlatBuffers(Reading), FlatBuffers(Reading).root(build(1, "name", 2.5, [1.0]))),
    "json+zstd": (Zstd(Json()), {"a": ["text"] * 50}),
    "json+lz4": (Lz4(Json()), {"a": ["text"] * 50}),
}


@pytest.mark.parametrize("name", GOOD)
def test_damaged_values_are_another_value_or_a_decode_error(
    tmp_path: Path, name: str, rng: random.Random
) -> None:
    codec, value = GOOD[name]
    good = bytes_of(codec.encode(value))
    damaged = [good[:size] for size in range(0, len(good), max(1, len(good) // 64))]
    for _ in range(400):
        copy = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            copy[rng.randrange(len(copy))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        damaged.append(bytes(copy))
    damaged += [rng.randbytes(rng.randrange(200)) for _ in range(100)]
    errors = 0
    with flash_kv.open(tmp_path / "db", codec=codec) as db:
        for data in damaged:
            db.raw[b"key"] = data
            try:
                found = db[b"key"]
            except DecodeError as error:
                assert (error.key, error.codec) == (b"key", codec.name)
                errors += 1
            else:
                if name == "flatbuffers":
                    _read_all(found)
            found = None
    assert errors


def _read_all(reading: Reading) -> None:
    """Each field is a value or an error of FlatBuffers', never beyond the value."""
    for field in (reading.id, reading.name, reading.celsius, reading.inner, lambda: reading.sample(0)):
        try:
            field()
        except (struct.error, TypeError, ValueError, IndexError, OverflowError):
            continue


@pytest.mark.parametrize(
    ("shape", "descr"),
    [((-1, -6), "<i8"), ((2**40, 2**40), "<i8"), ((6,), "|O"), ((2**64,), "|V0"), ((5,), "<i8")],
)
def test_a_forged_header_of_an_array_is_refused(shape: tuple[int, ...], descr: str) -> None:
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(48)
    with pytest.raises(ValueError, match=r"."):
        NumPy().decode(memoryview(data))


def test_a_small_value_that_would_be_huge_is_refused_before_it_is() -> None:
    size = 64 * 1024**2
    bombs: list[tuple[Any, bytes]] = [
        (Zstd(Raw(), size_max=1000), zstandard.ZstdCompressor().compress(bytes(size))),
        (Lz4(Raw(), size_max=1000), lz4.frame.compress(bytes(size), store_size=True)),
        # These say nothing of their size, or lie.
        (Zstd(Raw()), zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))),
        (Lz4(Raw()), lz4.frame.compress(bytes(size), store_size=False)),
        (Zstd(Raw()), _with_size(zstandard.ZstdCompressor().compress(bytes(size)), 1000)),
    ]
    tracemalloc.start()
    try:
        for codec, data in bombs:
            with pytest.raises(Exception, match=r"(?i)more than|size|long|small|decompress"):
                codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()
    with pytest.raises(ValueError, match="before compression"):
        Zstd(Raw(), size_max=1000).encode(bytes(1001))


def _with_size(frame: bytes, size: int) -> bytes:
    """A Zstandard frame with a content size of 4 bytes that states `size`."""
    assert frame[4] >> 6 == 2
    at = 5 if frame[4] & 0x20 else 6
    return frame[:at] + struct.pack("<I", size) + frame[at + 4 :]


# What is missing


MISSING = [
    ("msgpack", "msgpack", lambda: Msgpack()),
    ("msgspec.msgpack", "msgspec", lambda: Msgspec(User)),
    ("numpy", "numpy", lambda: NumPy()),
    ("pyarrow", "arrow", lambda: Arrow()),
    ("flatbuffers", "flatbuffers", lambda: FlatBuffers(Reading)),
    ("zstandard", "zstd", lambda: Zstd(Raw())),
    ("lz4.frame", "lz4", lambda: Lz4(Raw())),
]


@pytest.mark.parametrize(("module", "extra", "make"), MISSING, ids=[extra for _, extra, _ in MISSING])
def test_a_missing_library_is_told_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str, make: Callable[[], Any]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CodecUnavailableError, match=rf"pip install 'flash-kv\[{extra}\]'") as caught:
        make()
    assert caught.value.extra == extra
    assert isinstance(caught.value, ImportError)


def test_a_store_is_not_made_when_its_codec_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(CodecUnavailableError):
        flash_kv.open(tmp_path / "db", codec="msgpack")
    assert not (tmp_path / "db").exists()


def test_no_library_is_imported_by_the_package_itself() -> None:
    import subprocess

    program = "import sys, flash_kv, flash_kv.codecs; flash_kv.codecs.Json(); print(*sys.modules)"
    path = str(Path(flash_kv.__file__).parents[1])
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(
        command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    ).stdout.split()
    libraries = {
        "msgpack",
        "msgspec",
        "numpy",
        "pyarrow",
        "flatbuffers",
        "zstandard",
        "lz4",
        "typing_extensions",
    }
    assert "flash_kv.codecs.arrays" in loaded
    assert libraries.isdisjoint(loaded)


def test_typed_stores_of_library_codecs_are_dicts_too(tmp_path: Path) -> None:
    for name, (codec, value) in GOOD.items():
        db: TypedDB[Any, Any]
        with flash_kv.open(tmp_path / name, codec=codec, key_codec="tuple") as db:
            db[1,] = value
            with db.batch() as batch:
                batch[2,] = value
                assert batch[2,] is not None
            with db.snapshot() as snapshot:
                for found in (db[1,], db.setdefault((1,), value), snapshot[1,], *db.values(), db.pop((1,))):
                    assert bytes_of(codec.encode(found)) == bytes_of(codec.encode(value))
            assert db.popitem()[0] == (2,)
            del found
            gc.collect()


def test_arrays_of_an_aligned_store_lie_where_vector_instructions_want_them(tmp_path: Path) -> None:
    vectors = [numpy.arange(size, dtype="f4") for size in range(1, 40)]
    with flash_kv.open(tmp_path / "db", codec="numpy", key_codec="int", align=64) as db:
        for number, vector in enumerate(vectors):
            db[number * 1000] = vector
        db.compact()
        for number, vector in enumerate(vectors):
            assert db[number * 1000].ctypes.data % 64 == 0
            assert numpy.array_equal(db[number * 1000], vector)
