"""Fuzzers for everything that reads a file: `python -m fuzz TARGET`, or `make fuzz` for all of them, a while each.

A target is a module with `run(data)`: whatever the bytes are, it returns; AssertionError and every exception that is
not about damage are findings, and so is the end of the process. `corpus/TARGET/` holds what the fuzzer begins with,
made by `python -m fuzz.make_corpus` from real stores, and what has found something once; the tests run all of it.

Most of what reads is compiled and tells the fuzzer nothing about where it has been, so targets tell it themselves
(`outcomes`). Checksums would turn away nearly everything; so the first byte of most inputs says whether they are put
right first (`checksums`), as somebody would who writes such a file on purpose.
"""

from pathlib import Path

TARGETS = ("segment", "hint", "manifest", "directory")
CORPUS = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX = 4096
