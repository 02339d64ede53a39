"""load: batches, bad rows, resuming, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flash_kv
from support.waiting import wait_until


def rows(count: int, begin: int = 0, size: int = 10) -> bytes:
    return b"".join(
        b'{"key": "k%08d", "value": "%0*d"}\n' % (number, size, number)
        for number in range(begin, begin + count)
    )


def marks(tmp_path: Path) -> list[Path]:
    return sorted(path for path in tmp_path.glob("db.load-*") if path.suffix != ".new")


def test_the_summary_counts_records_and_bytes(run) -> None:
    report = json.loads(run("load", "db", "--json", input=rows(3)).text)
    assert report.pop("duration_s") > 0
    assert report == {"records": 3, "bytes": 57, "unchanged": 0, "skipped": 0, "resumed_records": 0}


def test_quiet_says_nothing(run) -> None:
    outcome = run("load", "db", "--quiet", input=rows(3))
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, b"", "")


def test_a_load_is_committed_in_batches_of_the_size_asked_for(run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    put_many = flash_kv.DB.put_many

    def watched(db: flash_kv.DB, pairs: list[tuple[bytes, bytes]]) -> None:
        sizes.append(sum(len(key) + len(value) for key, value in pairs))
        put_many(db, pairs)

    monkeypatch.setattr(flash_kv.DB, "put_many", watched)
    run("load", "db", "--batch-bytes", "1KiB", input=rows(200))
    assert sum(sizes) == 200 * 19
    assert all(300 < size <= 1024 for size in sizes[:-1])


def test_everything_before_a_bad_row_is_stored_and_nothing_after_it(run, contents) -> None:
    outcome = run("load", "db", input=rows(3) + b"bad\n" + rows(1, 10))
    assert outcome.code == 4
    assert outcome.stderr.splitlines()[-1].startswith("error: line 4: not JSON")
    assert sorted(contents()) == [b"k00000000", b"k00000001", b"k00000002"]


def test_bad_rows_are_skipped_named_and_counted_when_asked(run, contents) -> None:
    outcome = run("load", "db", "--on-error", "skip", input=b"bad\n" * 12 + rows(2))
    assert outcome.code == 1
    lines = outcome.stderr.splitlines()
    assert lines[0].startswith("skipped: line 1: not JSON")
    assert lines[10] == "skipped: more rows, counted at the end"
    assert lines[-1] == "skipped: 12 bad rows"
    assert len(contents()) == 2


def test_a_row_longer_than_allowed_is_one_bad_row(run, contents) -> None:
    long = b'{"key": "long", "value": "' + b"x" * 5000 + b'"}\n'
    outcome = run(
        "load", "db", "--row-bytes-max", "1000", "--on-error", "skip", input=rows(1) + long + rows(1, 1)
    )
    assert outcome.code == 1
    assert "line 2: longer than 1000 bytes; raise --row-bytes-max" in outcome.stderr
    assert len(contents()) == 2


def test_a_source_that_is_not_there_creates_no_store(run, store: Path) -> None:
    outcome = run("load", "db", "absent.jsonl")
    assert (outcome.code, outcome.stderr) == (4, "error: absent.jsonl: no such file or directory\n")
    assert not store.exists()


def test_a_name_that_says_no_format_asks_for_one(run, tmp_path: Path) -> None:
    (tmp_path / "data.xyz").touch()
    outcome = run("load", "db", "data.xyz")
    assert outcome.code == 2
    assert "add --format" in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--key", "k", "--format", "nul"),
        ("--no-header",),
        ("--exclude", "x"),
        ("--format", "tree"),
    ],
)
def test_an_option_that_would_be_ignored_is_wrong_usage(run, arguments) -> None:
    assert run("load", "db", "-", *arguments).code == 2


def test_no_mark_is_left_by_a_load_that_is_complete(run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(rows(1000))
    assert run("load", "db", "in.jsonl", "--batch-bytes", "1KiB").code == 0
    assert marks(tmp_path) == []


def interrupted_load(run, tmp_path: Path, *, good: int, total: int) -> None:
    """A load that stopped at a bad row after `good` rows; then the row is good, the file otherwise the same."""
    text = bytearray(rows(total))
    width = len(rows(1))
    place = good * width
    saved = text[place]
    text[place] = ord("!")
    source = tmp_path / "in.jsonl"
    source.write_bytes(text)
    status = source.stat()
    assert run("load", "db", "in.jsonl", "--batch-bytes", "1KiB").code == 4
    with open(source, "r+b") as file:
        file.seek(place)
        file.write(bytes([saved]))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_load_that_stopped_goes_on_where_it_was(run, tmp_path: Path, contents) -> None:
    interrupted_load(run, tmp_path, good=600, total=1000)
    assert len(marks(tmp_path)) == 1
    outcome = run("load", "db", "in.jsonl", "--json")
    assert "going on at line 601, after 600 records of an earlier load" in outcome.stderr
    report = json.loads(outcome.text)
    assert (report["records"], report["resumed_records"]) == (400, 600)
    assert len(contents()) == 1000
    assert marks(tmp_path) == []


def test_restart_begins_at_the_beginning(run, tmp_path: Path) -> None:
    interrupted_load(run, tmp_path, good=600, total=1000)
    assert json.loads(run("load", "db", "in.jsonl", "--restart", "--json").text)["records"] == 1000


def test_a_mark_does_not_hold_for_a_file_that_changed(run, tmp_path: Path, contents) -> None:
    interrupted_load(run, tmp_path, good=600, total=1000)
    (tmp_path / "in.jsonl").write_bytes(rows(1000, begin=5000))
    outcome = run("load", "db", "in.jsonl", "--json")
    assert "is of another input or store: beginning anew" in outcome.stderr
    assert json.loads(outcome.text)["records"] == 1000
    assert len(contents()) == 1600


def test_a_mark_does_not_hold_for_a_file_that_changed_in_secret(run, tmp_path: Path, contents) -> None:
    interrupted_load(run, tmp_path, good=600, total=1000)
    source = tmp_path / "in.jsonl"
    status = source.stat()
    source.write_bytes(rows(1000, begin=5000))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = run("load", "db", "in.jsonl", "--json")
    assert "does not fit this input: beginning anew" in outcome.stderr
    assert json.loads(outcome.text)["records"] == 1000
    assert len(contents()) == 1600


def test_a_mark_does_not_hold_for_a_store_that_was_made_anew(
    run, tmp_path: Path, store: Path, contents
) -> None:
    import shutil

    interrupted_load(run, tmp_path, good=600, total=1000)
    shutil.rmtree(store)
    assert json.loads(run("load", "db", "in.jsonl", "--json").text)["records"] == 1000
    assert len(contents()) == 1000


def test_a_mark_does_not_hold_when_its_last_record_was_deleted(run, tmp_path: Path, contents) -> None:
    interrupted_load(run, tmp_path, good=600, total=1000)
    run("delete", "db", "k00000599")
    assert json.loads(run("load", "db", "in.jsonl", "--json").text)["records"] == 1000
    assert len(contents()) == 1000


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"kind": "flash-kv load mark 1", "lsn": "x"}', b"\xff"]
)
def test_a_damaged_mark_is_passed_over(run, tmp_path: Path, contents, content: bytes) -> None:
    interrupted_load(run, tmp_path, good=600, total=1000)
    marks(tmp_path)[0].write_bytes(content)
    outcome = run("load", "db", "in.jsonl")
    assert (outcome.code, len(contents())) == (0, 1000)
    assert "beginning anew" in outcome.stderr


def test_a_file_that_is_no_mark_is_not_taken_for_one(run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(rows(5))
    (tmp_path / "precious").write_bytes(b"data")
    outcome = run("load", "db", "in.jsonl", "--resume", "precious")
    assert outcome.code == 2
    assert "choose another file for --resume" in outcome.stderr
    assert (tmp_path / "precious").read_bytes() == b"data"


def test_a_pipe_goes_on_with_a_mark_file_when_the_same_bytes_come_again(
    run, tmp_path: Path, contents
) -> None:
    arguments = ("load", "db", "-", "--resume", "mark", "--batch-bytes", "1KiB", "--json")
    assert run(*arguments, input=rows(600) + b"bad\n").code == 4
    report = json.loads(run(*arguments, input=rows(1000)).text)
    assert (report["records"], report["resumed_records"]) == (400, 600)
    assert len(contents()) == 1000
    assert not (tmp_path / "mark").exists()


def test_a_pipe_that_brings_other_bytes_is_refused(run, tmp_path: Path, contents) -> None:
    arguments = ("load", "db", "-", "--resume", "mark", "--batch-bytes", "1KiB")
    run(*arguments, input=rows(600) + b"bad\n")
    for other in (rows(1000, begin=7), rows(10), b""):
        outcome = run(*arguments, input=other)
        assert outcome.code == 4
        assert "bring the same bytes again, or add --restart" in outcome.stderr
    assert len(contents()) == 600


@pytest.mark.parametrize("kind", ["jsonl", "csv", "nul", "binary"])
def test_every_format_goes_on_where_it_was(run, tmp_path: Path, contents, kind: str) -> None:
    run("load", "source", input=rows(1000))
    run("dump", "source", "whole", "--format", kind)
    whole = (tmp_path / "whole").read_bytes()
    arguments = ("load", "db", "-", "--format", kind, "--resume", "mark", "--batch-bytes", "1KiB", "--json")
    cut = whole[: len(whole) // 2 + 3]
    if kind == "csv":
        # A last row without its newline is a row; what is cut there shows only inside a quote.
        cut = cut[: cut.rindex(b"\n") + 1] + b'"'
    assert run(*arguments, input=cut).code == 4
    report = json.loads(run(*arguments, input=whole).text)
    assert report["records"] + report["resumed_records"] == 1000
    assert 400 < report["resumed_records"] < 600
    assert len(contents()) == 1000


def test_a_load_killed_hard_goes_on_and_ends_complete(start, process, tmp_path: Path, contents) -> None:
    total = 200_000
    source = tmp_path / "in.jsonl"
    source.write_bytes(rows(total))
    loading = start("load", "db", "in.jsonl", "--batch-bytes", "16KiB")
    wait_until(lambda: marks(tmp_path))
    loading.kill()
    loading.communicate()
    assert loading.returncode == -signal.SIGKILL
    (mark,) = marks(tmp_path)
    marked = json.loads(mark.read_bytes())["records"]
    outcome = process("load", "db", "in.jsonl", "--json")
    report = json.loads(outcome.text)
    assert report["records"] + report["resumed_records"] == total
    assert report["resumed_records"] >= marked > 0
    found = contents()
    assert len(found) == total
    assert found[b"k%08d" % (total - 1)] == b"%010d" % (total - 1)


def test_ctrl_c_ends_a_load_with_130_and_a_word_about_what_is_stored(start, tmp_path: Path, contents) -> None:
    loading = start("load", "db", "-", "--resume", "mark", "--batch-bytes", "1KiB")
    loading.stdin.write(rows(5000))
    loading.stdin.flush()
    wait_until((tmp_path / "mark").exists)
    loading.send_signal(signal.SIGINT)
    _, said = loading.communicate()
    assert loading.returncode == 130
    assert said.decode().splitlines()[-1] == "error: interrupted"
    assert b"loaded before that: " in said
    assert b"Traceback" not in said
    assert len(contents()) > 0


PEAK_OF_A_COMMAND = """
import re, sys
from flash_kv.cli.main import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_stays_flat_whatever_the_size_of_the_input(tmp_path: Path, child_environment) -> None:
    """48 MiB go through a process that grows by no more than the batch and the buffers it holds."""
    arguments = ["load", "db", "-", "--io", "file", "--index", "hash", "--quiet"]
    arguments += ["--batch-bytes", "256KiB", "--segment-bytes-max", "1MiB"]

    def peak_kib(pieces: int) -> int:
        with subprocess.Popen(
            [sys.executable, "-c", PEAK_OF_A_COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env=child_environment,
        ) as loading:
            for number in range(pieces):
                loading.stdin.write(rows(250, begin=number * 250, size=4096))
            said, _ = loading.communicate()
        assert loading.returncode == 0
        return int(said)

    assert peak_kib(48) < peak_kib(2) + 8 * 1024
