"""The tests of the embedded mapping, to be run through another one that `open_db` opens."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def taken_over(module: ModuleType, *left_out: str) -> dict[str, Any]:
    """The tests and fixtures of `module` by name, without those that are named; a name that is none is an error."""
    found = {
        name: value
        for name, value in vars(module).items()
        if name.startswith("test_") or type(value).__name__ == "FixtureFunctionDefinition"
    }
    for name in left_out:
        del found[name]
    return found
