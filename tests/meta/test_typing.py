"""What a user's type checker sees: mypy finds the types of an installed flash_kv and takes what is right only."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import pytest

from flash_kv import _compiled

pytestmark = pytest.mark.lint

PACKAGE = Path(_compiled.__file__).parent
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))

RIGHT = """
from collections.abc import MutableMapping, Mapping
from pathlib import Path
from typing import Any, assert_type

import numpy

import flash_kv

with flash_kv.open(Path("db"), index="hash", durability=("interval", 0.5), segment_bytes_max=65536) as db:
    assert_type(db, flash_kv.DB)
    as_mapping: MutableMapping[bytes, bytes] = db

    db[b"key"] = b"value"
    db["text"] = "text"
    db.put(bytearray(b"key"), memoryview(b"value"))
    assert_type(db.get(b"key"), bytes | None)
    assert_type(db.get("key", b""), bytes)
    assert_type(db.get(memoryview(b"key"), 0), bytes | int)
    assert_type(db["key"], bytes)
    assert_type(db.pop("key"), bytes)
    assert_type(db.pop("key", None), bytes | None)
    assert_type(db.setdefault("key", "value"), bytes)
    assert_type(db.popitem(), tuple[bytes, bytes])
    assert_type(db.delete("key"), bool)
    assert_type(b"key" in db, bool)

    db.put_many({"a": b"1", "b": "2"})
    db.put_many((f"{n}", b"") for n in range(3))
    db.update({b"a": b"1"}, b="2")
    assert_type(db.get_many(["a", b"b"]), list[bytes | None])
    db.put_many(["a", b"b"], ["1", bytearray(b"2")], sorted=True)
    db.put_many(numpy.zeros(3, "V8"), numpy.zeros((3, 4)))
    assert_type(db.contains_many(["a", b"b"]), list[bool])
    assert_type(db.view("a"), memoryview | None)
    assert_type(db.view("a", b"", recheck=True), memoryview | bytes)
    assert_type(dict(db.items(view=True, start="a")), dict[bytes, memoryview])
    assert_type(db.delete_many(["a"]), int)
    assert_type(db.delete_range(prefix="user/"), int)

    for key in db:
        assert_type(key, bytes)
    for key, value in db.items(prefix=b"a", reverse=True):
        assert_type((key, value), tuple[bytes, bytes])
    assert_type(list(db.values(start="a", stop=b"b")), list[bytes])

    with db.batch(durability="always") as batch:
        assert_type(batch, flash_kv.WriteBatch)
        batch["key"] = b"value"
        batch.delete("other")
        assert_type(batch.get("key"), bytes | None)

    with db.snapshot() as snapshot:
        read_only: Mapping[bytes, bytes] = snapshot
        assert_type(snapshot["key"], bytes)
        assert_type(snapshot.view("key"), memoryview | None)
        assert_type(list(snapshot.values(view=True)), list[memoryview])
        assert_type(snapshot.get("key", None), bytes | None)
        assert_type(snapshot.sequence, int)


    def show(progress: flash_kv.CompactionProgress) -> bool:
        return progress.bytes_done < 10


    assert_type(db.compact(progress=show).bytes_reclaimed, int)
    assert_type(db.stats().segment_stats[0].dead_ratio, float)
    assert_type(db.backup("copy"), flash_kv.BackupReport)
    assert_type(db.verify().damages, tuple[flash_kv.Damage, ...])
    assert_type(db.path, Path)
    assert_type(db.options, flash_kv.Options)

with flash_kv.open("db", codec="str", key_codec="tuple", index="btree", create=True) as texts:
    assert_type(texts, flash_kv.TypedDB[tuple[Any, ...], str])
    as_typed_mapping: MutableMapping[tuple[Any, ...], str] = texts
    texts["user", 42] = "text"
    assert_type(texts["user", 42], str)
    assert_type(texts.get(("user", 42)), str | None)
    assert_type(texts.get(("user", 42), 0), str | int)
    assert_type(texts.pop(("user",), None), str | None)
    assert_type(texts.popitem(), tuple[tuple[Any, ...], str])
    assert_type(texts.get_many([("user",)]), list[str | None])
    assert_type(texts.compact().bytes_reclaimed, int)
    assert_type(texts.raw, flash_kv.DB)
    for parts, text in texts.items(prefix=("user",), reverse=True):
        assert_type(parts, tuple[Any, ...])
        assert_type(text, str)
    with texts.batch() as typed_batch, texts.snapshot() as typed_snapshot:
        assert_type(typed_batch, flash_kv.TypedBatch[tuple[Any, ...], str])
        typed_batch["user",] = "text"
        assert_type(typed_snapshot["user",], str)

assert_type(flash_kv.open("db", codec="str"), flash_kv.TypedDB[bytes, str])
assert_type(flash_kv.open("db", codec="json", key_codec="str"), flash_kv.TypedDB[str, Any])
assert_type(flash_kv.open("db", codec="json+zstd", key_codec="int"), flash_kv.TypedDB[int, Any])
assert_type(flash_kv.open("db", key_codec="int"), flash_kv.TypedDB[int, bytes])
assert_type(flash_kv.open("db", codec="raw"), flash_kv.TypedDB[bytes, bytes])


class Celsius(flash_kv.Codec[float]):
    name = "celsius"

    def encode(self, value: float) -> bytes:
        return f"{value}".encode()

    def decode(self, data: bytes) -> float:
        return float(data)


assert_type(flash_kv.open("db", codec=Celsius(), key_codec="str"), flash_kv.TypedDB[str, float])
own_keys = flash_kv.open("db", codec=Celsius(), key_codec=flash_kv.codecs.IntKeys())
assert_type(own_keys, flash_kv.TypedDB[int, float])

assert_type(flash_kv.verify("db"), flash_kv.VerifyReport)
assert_type(flash_kv.repair("db", "new"), flash_kv.RepairReport)
options = flash_kv.Options(index="btree", compaction_window=(22, 6))

try:
    flash_kv.open("db", read_only=True)
except flash_kv.LockedError as error:
    assert_type(error.holder_pid, int | None)
    as_os_error: OSError = error
"""

# A line that ends in "# wrong" must be an error, all others must not.
WRONG = """
import flash_kv

flash_kv.open("db", index="tree")  # wrong
flash_kv.open("db", durability="sometimes")  # wrong
db = flash_kv.open("db", io="mmap", durability=("bytes", 4096))
db.put(1, b"value")  # wrong
db.put(b"key", 1.5)  # wrong
db["key"] = None  # wrong
length: int = len(db.get("key"))  # wrong
number: int = db["key"]  # wrong
db.put_many([b"key", b"value"])  # wrong
db.keys("a")  # wrong
db.keys(start="a")
db.snapshot()["key"] = b""  # wrong
flash_kv.Options("btree")  # wrong
flash_kv.Options(segment_bytes=1)  # wrong
db.stats().keys = 1  # wrong
db.compact(progress=3)  # wrong
flash_kv.StorageFullError  # wrong

texts = flash_kv.open("db", codec="str", key_codec="tuple")
texts["user"] = "text"  # wrong
texts["user",] = b"bytes"  # wrong
texts["user",] = "text"
size: int = texts["user", 1]  # wrong
texts.items(prefix="user")  # wrong
texts.batch()["user",] = 1  # wrong
texts.snapshot()["user",] = "text"  # wrong
texts.compact(progress=3)  # wrong
flash_kv.open("db", codec=3)  # wrong
flash_kv.open("db", key_codec="floats")  # wrong
flash_kv.codecs.Pickle(key="text")  # wrong


class Half(flash_kv.Codec[int]):
    name = "half"

    def encode(self, value: int) -> bytes:
        return b"%d" % value


Half()  # wrong
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment where the package is installed, and so typed only if it says it is."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True, with_pip=False)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "numpy").symlink_to(Path(numpy.__file__).parent)
    (site_packages / "flash_kv.pth").write_text(f"{PACKAGE.parent}\n")
    return environment / "bin" / "python"


def _check(program: str, python: Path, folder: Path) -> str:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    command += ["--config-file", "", "--cache-dir", str(python.parent / "cache")]
    command += ["--python-executable", str(python), "program.py"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


def test_a_program_that_is_right_passes_a_strict_check(python: Path, tmp_path: Path) -> None:
    assert _check(RIGHT, python, tmp_path) == ""


def test_a_program_that_is_wrong_is_told_where(python: Path, tmp_path: Path) -> None:
    output = _check(WRONG, python, tmp_path)
    found = {int(line) for line in re.findall(r"^program\.py:(\d+): error:", output, re.MULTILINE)}
    lines = WRONG.splitlines()
    assert found == {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}, output


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_passes_a_strict_check(example: Path, python: Path, tmp_path: Path) -> None:
    assert _check(example.read_text("utf-8"), python, tmp_path) == ""
