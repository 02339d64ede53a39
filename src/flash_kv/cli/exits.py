"""The exit codes a script can rely on, and the errors that belong to the command line itself."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What `$?` says after a command; documented in `flash-kv --help`."""

    OK = 0
    NEGATIVE = 1
    """A negative answer: key missing, damages found, rows skipped, a proof of the demo failed."""
    USAGE = 2
    STORE = 3
    """The store or the system refused: locked, corrupt, full, not a store."""
    INPUT = 4
    """Input that cannot be stored, or a record the chosen output format cannot hold."""
    INTERRUPTED = 130
    PIPE = 141
    """The reader of our output went away, as for any Unix filter under SIGPIPE."""


class InputError(Exception):
    """Data outside the store is not what was announced; the text says what, where and what to do."""


class BadRow(InputError):
    """One row of the input cannot be stored.

    `is_fatal`: the place where the next row begins is unknown, so that skipping is impossible.
    """

    def __init__(self, reason: str, *, row: int, unit: str = "line", is_fatal: bool = False) -> None:
        super().__init__(f"{unit} {row}: {reason}")
        self.reason = reason
        self.row = row
        self.unit = unit
        self.is_fatal = is_fatal


class Failure(Exception):
    """A command's own refusal with its exit code; printed as one line like every other error."""

    def __init__(self, message: str, code: ExitCode = ExitCode.STORE) -> None:
        super().__init__(message)
        self.code = code
