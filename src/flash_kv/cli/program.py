"""The click group `flash-kv`: its commands, loaded when they are named, and the one error boundary.

Invariant: whatever a command raises leaves here as one line on stderr and one `ExitCode`; a traceback is
shown only with `FLASH_KV_DEBUG=1`.
"""

from __future__ import annotations

import importlib
import io
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from flash_kv.cli.exits import ExitCode, Failure, InputError
from flash_kv.cli.output import silence_stdout

COMMANDS = (
    "load",
    "dump",
    "get",
    "put",
    "delete",
    "scan",
    "count",
    "stats",
    "compact",
    "verify",
    "repair",
    "backup",
    "serve",
    "token",
    "top",
    "torture",
    "bench",
    "demo",
)

HELP = """A durable key-value store in a directory: load it, look into it, look after it."""

EPILOG = """\b
Exit codes:
  0    done
  1    a negative answer: key missing, damages found, rows skipped
  2    wrong usage
  3    the store or the system refused: locked, corrupt, full
  4    bad input, or a record the output format cannot hold
  130  interrupted (Ctrl-C)
  141  the reader of the output went away

Set FLASH_KV_DEBUG=1 to see the traceback behind an error."""


class Program(click.Group):
    """A group that imports `flash_kv.cli.commands.<name>` on demand and ends with an `ExitCode`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"flash_kv.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        # click turns EPIPE into exit code 1; it is caught here first, where it can only be about stdout.
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            silence_stdout()
            return ExitCode.PIPE

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run and leave by `SystemExit`, whatever happened."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A path need not be UTF-8; shown escaped, as stderr does it by itself, and valid inside JSON.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            result = super().main(args, prog_name or "flash-kv", complete_var, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one boundary, which reports it
            sys.exit(int(report(error)))
        sys.exit(int(result or ExitCode.OK))


def show_version(ctx: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    """Print the version of the package and of Python, and leave."""
    if not is_wanted or ctx.resilient_parsing:
        return
    import flash_kv

    click.echo(f"flash-kv {flash_kv.__version__}, Python {platform.python_version()}")
    ctx.exit()


@click.command(
    "flash-kv",
    cls=Program,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show it."
)
def program() -> None:
    """The options of the group itself; everything else is in its commands."""


def run(arguments: Sequence[str] | None = None) -> int:
    """`program` as a function: the exit code instead of `SystemExit`."""
    try:
        program.main(list(arguments) if arguments is not None else None)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ExitCode.OK)


def report(error: BaseException) -> ExitCode:
    """Say on stderr what went wrong, in one line, and give the exit code that belongs to it."""
    if os.environ.get("FLASH_KV_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    message, code = describe(error)
    if message:
        click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def describe(error: BaseException) -> tuple[str, ExitCode]:
    """The text and the exit code of an error; an empty text says nothing needs saying."""
    from flash_kv import errors

    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "flash-kv"
            return f"{error.format_message().rstrip('.')} (see '{command} --help')", ExitCode.USAGE
        case click.ClickException():
            return error.format_message(), ExitCode.USAGE
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", ExitCode.INTERRUPTED
        case Failure():
            return str(error), error.code
        case InputError():
            return str(error), ExitCode.INPUT
        case (
            errors.OptionsError()
            | errors.UnorderedIndexError()
            | errors.KeySizeError()
            | errors.ValueSizeError()
        ):
            return str(error), ExitCode.USAGE
        case errors.FlashKVError():
            return str(error), ExitCode.STORE
        case OSError():
            where = (
                error.filename if error.filename is not None else "reading the input or writing the output"
            )
            return f"{where}: {error.strerror or error}", ExitCode.STORE
    return f"unexpected {type(error).__name__}: {error} (FLASH_KV_DEBUG=1 shows where)", ExitCode.STORE
