"""get, put and delete: exact bytes, any key, exit codes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

Contents = Callable[[], dict[bytes, bytes]]
ALL_BYTES = bytes(range(256))


def test_what_was_put_is_what_a_pipe_gets(process, store: Path) -> None:
    assert process("put", "db", "greeting", "hello").code == 0
    assert process("get", "db", "greeting").stdout == b"hello"


def test_a_value_of_every_byte_goes_in_and_out_by_pipe_unchanged(process) -> None:
    assert process("put", "db", "k", "-", input=ALL_BYTES).code == 0
    assert process("get", "db", "k").stdout == ALL_BYTES


def test_a_value_is_read_from_stdin_when_none_is_given(process) -> None:
    process("put", "db", "k", input=b"\r\nfrom a pipe\n")
    assert process("get", "db", "k").stdout == b"\r\nfrom a pipe\n"


def test_a_value_is_read_from_a_file(run, tmp_path: Path, contents: Contents) -> None:
    (tmp_path / "value").write_bytes(ALL_BYTES)
    assert run("put", "db", "k", "--file", "value").code == 0
    assert contents() == {b"k": ALL_BYTES}


def test_a_file_that_is_not_there_is_bad_input(run) -> None:
    outcome = run("put", "db", "k", "--file", "absent")
    assert outcome.code == 4
    assert outcome.stderr == "error: absent: No such file or directory\n"


def test_a_value_and_a_file_together_are_wrong_usage(run) -> None:
    assert run("put", "db", "k", "v", "--file", "f").code == 2


def test_an_empty_value_is_a_value(run, contents: Contents) -> None:
    assert run("put", "db", "k", "").code == 0
    assert contents() == {b"k": b""}


def test_a_missing_key_says_so_and_exits_with_1(run, fill) -> None:
    fill({b"k": b"v"})
    outcome = run("get", "db", "nothing\there")
    assert (outcome.code, outcome.stdout) == (1, b"")
    assert outcome.stderr == "no such key: nothing\\there\n"


def test_a_store_that_is_not_there_is_named_and_not_created(run, store: Path) -> None:
    outcome = run("get", "db", "k")
    assert outcome.code == 3
    assert outcome.stderr.startswith("error: no store at db: check the path;")
    assert not store.exists()


@pytest.mark.parametrize(
    ("option", "text"), [("--hex", ALL_BYTES.hex()), ("--base64", base64.b64encode(ALL_BYTES).decode())]
)
def test_a_key_of_every_byte_is_written_in_hexadecimal_or_base64(
    run, contents: Contents, option: str, text: str
) -> None:
    assert run("put", "db", text, "v", option).code == 0
    assert contents() == {ALL_BYTES: b"v"}
    assert run("get", "db", text, option).stdout == b"v"
    assert run("delete", "db", text, option).code == 0
    assert contents() == {}


def test_a_key_that_is_not_utf8_passes_through_the_command_line(process, contents: Contents) -> None:
    assert process("put", "db", b"\xff\xfe", "v").code == 0
    assert contents() == {b"\xff\xfe": b"v"}


@pytest.mark.parametrize(("option", "text"), [("--hex", "0g"), ("--base64", "a?")])
def test_a_key_in_the_wrong_notation_is_wrong_usage(run, option: str, text: str) -> None:
    outcome = run("get", "db", text, option)
    assert outcome.code == 2
    assert repr(text) in outcome.stderr


def test_an_empty_key_is_wrong_usage(run) -> None:
    assert run("put", "db", "", "v").code == 2


def test_a_key_that_is_too_long_is_refused_in_one_line(run) -> None:
    outcome = run("put", "db", "k" * 65537, "v")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: a key must have 1 to 65536 bytes")
    assert outcome.stderr.count("\n") == 1


def test_several_keys_are_deleted_at_once(run, fill, contents: Contents) -> None:
    fill({b"a": b"1", b"b": b"2", b"c": b"3"})
    outcome = run("delete", "db", "a", "c")
    assert (outcome.code, outcome.stderr) == (0, "deleted 2 keys\n")
    assert contents() == {b"b": b"2"}


def test_deleting_a_key_that_is_not_there_exits_with_1_and_deletes_the_others(run, fill, contents) -> None:
    fill({b"a": b"1"})
    outcome = run("delete", "db", "a", "b", "--json")
    assert outcome.code == 1
    assert outcome.text == '{\n  "deleted": 1,\n  "missing": 1\n}\n'
    assert contents() == {}


def test_a_range_is_deleted_with_yes(run, fill, contents: Contents) -> None:
    fill({b"a1": b"", b"a2": b"", b"b1": b""})
    assert run("delete", "db", "--prefix", "a", "--yes").code == 0
    assert contents() == {b"b1": b""}


def test_a_range_by_its_bounds_keeps_the_stop(run, fill, contents: Contents) -> None:
    fill({b"a": b"", b"b": b"", b"c": b"", b"d": b""})
    assert run("delete", "db", "--start", "b", "--stop", "d", "--yes").code == 0
    assert sorted(contents()) == [b"a", b"d"]


def test_a_range_without_yes_is_not_deleted_by_a_script(run, fill, contents: Contents) -> None:
    fill({b"a1": b"", b"a2": b""})
    outcome = run("delete", "db", "--prefix", "a")
    assert outcome.code == 2
    assert "this deletes 2 keys: add --yes" in outcome.stderr
    assert len(contents()) == 2


@pytest.mark.parametrize("arguments", [(), ("k", "--prefix", "a"), ("--prefix", "")])
def test_deleting_needs_keys_or_a_range_and_never_takes_everything_by_accident(run, fill, arguments) -> None:
    fill({b"k": b"v"})
    assert run("delete", "db", *arguments, "--yes").code == 2


def test_a_key_that_looks_like_an_option_goes_behind_two_dashes(run, contents: Contents) -> None:
    assert run("put", "db", "--", "-k", "-v").code == 0
    assert contents() == {b"-k": b"-v"}
