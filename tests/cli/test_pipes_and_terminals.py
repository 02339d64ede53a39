"""What goes to a pipe, what to a terminal, and what happens when either goes away."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.waiting import wait_until

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def terminal(start: Start, tmp_path: Path):
    """`terminal("get", "db", "k", type=b"y\\n")`: the command on a terminal of its own: (exit code, output)."""

    def run_on_terminal(
        *arguments: str, type: bytes = b"", on: str = "stdin stdout stderr", **more
    ) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        streams = dict.fromkeys(on.split(), theirs)
        process = start(*arguments, **(streams | more))
        os.close(theirs)
        if type:
            os.write(ours, type)
        said = read_terminal(ours, process)
        os.close(ours)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        return process.wait(), said.decode("utf-8", "replace").replace("\r\n", "\n")

    return run_on_terminal


def read_terminal(terminal: int, process: subprocess.Popen[bytes]) -> bytes:
    said = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        readable, _, _ = select.select([terminal], [], [], 0.1)
        if not readable:
            if process.poll() is not None:
                break
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not piece:
            break
        said += piece
    return said


def test_a_text_value_on_a_terminal_ends_with_a_newline(terminal, fill) -> None:
    fill({b"k": "grüße".encode(), b"n": b"line\n"})
    assert terminal("get", "db", "k") == (0, "grüße\n")
    assert terminal("get", "db", "n") == (0, "line\n")


def test_a_binary_value_on_a_terminal_is_a_hex_dump(terminal, fill) -> None:
    fill({b"k": b"\x1b[31mred\x00" + bytes(10)})
    code, said = terminal("get", "db", "k")
    assert code == 0
    assert (
        said.splitlines()[0]
        == "00000000  1b 5b 33 31 6d 72 65 64 00 00 00 00 00 00 00 00  |.[31mred........|"
    )
    assert "\x1b[31m" not in said


def test_a_scan_on_a_terminal_is_a_table_that_no_value_can_break(terminal, fill) -> None:
    fill({b"k\x1b[2J": b"two\nlines\xff" + b"x" * 500, b"plain": b"v"})
    code, said = terminal("scan", "db")
    assert code == 0
    lines = said.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("k\\x1b[2J ")
    assert "510 B  two\\nlines\\xff" in lines[0]
    assert lines[0].endswith("...")
    assert all(len(line) < 80 for line in lines)
    assert "\x1b" not in said


@pytest.mark.parametrize("kind", ["nul", "binary"])
def test_a_binary_dump_is_not_written_to_a_terminal(terminal, fill, kind: str) -> None:
    fill({b"k": b"v"})
    code, said = terminal("dump", "db", "--format", kind)
    assert code == 2
    assert "is not for a terminal" in said


def test_deleting_a_range_on_a_terminal_asks_first(terminal, fill, contents) -> None:
    fill({b"a1": b"", b"a2": b"", b"b": b""})
    code, said = terminal("delete", "db", "--prefix", "a", type=b"n\n")
    assert (code, len(contents())) == (1, 3)
    assert "delete 2 keys? [y/N]: " in said
    assert terminal("delete", "db", "--prefix", "a", type=b"y\n")[0] == 0
    assert list(contents()) == [b"b"]


def test_loading_nothing_in_particular_on_a_terminal_says_what_is_missing(terminal, store: Path) -> None:
    code, said = terminal("load", "db")
    assert code == 2
    assert "say what to load" in said
    assert not store.exists()


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(terminal, process, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(
        b"".join(b'{"key": "%d", "value": "%s"}\n' % (number, b"x" * 100) for number in range(20_000))
    )
    arguments = ("load", "db", "in.jsonl", "--batch-bytes", "16KiB")
    code, said = terminal(*arguments, on="stderr")
    assert code == 0
    assert "loading" in said
    assert "\x1b[" in said
    outcome = process(*arguments)
    assert outcome.stdout == b""
    assert outcome.stderr.startswith("loaded 20,000 records, ")


def test_a_reader_that_goes_away_ends_a_dump_quietly(start: Start, fill) -> None:
    fill({b"%d" % number: b"x" * 1000 for number in range(2000)})
    dumping = start("dump", "db")
    assert dumping.stdout.read(10)
    dumping.stdout.close()
    said = dumping.stderr.read()
    dumping.stderr.close()
    dumping.stdin.close()
    assert (dumping.wait(), said) == (141, b"")


def test_a_reader_that_goes_away_at_once_ends_a_get_quietly(start: Start, fill) -> None:
    fill({b"k": b"v" * 200_000})
    getting = start("get", "db", "k")
    getting.stdout.close()
    said = getting.stderr.read()
    getting.stderr.close()
    getting.stdin.close()
    assert (getting.wait(), said) == (141, b"")


def test_a_reader_that_goes_away_before_a_short_answer_is_written_is_no_error_either(
    start: Start, fill
) -> None:
    fill({b"k": b"v"})
    counting = start("count", "db")
    counting.stdout.close()
    said = counting.stderr.read()
    counting.stderr.close()
    counting.stdin.close()
    assert (counting.wait(), said) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("arguments", [("dump", "db"), ("get", "db", "k"), ("count", "db")])
def test_output_that_cannot_be_written_is_an_error_in_one_line(start: Start, fill, arguments) -> None:
    fill({b"k": b"v"})
    with open("/dev/full", "wb") as full:
        writing = start(*arguments, stdout=full)
    _, said = writing.communicate()
    assert writing.returncode == 3
    assert said == b"error: reading the input or writing the output: No space left on device\n"


def test_ctrl_c_on_a_terminal_ends_with_130_and_no_traceback(start: Start, tmp_path: Path) -> None:
    loading = start("load", "db", "-")
    wait_until((tmp_path / "db" / "MANIFEST").exists)
    loading.send_signal(signal.SIGINT)
    _, said = loading.communicate()
    assert loading.returncode == 130
    assert b"Traceback" not in said
