"""dump: every format loads back, files appear whole, and no key leads out of a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALL_BYTES = bytes(range(256))
AWKWARD = {
    b"plain": b"text",
    b"\xff\xfe": ALL_BYTES,
    ALL_BYTES: b"",
    "ключ\u2028\u0085".encode(): "значение\r\n\r \x00".encode(),
    b"\n": b"\r\n",
    b"quote\",'\\": b'a,"b"\tc',
    b"\0": b"\0\0",
    b"long": b"x" * 300_000,
}
TEXT = {key: value for key, value in AWKWARD.items() if b"\xff" not in key + value}


@pytest.mark.parametrize("kind", ["jsonl", "binary"])
def test_a_dump_loads_back_byte_for_byte(run, fill, contents, tmp_path: Path, kind: str) -> None:
    fill(AWKWARD)
    assert run("dump", "db", "out", "--format", kind).code == 0
    assert run("load", "copy", "out", "--format", kind).code == 0
    os.rename(tmp_path / "db", tmp_path / "first")
    os.rename(tmp_path / "copy", tmp_path / "db")
    assert contents() == AWKWARD


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_table_of_text_loads_back_byte_for_byte(run, fill, tmp_path: Path, kind: str) -> None:
    fill(TEXT)
    dumped = run("dump", "db", "--format", kind).stdout
    run("load", "copy", "--format", kind, input=dumped)
    assert run("dump", "copy", "--format", "binary").stdout == run("dump", "db", "--format", "binary").stdout


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_table_of_base64_fields_loads_back_byte_for_byte(run, fill, kind: str) -> None:
    fill(AWKWARD)
    dumped = run("dump", "db", "--format", kind, "--base64-fields").stdout
    run("load", "copy", "--format", kind, input=dumped)
    assert run("dump", "copy", "--format", "binary").stdout == run("dump", "db", "--format", "binary").stdout


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=40), max_size=8),
    kind=st.sampled_from(["jsonl", "csv", "tsv", "binary"]),
)
def test_any_records_survive_any_format(run, tmp_path_factory, records, kind) -> None:
    import flash_kv

    folder = tmp_path_factory.mktemp("any")
    with flash_kv.open(folder / "db", segment_bytes_max=65536) as db:
        db.put_many(records.items())
    fields = ("--base64-fields",) if kind in ("csv", "tsv") else ()
    dumped = run("dump", folder / "db", "--format", kind, *fields).stdout
    assert (
        run("load", folder / "copy", "--format", kind, "--segment-bytes-max", "64KiB", input=dumped).code == 0
    )
    with flash_kv.open(folder / "copy") as db:
        assert dict(db.items()) == records


def test_a_table_refuses_bytes_that_are_not_utf8_and_says_what_to_do(run, fill) -> None:
    fill({b"k": b"\xff"})
    outcome = run("dump", "db", "--format", "csv")
    assert outcome.code == 4
    assert outcome.stderr.startswith("error: the record of key k is not UTF-8 text: add --base64-fields")


def test_nul_delimited_output_refuses_a_nul(run, fill) -> None:
    fill({b"k": b"\0"})
    outcome = run("dump", "db", "--format", "nul")
    assert outcome.code == 4
    assert "holds a NUL byte: choose --format binary or jsonl" in outcome.stderr


def test_a_dump_takes_a_range_an_order_and_a_limit(run, fill) -> None:
    fill({b"a1": b"", b"a2": b"", b"a3": b"", b"b": b""})
    outcome = run("dump", "db", "--format", "nul", "--prefix", "a", "--reverse", "--limit", "2")
    assert outcome.stdout == b"a3\0\0a2\0\0"


def test_the_format_is_guessed_from_the_name(run, fill, tmp_path: Path) -> None:
    fill({b"k": b"v"})
    run("dump", "db", "out.tsv")
    assert (tmp_path / "out.tsv").read_bytes() == b"key\tvalue\r\nk\tv\r\n"


def test_an_existing_file_is_replaced_only_by_force(run, fill, tmp_path: Path) -> None:
    fill({b"k": b"v"})
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"precious")
    assert run("dump", "db", "out.jsonl").code == 2
    assert out.read_bytes() == b"precious"
    assert run("dump", "db", "out.jsonl", "--force").code == 0
    assert out.read_bytes() == b'{"key": "k", "value": "v"}\n'


def test_a_dump_into_a_directory_that_is_not_there_names_it(run, fill) -> None:
    fill({b"k": b"v"})
    outcome = run("dump", "db", "absent/out.jsonl")
    assert (outcome.code, outcome.stderr) == (
        2,
        "error: absent/out.jsonl: there is no directory absent: make it first\n",
    )


def test_a_dump_that_fails_leaves_nothing_behind_and_what_was_there_alone(run, fill, tmp_path: Path) -> None:
    fill({b"a": b"text", b"b": b"\xff"})
    (tmp_path / "out.csv").write_bytes(b"precious")
    assert run("dump", "db", "out.csv", "--force").code == 4
    assert (tmp_path / "out.csv").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "out.csv"]


def test_a_tree_dump_of_a_loaded_tree_is_the_same_tree(run, tmp_path: Path) -> None:
    files = {"a/b/c": ALL_BYTES, "empty": b"", "a/d": b"text", "name with \\ and ü": b"x"}
    for name, content in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    run("load", "db", "tree")
    assert run("dump", "db", "out", "--format", "tree").code == 0
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == files


@pytest.mark.parametrize(
    "key",
    [b"../escape", b"a/../../escape", b"/abs", b"a//b", b"a/", b".", b"..", b"a/./b", b"nul\0", b"x" * 256],
)
def test_a_key_that_is_no_safe_path_is_refused(run, fill, tmp_path: Path, key: bytes) -> None:
    fill({key: b"evil"})
    outcome = run("dump", "db", "deep/out", "--format", "tree")
    assert outcome.code == 4
    assert "is no safe path below a directory" in outcome.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "db" not in path.parents]
    assert written == []


def test_a_key_that_is_a_file_and_a_directory_is_refused(run, fill) -> None:
    fill({b"a": b"", b"a/b": b""})
    outcome = run("dump", "db", "out", "--format", "tree")
    assert outcome.code == 4
    assert "is both a file and a directory" in outcome.stderr


def test_a_tree_is_dumped_into_a_new_or_empty_directory_only(run, fill, tmp_path: Path) -> None:
    fill({b"link/file": b"x"})
    (tmp_path / "out").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "outside")
    assert run("dump", "db", "out").code == 2
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_dump_through_a_pipe_loads_at_the_other_end(start, run, fill, contents) -> None:
    fill(AWKWARD)
    dumping = start("dump", "db")
    loading = start("load", "copy", stdin=dumping.stdout)
    dumping.stdout.close()
    loading.communicate()
    dumping.stderr.close()
    dumping.stdin.close()
    assert (dumping.wait(), loading.returncode) == (0, 0)
    assert run("dump", "copy", "--format", "binary").stdout == run("dump", "db", "--format", "binary").stdout
