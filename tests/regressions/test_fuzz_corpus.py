"""The inputs of the fuzzers (fuzz/), those that once found something among them, without a fuzzer."""

from __future__ import annotations

import importlib

import fuzz
import pytest


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_every_input_of_the_corpus_is_survived(target: str) -> None:
    run = importlib.import_module(f"fuzz.{target}").run
    inputs = sorted((fuzz.CORPUS / target).iterdir())
    assert len(inputs) > 3
    for path in inputs:
        data = path.read_bytes()
        run(data)
        # As it is, and cut, with the checksums put right and left as they are.
        for size in range(1, len(data), max(len(data) // 8, 1)):
            run(data[:size])
            run(bytes([data[0] ^ 1]) + data[1:size])


@pytest.mark.parametrize("data", [b"", b"\0", b"\1", b"\0\0", b"\4\0", bytes(200), b"\xff" * 200])
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_next_to_nothing_is_survived(target: str, data: bytes) -> None:
    importlib.import_module(f"fuzz.{target}").run(data)
