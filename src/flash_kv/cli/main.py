"""The entry point of `flash-kv`: it says what is missing when the extra `cli` is not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

REQUIRED = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (default: those of the process); returns the exit code."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as missing:
        if missing.name not in REQUIRED:
            raise
        print(
            f"error: the command line needs the package {missing.name!r}: pip install 'flash-kv[cli]'",
            file=sys.stderr,
        )
        return 2
    from flash_kv.cli.program import run

    return run(arguments)
