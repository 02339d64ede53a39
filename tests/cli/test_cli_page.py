"""docs/cli.md is what the command does: its texts are those of --help, the session at its top goes as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flash_kv
from flash_kv.cli.exits import ExitCode
from flash_kv.cli.program import COMMANDS
from support import cli_page

TEXT = cli_page.PAGE.read_text("utf-8")


def _words(text: str) -> list[str]:
    """Without the layout, which changes with the version of click."""
    return re.findall(r"\S+", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_says_what_the_help_of_a_command_says(name: str) -> None:
    shown = re.search(rf"^### {name}\n\n```text\n(.*?)\n```", TEXT, re.MULTILINE | re.DOTALL)
    assert shown is not None, "run `python tests/support/cli_page.py`"
    assert _words(shown[1]) == _words(cli_page.help_of(name)[0]), "run `python tests/support/cli_page.py`"


def test_the_page_lists_the_store_options() -> None:
    assert _words(cli_page.help_of("load")[1]) == _words(
        TEXT.split("<!-- options -->", 1)[1].strip().removeprefix("```text").removesuffix("```")
    ), "run `python tests/support/cli_page.py`"


def test_the_page_lists_the_exit_codes() -> None:
    listed = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert [int(code) for code in listed] == sorted(code.value for code in ExitCode)


def test_the_session_on_the_page_goes_as_shown(tmp_path: Path) -> None:
    (session,) = re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    command = tmp_path / "bin" / "flash-kv"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flash_kv.cli "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(flash_kv.__file__).parents[1]),
    }
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    assert steps
    for line, expected in steps:
        result = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.stdout == expected, line
