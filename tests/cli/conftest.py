"""The command line as a script sees it (a process) and as a test can see it fastest (in this process)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flash_kv

click_testing = pytest.importorskip("click.testing")
pytest.importorskip("rich")

TIMEOUT_S = 120
PACKAGE = Path(flash_kv.__file__).parent
COMMAND = [sys.executable, "-m", "flash_kv.cli"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code, exact stdout, stderr as text."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8")


Run = Callable[..., Outcome]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would change the output."""
    dropped = ("FLASH_KV_DEBUG", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    # A command runs in its test's directory, where a relative path to the package leads nowhere.
    known = [os.path.abspath(path) for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    kept["PYTHONPATH"] = os.pathsep.join([*known, str(PACKAGE.parent)])
    return kept | more


@pytest.fixture
def child_environment() -> dict[str, str]:
    """The environment of a process that a test starts by itself."""
    return environment()


def new_runner() -> Any:
    """A runner with stdout and stderr apart: what every click from 8.2 on does by itself."""
    try:
        return click_testing.CliRunner(mix_stderr=False)
    except TypeError:
        return click_testing.CliRunner()


@pytest.fixture
def runner() -> Any:
    return new_runner()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("get", "db", "key", input=b"")`: the command line in this process, within `tmp_path`."""
    from flash_kv.cli.program import program

    runner = new_runner()

    def run_here(*arguments: str | Path, input: bytes = b"", env: dict[str, str] | None = None) -> Outcome:
        before = Path.cwd()
        os.chdir(tmp_path)
        try:
            result = runner.invoke(
                program,
                [str(argument) for argument in arguments],
                input=input,
                env=env,
                catch_exceptions=False,
            )
        finally:
            os.chdir(before)
        return Outcome(result.exit_code, result.stdout_bytes, result.stderr)

    return run_here


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """`process("get", "db", "key", input=b"")`: the command line as a process of its own, in `tmp_path`."""

    def run_process(
        *arguments: str | bytes | Path, input: bytes = b"", env: dict[str, str] | None = None
    ) -> Outcome:
        result = subprocess.run(
            [*COMMAND, *arguments],
            input=input,
            capture_output=True,
            cwd=tmp_path,
            env=environment(**(env or {})),
            timeout=TIMEOUT_S,
            check=False,
        )
        return Outcome(result.returncode, result.stdout, result.stderr.decode("utf-8", "replace"))

    return run_process


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """`start("load", "db")`: the command line as a process that goes on while the test does."""

    def start_process(*arguments: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*COMMAND, *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path, env=environment(), **(streams | more))

    return start_process


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the tests keep their store; nothing is there yet."""
    return tmp_path / "db"


@pytest.fixture
def contents(store: Path) -> Callable[[], dict[bytes, bytes]]:
    """What the store holds now."""

    def read() -> dict[bytes, bytes]:
        with flash_kv.open(store, create=False) as db:
            return dict(db.items())

    return read


@pytest.fixture
def fill(store: Path) -> Callable[[dict[bytes, bytes]], None]:
    """Puts records into the store."""

    def write(records: dict[bytes, bytes]) -> None:
        with flash_kv.open(store, segment_bytes_max=1 << 20) as db:
            db.put_many(records.items())

    return write
