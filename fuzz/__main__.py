"""`python -m fuzz TARGET [SECONDS] [libFuzzer options]`: fuzz one target; inputs of a finding stay in the directory.

New inputs that reach something are kept in memory only; `corpus/` is changed by hand.
"""

from __future__ import annotations

import importlib
import sys
import tempfile

import atheris

from fuzz import CORPUS, INPUT_BYTES_MAX, TARGETS

SECONDS = 60


def main(arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process, with another status than 0 after a finding."""
    if not arguments or arguments[0] not in TARGETS:
        raise SystemExit(f"usage: python -m fuzz {'|'.join(TARGETS)} [SECONDS] [libFuzzer options]")
    name, *rest = arguments
    seconds = rest.pop(0) if rest and rest[0].isdigit() else str(SECONDS)
    with atheris.instrument_imports(include=["flash_kv", "fuzz"]):
        target = importlib.import_module(f"fuzz.{name}")
        outcomes = importlib.import_module("fuzz.outcomes")
    outcomes.instrument()
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    new = tempfile.mkdtemp(prefix="flash-kv-fuzz-corpus-")
    atheris.Setup([sys.argv[0], *options, *rest, new, str(CORPUS / name)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
