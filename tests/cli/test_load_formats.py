"""load: what each format means."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

ALL_BYTES = bytes(range(256))


def test_json_lines_of_keys_and_values(run, contents) -> None:
    rows = b'{"key": "a", "value": "1"}\n\n{"value_b64": "AP8=", "key_b64": "/w=="}\r\n'
    assert run("load", "db", input=rows).code == 0
    assert contents() == {b"a": b"1", b"\xff": b"\x00\xff"}


def test_a_json_value_that_is_no_string_is_stored_as_its_json_text(run, contents) -> None:
    run("load", "db", input='{"key": 7, "value": {"ä": [1, null]}}\n'.encode())
    assert contents() == {b"7": '{"ä":[1,null]}'.encode()}


def test_json_fields_are_chosen_by_name(run, contents) -> None:
    rows = b'{"id": "x", "name": "n", "rest": 1}'
    assert run("load", "db", "-", "--key", "id", "--value", "name", input=rows).code == 0
    assert contents() == {b"x": b"n"}


def test_with_a_key_field_alone_the_whole_object_is_the_value_to_the_byte(run, contents) -> None:
    row = b'{ "id":"x",  "n": 1.50 }'
    run("load", "db", "--key", "id", input=row + b"\n")
    assert contents() == {b"x": row}


def test_a_byte_order_mark_is_no_part_of_the_first_row(run, contents) -> None:
    run("load", "db", input=b'\xef\xbb\xbf{"key": "a", "value": "1"}')
    assert contents() == {b"a": b"1"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b"[1]", "line 1: a JSON object is expected, not list"),
        (b"{", "line 1: not JSON: "),
        (b'{"value": "v"}', "line 1: no field 'key' or 'key_b64'"),
        (b'{"key": "k"}', "line 1: no field 'value' or 'value_b64'"),
        (b'{"key": "k", "value": "v", "ttl": 5}', "line 1: ttl would be lost; choose fields with --key"),
        (
            b'{"key": "k", "key_b64": "aw==", "value": ""}',
            "line 1: both spellings of one field would be lost",
        ),
        (b'{"key": null, "value": "v"}', "line 1: a key must be a string or a whole number"),
        (b'{"key": "", "value": "v"}', "line 1: a key must have 1 to 65536 bytes, this one has 0"),
        (b'{"key_b64": "?", "value": "v"}', "line 1: 'key_b64' is not base64"),
        (b'{"key": "\\ud800", "value": "v"}', "line 1: "),
        (b'{"key": "\xff", "value": "v"}', "line 1: "),
        (b"[" * 100_000, "line 1: "),
    ],
)
def test_a_bad_json_row_is_named_by_its_line(run, rows: bytes, said: str) -> None:
    outcome = run("load", "db", input=rows)
    assert outcome.code == 4
    assert outcome.stderr.splitlines()[-1].startswith("error: " + said)


def test_the_longest_key_is_stored_and_a_longer_one_is_a_bad_row(run, contents) -> None:
    rows = b'{"key": "%s", "value": "v"}\n'
    assert run("load", "db", input=rows % (b"k" * 65536)).code == 0
    assert [len(key) for key in contents()] == [65536]
    outcome = run("load", "db", input=rows % (b"k" * 65537))
    assert outcome.code == 4
    assert "line 1: a key must have 1 to 65536 bytes, this one has 65537" in outcome.stderr


def test_csv_with_a_header_of_key_and_value(run, tmp_path: Path, contents) -> None:
    (tmp_path / "in.csv").write_bytes(b'key,value\r\na,"x, ""y""\n\r\nz"\r\nb,\r\n')
    assert run("load", "db", "in.csv").code == 0
    assert contents() == {b"a": b'x, "y"\n\r\nz', b"b": b""}


def test_csv_columns_by_name_and_by_number(run, contents) -> None:
    rows = b"id,name,age\n1,ann,5\n"
    run("load", "db", "--format", "csv", "--key", "name", "--value", "3", input=rows)
    assert contents() == {b"ann": b"5"}


def test_csv_with_a_key_column_alone_stores_the_row_as_json(run, contents) -> None:
    run("load", "db", "--format", "csv", "--key", "id", input=b"id,name\n1,ann\n")
    assert contents() == {b"1": b'{"id":"1","name":"ann"}'}


def test_tsv_without_a_header_takes_the_first_two_columns(run, tmp_path: Path, contents) -> None:
    (tmp_path / "in.tsv").write_bytes(b"a\t1\nb\t2\tmore\n")
    run("load", "db", "in.tsv", "--no-header")
    assert contents() == {b"a": b"1", b"b": b"2"}


def test_csv_bytes_that_are_not_utf8_pass_unchanged(run, contents) -> None:
    run("load", "db", "--format", "csv", "--no-header", input=b"\xe9t\xe9,\xff\n")
    assert contents() == {b"\xe9t\xe9": b"\xff"}


def test_csv_base64_columns_are_decoded(run, contents) -> None:
    run("load", "db", "--format", "csv", input=b"value_b64,key\nAP8=,k\n")
    assert contents() == {b"k": b"\x00\xff"}


@pytest.mark.parametrize(
    ("arguments", "rows", "said"),
    [
        ((), b"id,name\n1,2\n", "line 1: column 'id' would be lost; choose columns with --key and --value"),
        (("--key", "no"), b"id,name\n1,2\n", "line 1: no column 'no'; there are 'id', 'name'"),
        (("--key", "3"), b"id,name\n1,2\n", "line 1: no column '3'"),
        (("--no-header", "--key", "id"), b"1,2\n", "without a header --key must be a column's number"),
        ((), b"key,value\na,1\nb\n", "line 3: 1 columns, column 2 is missing"),
        ((), b'key,value\na,"1\n2"\nb,"x"y\n', "line 4: not a row of this format"),
        ((), b'key,value\na,"1\n', "line 2: not a row of this format"),
        (("--key", "key"), b"key,value\na\n", "line 2: 1 columns, the header has 2"),
        ((), b"key_b64,value\n?,1\n", "line 2: 'key_b64' is not base64"),
    ],
)
def test_a_bad_csv_is_named_by_its_line(run, arguments, rows: bytes, said: str) -> None:
    outcome = run("load", "db", "--format", "csv", *arguments, input=rows)
    assert outcome.code == 4
    assert outcome.stderr.splitlines()[-1].startswith("error: " + said)


def test_an_empty_csv_holds_no_records(run) -> None:
    assert run("load", "db", "--format", "csv", input=b"").code == 0


def test_nul_delimited_pairs(run, contents) -> None:
    value = b"x" * 700_000
    run("load", "db", "--format", "nul", input=b"a\x001\x00\xff\n\x00" + value + b"\x00b\x00\x00")
    assert contents() == {b"a": b"1", b"\xff\n": value, b"b": b""}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b"a\x001\x00b\x00", "record 2: the input ends between a key and its value (offset 4)"),
        (b"a\x001\x00b", "record 2: the input ends without the NUL that ends a field (offset 4)"),
        (b"a\x001", "record 1: the input ends without the NUL that ends a field (offset 0)"),
    ],
)
def test_nul_delimited_input_that_is_cut_is_named_by_its_place(run, rows: bytes, said: str) -> None:
    outcome = run("load", "db", "--format", "nul", input=rows)
    assert outcome.code == 4
    assert outcome.stderr.splitlines()[-1] == "error: " + said


def frame(key: bytes, value: bytes) -> bytes:
    return struct.pack("<II", len(key), len(value)) + key + value


def test_length_delimited_pairs_hold_any_bytes(run, tmp_path: Path, contents) -> None:
    (tmp_path / "in.bin").write_bytes(frame(ALL_BYTES, ALL_BYTES * 3) + frame(b"\0", b""))
    assert run("load", "db", "in.bin").code == 0
    assert contents() == {ALL_BYTES: ALL_BYTES * 3, b"\0": b""}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (frame(b"k", b"v") + b"\1\0", "record 2: the input ends inside the sizes of a record (offset 10)"),
        (frame(b"k", b"v")[:-1], "record 1: the input ends inside a record (offset 0)"),
        (b"\xff" * 8, "record 1: a record of 4294967295 + 4294967295 bytes"),
    ],
)
def test_length_delimited_input_that_is_cut_or_foreign_stops_even_when_skipping(run, rows, said) -> None:
    outcome = run("load", "db", "--format", "binary", "--on-error", "skip", input=rows)
    assert outcome.code == 4
    assert outcome.stderr.splitlines()[-1].startswith("error: " + said)


def test_a_directory_tree_becomes_paths_and_contents(run, tmp_path: Path, contents) -> None:
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c.bin").write_bytes(ALL_BYTES)
    (root / "empty").write_bytes(b"")
    (root / "a" / "x.pyc").write_bytes(b"excluded")
    (root / "link").symlink_to("a/b/c.bin")
    (root / "loop").symlink_to(root)
    (root / "broken").symlink_to("nowhere")
    outcome = run("load", "db", "tree", "--exclude", "*.pyc")
    assert outcome.code == 0
    assert contents() == {b"a/b/c.bin": ALL_BYTES, b"empty": b"", b"link": ALL_BYTES}
    assert "left out: 1 link to a directory" in outcome.stderr
    assert "left out: 1 broken link" in outcome.stderr


def test_a_second_load_of_a_tree_stores_only_what_changed(run, tmp_path: Path, contents) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_text(name)
    run("load", "db", "tree")
    (root / "b").write_text("changed")
    report = json.loads(run("load", "db", "tree", "--json").text)
    assert (report["records"], report["unchanged"]) == (1, 2)
    assert contents()[b"b"] == b"changed"


def test_a_tree_that_contains_the_store_does_not_load_the_store_into_itself(
    run, tmp_path: Path, contents
) -> None:
    (tmp_path / "file").write_text("x")
    assert run("load", "db", ".").code == 0
    assert contents() == {b"file": b"x"}


def test_a_file_of_a_tree_that_cannot_be_stored_is_skipped_when_asked(run, tmp_path: Path, contents) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "big").write_bytes(b"x" * 2000)
    (root / "small").write_bytes(b"y")
    outcome = run("load", "db", "tree", "--row-bytes-max", "1000", "--on-error", "skip")
    assert outcome.code == 1
    assert "more than 1000 bytes; raise --row-bytes-max" in outcome.stderr
    assert contents() == {b"small": b"y"}


def test_a_named_pipe_in_a_tree_does_not_hold_the_load_up(run, tmp_path: Path) -> None:
    import os

    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "tree" / "pipe")
    outcome = run("load", "db", "tree")
    assert outcome.code == 0
    assert "left out: 1 special file" in outcome.stderr
