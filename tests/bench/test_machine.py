"""What is noted of the machine: also whether something else keeps it busy now, not whether something did before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flash_kv.bench import machine
from flash_kv.bench.machine import busy_lines, is_busy, machine_facts, machine_lines

BUSY = "print(flush=True)\nwhile True: pass"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system does not tell")
def test_a_program_that_runs_meanwhile_is_noticed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            facts = machine_facts(tmp_path, [])
        finally:
            process.kill()
    busy = facts["busy_cores_at_start"]
    assert isinstance(busy, float)
    assert busy > 0.1
    assert f"{busy:.2f} of the cores busy" in machine_lines(facts)[1]


def test_busy_is_more_than_an_eighth_of_the_cores() -> None:
    quiet: dict[str, object] = {"cores": 8, "busy_cores_at_start": 0.9}
    assert not is_busy(quiet)
    assert busy_lines(quiet) == []
    assert is_busy({**quiet, "busy_cores_at_start": 1.1})


def test_where_the_system_does_not_tell_the_load_average_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_busy_s", lambda: None)
    monkeypatch.setattr("os.getloadavg", lambda: (1.5, 0.0, 0.0))
    assert machine._busy_cores() == 1.5
