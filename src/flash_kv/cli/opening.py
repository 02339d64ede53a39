"""Opening a store from the command line: one flag for each field of `flash_kv.Options`, and errors in plain words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flash_kv.cli.exits import Failure
from flash_kv.cli.flags import Command, FieldsCommand, field_options
from flash_kv.errors import LockedError, StoreNotFoundError
from flash_kv.options import Options

if TYPE_CHECKING:
    import flash_kv

STORE_PATH = click.Path(path_type=Path)
# What a command does, reading or writing, says whether it may create; a flag for that would contradict it.
DECIDED_BY_THE_COMMAND = ("read_only", "create")

# The command gets `options`, what was given, for `open_store`.
store_options: Callable[[Command], Command] = field_options(
    Options, "store", "options", left_out=DECIDED_BY_THE_COMMAND
)


class StoreCommand(FieldsCommand):
    """A command that opens a store."""


def open_store(
    path: Path, options: dict[str, Any], *, read_only: bool = False, create: bool = False
) -> flash_kv.DB:
    """`flash_kv.open`; a store that is not there or in use is told in the words of the command line."""
    import flash_kv

    try:
        db: flash_kv.DB = flash_kv.open(path, read_only=read_only, create=create, **options)
        return db
    except StoreNotFoundError as error:
        raise Failure(
            f"no store at {path}: check the path; 'flash-kv load' and 'flash-kv put' make a new one"
        ) from error
    except LockedError as error:
        if error.is_read:
            raise Failure(f"{path} is being read: wait until its readers have closed the store") from error
        holder = (
            f"process {error.holder_pid} on {error.holder_host}" if error.holder_pid else "another process"
        )
        since = f" since {error.holder_started}" if error.holder_started else ""
        raise Failure(f"{path} is locked by {holder}{since}: wait until it has closed the store") from error
