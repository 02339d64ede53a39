"""The generated part of docs/cli.md; run as a program it writes that part again.

python tests/support/cli_page.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from flash_kv.cli.program import COMMANDS, program

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
WIDTH = 100
STORE_OPTIONS = "Store options (see flash_kv.Options):"


def help_of(name: str) -> tuple[str, str]:
    """The help of a command, and its section of store options apart from it, which may be empty."""
    # As a user has it, `-h` included: click keeps the help option of a command from the first context that asks.
    settings = {**program.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    with click.Context(program, info_name="flash-kv", **settings) as parent:
        command = program.get_command(parent, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=parent) as context:
            text, _, options = command.get_help(context).partition(STORE_OPTIONS)
    return text.rstrip(), options.strip("\n").rstrip()


def generated() -> Iterator[tuple[str, str]]:
    """The marker of each generated part, and its text."""
    helps = {name: help_of(name) for name in COMMANDS}
    parts = [f"### {name}\n\n```text\n{text}\n```" for name, (text, _) in helps.items()]
    yield "commands", "\n\n".join(parts)
    (options,) = {options for _, options in helps.values() if options}
    yield "options", f"```text\n{options}\n```"


def main() -> int:
    text = PAGE.read_text("utf-8")
    for marker, part in generated():
        start, _, rest = text.partition(f"<!-- {marker} -->\n")
        after = re.search(r"^## ", rest, re.MULTILINE)
        end = f"\n{rest[after.start() :]}" if after else ""
        text = f"{start}<!-- {marker} -->\n\n{part}\n{end}"
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
