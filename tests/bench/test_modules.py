"""Each command in benchmarks/ can be imported: what is not run by a test would break unseen when something moves."""

from __future__ import annotations

import importlib
from pathlib import Path

import benchmarks
import pytest

OF_EXTRAS = ("flatbuffers", "lmdb", "matplotlib", "msgpack", "msgspec")


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(benchmarks.__path__[0]).glob("[a-z]*.py")))
def test_a_command_can_be_imported(name: str) -> None:
    try:
        importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in OF_EXTRAS:
            raise
        pytest.skip(f"{error.name} is not installed")
