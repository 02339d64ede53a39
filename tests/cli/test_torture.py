"""`flash-kv torture`: what it reports, that it notices, and that its seed repeats what it found."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flash_kv.io.crash import CrashSystem
from flash_kv.torture.campaign import _Workers
from flash_kv.torture.tally import Tally

Run = Callable[..., Any]
SMALL = ("torture", "--states", "1", "--jobs", "1", "--quiet", "--only", "faults", "--seed", "3")


def test_it_says_what_was_tried_and_that_nothing_broke(run: Run, tmp_path: Path) -> None:
    outcome = run(*SMALL, "--dir", tmp_path)
    assert outcome.code == 0
    assert "failing calls" in outcome.text
    assert "seed 3" in outcome.text
    assert outcome.text.endswith("no promise was broken\n")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_json_has_every_number(run: Run, tmp_path: Path) -> None:
    outcome = run(*SMALL, "--json")
    report = json.loads(outcome.stdout)
    assert outcome.code == 0
    assert report["is_ok"] is True
    assert report["faults"] > 0
    assert report["acknowledged_writes"] > 0
    assert [report[name] for name in ("lost", "torn", "resurrected", "failed_open", "other", "failures")] == [
        *[0] * 5,
        [],
    ]


def test_the_same_seed_does_the_same(run: Run) -> None:
    reports = [json.loads(run(*SMALL, "--json").stdout) for _ in range(2)]
    for report in reports:
        del report["duration_s"]
    assert reports[0] == reports[1]


def test_processes_share_the_work(process: Run) -> None:
    outcome = process(
        *("torture", "--states", "60", "--only", "crashes", "--only", "damage", "--jobs", "2"),
        *("--json", "--quiet"),
    )
    assert outcome.code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["runs"] >= 2
    assert report["states"] > 0
    assert report["damages"] > 0
    assert report["power_cuts"] + report["kills"] == report["states"]


@dataclass(frozen=True)
class Dying:
    """A task that ends its process."""

    seed: int
    part: str = "crashes"

    def run(self) -> Tally:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_process_that_dies_is_a_finding_and_no_hang() -> None:
    with _Workers(2) as workers:
        workers.begin(Dying(7))  # type: ignore[arg-type]
        tally = workers.next()
        assert workers.is_broken
    assert [str(failure) for failure in tally.failures] == [
        "seed 7, crashes, the run: other: a process has died, of this run or of another that is named like this"
    ]


def test_a_broken_promise_is_an_exit_code_and_a_command_that_repeats_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CrashSystem, "sync_data", lambda self, fd: None)
    outcome = run(
        *("torture", "--seed", "5", "--only", "crashes", "--states", "1", "--jobs", "1"),
        *("--durability", "always", "--index", "hash", "--io", "file", "--seconds", "1", "--quiet"),
    )
    assert outcome.code == 1
    assert "broken: " in outcome.text
    again = outcome.text.split("  again: ", 1)[1].splitlines()[0]
    _, *arguments = shlex.split(again)
    assert arguments == [
        *("torture", "--seed", "5", "--only", "crashes", "--states", "1", "--jobs", "1"),
        *("--index", "hash", "--io", "file", "--durability", "always"),
    ]
    assert run(*arguments, "--seconds", "1", "--quiet").code == 1


def test_ctrl_c_ends_it_with_what_was_found(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    with start(
        "torture", "--seconds", "100", "--jobs", "2", "--only", "faults", "--dir", ".", "--quiet"
    ) as child:
        try:
            while not list(tmp_path.glob("flash-kv-torture-*/run-*")):
                assert child.poll() is None
                time.sleep(0.05)
            time.sleep(1)
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=60)
        finally:
            child.kill()
    assert b"interrupted" in stderr or child.returncode == 130
    assert child.returncode in (0, 130)
    assert b"Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("--only", "nothing"), ("--seed", "-1"), ("--durability", "never"), ("--dir", "missing")]
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("torture", *arguments).code == 2
