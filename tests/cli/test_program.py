"""The program as a whole: help, flags made from the options, the error boundary, exit codes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from flash_kv import errors
from flash_kv.cli import main as main_module
from flash_kv.cli.commands import get
from flash_kv.cli.flags import FieldOption
from flash_kv.cli.program import COMMANDS, program
from flash_kv.options import Options


def test_every_command_has_help_and_is_listed(run) -> None:
    listing = run("--help")
    assert listing.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in listing.text
        assert run(name, "--help").text.startswith(f"Usage: flash-kv {name} ")


def test_the_exit_codes_are_in_the_help(run) -> None:
    text = run("--help").text
    assert "\n    130  interrupted (Ctrl-C)" in text


def test_the_version_is_shown(run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.text.split()[0]) == (0, "flash-kv")


@pytest.mark.parametrize(
    "arguments", [(), ("no-such",), ("get",), ("get", "db", "k", "--no-such"), ("--no-such",)]
)
def test_wrong_usage_is_one_line_that_names_the_help(run, arguments) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ")
    assert "--help" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_every_option_of_the_store_is_a_flag_and_no_other() -> None:
    flags = {option.name for option in get.command.params if isinstance(option, FieldOption)}
    fields = {field.name for field in dataclasses.fields(Options)} - {"read_only", "create"}
    assert flags == {f"store_{name}" for name in fields}


def test_the_help_of_a_flag_is_the_first_sentence_of_the_option_and_its_default(run) -> None:
    text = " ".join(run("put", "--help").text.split())
    assert "--io [mmap|file] How the log is written and read. [mmap]" in text
    assert "--segment-bytes-max SIZE Bytes of one segment" in text
    assert "[256MiB]" in text


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("--segment-bytes-max", "64KiB"), {"segment_bytes_max": 65536}),
        (("--segment-bytes-max", "131072"), {"segment_bytes_max": 131072}),
        (("--durability", "always"), {"durability": "always"}),
        (("--durability", "interval:0.5"), {"durability": ("interval", 0.5)}),
        (("--durability", "bytes:4MiB"), {"durability": ("bytes", 4 << 20)}),
        (("--compaction-window", "22-6"), {"compaction_window": (22, 6)}),
        (("--compaction-rate-bytes-per-s", "1g"), {"compaction_rate_bytes_per_s": 1 << 30}),
        (("--compaction-dead-ratio", "0.25"), {"compaction_dead_ratio": 0.25}),
        (("--index", "hash", "--io", "file"), {"index": "hash", "io": "file"}),
    ],
)
def test_flags_become_the_options_they_are_named_after(
    monkeypatch: pytest.MonkeyPatch, runner, arguments: tuple[str, ...], options: dict[str, object]
) -> None:
    import flash_kv

    seen: dict[str, object] = {}

    def open_nothing(path: Path, **given: object) -> None:
        seen.update(given)
        raise errors.LockedError(path)

    monkeypatch.setattr(flash_kv, "open", open_nothing)
    assert runner.invoke(program, ["get", "db", "k", *arguments]).exit_code == 3
    assert seen == {"read_only": True, "create": False, **options}
    Options.from_kwargs(**options)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--segment-bytes-max", "10 parsecs"),
        ("--segment-bytes-max", "1"),
        ("--durability", "sometimes"),
        ("--durability", "interval:soon"),
        ("--durability", "interval:0"),
        ("--compaction-window", "noon"),
        ("--index", "skip"),
    ],
)
def test_an_option_that_makes_no_sense_is_wrong_usage_and_creates_nothing(
    run, store: Path, arguments
) -> None:
    outcome = run("put", "db", "k", "v", *arguments)
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert not store.exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.LockedError("db", 42, "host"), 3),
        (errors.CorruptionError("db/1", 64, "bad checksum"), 3),
        (errors.StoreFullError("db"), 3),
        (errors.OptionsError(["no"]), 2),
        (PermissionError(13, "Permission denied", "db"), 3),
        (RuntimeError("two\nlines"), 3),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(32, "Broken pipe"), 141),
    ],
)
def test_whatever_is_raised_leaves_as_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, runner, error: BaseException, code: int
) -> None:
    import flash_kv

    def fail(path: Path, **given: object) -> None:
        raise error

    monkeypatch.setattr(flash_kv, "open", fail)
    result = runner.invoke(program, ["get", "db", "k"])
    assert result.exit_code == code
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines == [] if code == 141 else (len(lines) == 1 and lines[0].startswith("error: "))
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_on_request(process) -> None:
    outcome = process("get", "absent", "k", env={"FLASH_KV_DEBUG": "1"})
    assert outcome.code == 3
    assert "Traceback (most recent call last)" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("error: no store at absent")


@pytest.mark.parametrize("package", ["click", "rich"])
def test_a_missing_package_is_one_line_that_says_what_to_install(
    child_environment: dict[str, str], package: str
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from flash_kv.cli.main import main; sys.exit(main([]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment, check=False
    )
    assert result.returncode == 2
    assert result.stderr == (
        f"error: the command line needs the package {package!r}: pip install 'flash-kv[cli]'\n"
    )


def test_main_returns_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main(["get", "absent-store", "k"]) == 3
    assert capsys.readouterr().err.startswith("error: no store at absent-store")
