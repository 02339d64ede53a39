"""Where a run is, for the person who waits."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)
