"""stats, compact, verify, repair, backup: what they say, in which code, to whom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flash_kv

HOLDER = """
import sys, flash_kv
with flash_kv.open(sys.argv[1]) as db:
    db[b"k"] = b"v"
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(store: Path, child_environment: dict[str, str]):
    """Another process that has the store open for writing."""
    command = [sys.executable, "-c", HOLDER, str(store)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield process
        process.stdin.close()


@pytest.fixture
def half_dead(store: Path) -> None:
    """A store of which three quarters are dead."""
    with flash_kv.open(store, segment_bytes_max=1 << 20, compaction="off") as db:
        for _ in range(4):
            db.put_many((b"k%05d" % number, os.urandom(400)) for number in range(5000))


def damage(store: Path) -> None:
    """Flip one byte in the middle of the largest file."""
    path = max(store.iterdir(), key=lambda file: file.stat().st_size)
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 3)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))


def test_stats_say_how_many_keys_and_bytes_there_are(run, half_dead) -> None:
    outcome = run("stats", "db", "--segments")
    assert outcome.code == 0
    lines = dict(line.split(None, 1) for line in outcome.text.splitlines() if line.strip())
    assert lines["keys"] == "5,000"
    assert "MiB" in lines["dead"]
    assert "sealed" in outcome.text


def test_stats_as_json_hold_every_field(run, half_dead) -> None:
    stats = json.loads(run("stats", "db", "--json").text)
    assert stats["keys"] == 5000
    assert set(stats) == set(flash_kv.Stats.__dataclass_fields__)
    assert len(stats["segment_stats"]) == stats["segments"]


def test_a_path_that_is_not_utf8_is_shown_escaped(process) -> None:
    process("put", b"db\xff", "k", "v")
    outcome = process("stats", b"db\xff", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.text)["path"].endswith("db\udcff")
    assert "db\\udcff" in process("stats", b"db\xff").text


def test_a_second_writer_is_refused_with_the_holder_named(process, holder) -> None:
    outcome = process("put", "db", "k", "v")
    assert outcome.code == 3
    assert outcome.stderr.startswith("error: db is locked by ")
    assert str(holder.pid) in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_compact_gives_disk_space_back(run, half_dead, contents) -> None:
    before = json.loads(run("stats", "db", "--json").text)["disk_bytes"]
    found = contents()
    outcome = run("compact", "db", "--json")
    report = json.loads(outcome.text)
    assert outcome.code == 0
    assert report["bytes_reclaimed"] > 0
    assert json.loads(run("stats", "db", "--json").text)["disk_bytes"] < before
    assert contents() == found


def test_a_dry_run_changes_nothing_and_says_what_it_would_gain(run, half_dead, store: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in store.iterdir()}
    outcome = run("compact", "db", "--dry-run")
    assert outcome.code == 0
    assert outcome.text.splitlines()[0].split() == ["result", "dry", "run"]
    assert {path.name: path.stat().st_size for path in store.iterdir()} == sizes


def test_ctrl_c_cancels_a_compaction_cleanly(
    run, half_dead, contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = contents()
    calls: list[int] = []

    def interrupt(bar: object, progress: flash_kv.CompactionProgress) -> bool:
        calls.append(progress.bytes_done)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return True

    monkeypatch.setattr("flash_kv.cli.commands.compact.follow", interrupt)
    outcome = run("compact", "db", "--json")
    assert outcome.code == 130
    assert json.loads(outcome.text)["is_cancelled"] is True
    assert outcome.stderr == "stopping at the next safe place; Ctrl-C again stops at once\n"
    assert len(calls) <= 2
    assert contents() == found


def test_a_second_ctrl_c_stops_a_compaction_at_once(run, half_dead, contents, monkeypatch) -> None:
    found = contents()

    def interrupt_twice(bar: object, progress: flash_kv.CompactionProgress) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return True

    monkeypatch.setattr("flash_kv.cli.commands.compact.follow", interrupt_twice)
    outcome = run("compact", "db", "--json")
    assert (outcome.code, outcome.stdout) == (130, b"")
    assert outcome.stderr.splitlines()[-1] == "error: interrupted"
    assert contents() == found


def test_verify_finds_no_damage_in_a_whole_store(run, half_dead) -> None:
    outcome = run("verify", "db")
    assert outcome.code == 0
    assert outcome.text.splitlines()[-1] == "no damage"
    assert json.loads(run("verify", "db", "--json").text)["is_ok"] is True


def test_verify_names_damage_and_exits_with_1(run, half_dead, store: Path) -> None:
    damage(store)
    outcome = run("verify", "db")
    assert outcome.code == 1
    assert "damaged: " in outcome.text
    assert "flash-kv repair db NEW_DIRECTORY" in outcome.text
    assert json.loads(run("verify", "db", "--json").text)["damages"]


def test_verify_of_nothing_names_the_path(run) -> None:
    outcome = run("verify", "absent")
    assert (outcome.code, outcome.stderr) == (3, "error: no store at absent: check the path\n")


def test_codecs_are_shown_and_told_to_a_repair_without_a_manifest(run, tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "typed", codec="json", key_codec="str") as db:
        db["a"] = [1]
    assert "json values under str keys" in run("stats", "typed").text
    (tmp_path / "typed" / "MANIFEST").unlink()
    assert run("repair", "typed", "bad", "--codecs", "JSON", "str").code == 2
    run("repair", "typed", "whole", "--codecs", "json", "str")
    with flash_kv.open(tmp_path / "whole", codec="json", key_codec="str") as db:
        assert db["a"] == [1]


def test_repair_salvages_what_is_whole(run, half_dead, store: Path, tmp_path: Path, contents) -> None:
    found = contents()
    damage(store)
    outcome = run("repair", "db", "new")
    assert outcome.code == 1
    assert "salvaged into" in outcome.text
    with flash_kv.open(tmp_path / "new") as db:
        assert len(db) >= 4900
        assert all(found[key] == value for key, value in db.items())


def test_a_backup_is_a_store_of_its_own(run, half_dead, tmp_path: Path, contents) -> None:
    outcome = run("backup", "db", "copy", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.text)["keys"] == 5000
    with flash_kv.open(tmp_path / "copy") as db:
        assert dict(db.items()) == contents()


def test_a_backup_never_overwrites_anything(run, half_dead, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "precious").write_bytes(b"data")
    assert run("backup", "db", "copy").code == 3
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["precious"]


def test_a_directory_that_is_no_store_is_refused_and_left_alone(run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    for command in ("put photos k v", "get photos k", "stats photos", "compact photos"):
        assert run(*command.split()).code == 3
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
