"""`flash-kv token`: who may use a server: add, list and remove the tokens of a file."""

from __future__ import annotations

from pathlib import Path

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.keys import KeyCoding, coding_options
from flash_kv.cli.output import notice
from flash_kv.server.auth import SCOPES, add_token, read_tokens, remove_token

HELP = """Add, list or remove tokens of FILE, which 'flash-kv serve --token-file FILE' asks for.

\b
  flash-kv token FILE                    list them
  flash-kv token FILE NAME --scope read  add one, and print it: it is kept nowhere else
  flash-kv token FILE NAME --remove      remove it; a running server knows within a second"""


@click.command("token", help=HELP, short_help="Add, list and remove tokens for the server.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("name", required=False)
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="What it may do; may be repeated."
)
@click.option(
    "--prefix", "prefixes", multiple=True, metavar="KEY", help="Only keys that begin so; may be repeated."
)
@click.option("--remove", "is_removed", is_flag=True, help="Remove the token NAME.")
@coding_options
def command(
    file: Path,
    name: str | None,
    scopes: tuple[str, ...],
    prefixes: tuple[str, ...],
    is_removed: bool,
    coding: KeyCoding,
) -> ExitCode:
    if name is None:
        if scopes or prefixes or is_removed:
            raise click.UsageError("say which token: NAME")
        return _show(file)
    if is_removed:
        if scopes or prefixes:
            raise click.UsageError("choose one of --remove and --scope")
        is_done = remove_token(file, name)
        if not is_done:
            notice(f"there is no token {name!r} in {file}")
        return ExitCode.OK if is_done else ExitCode.NEGATIVE
    if not scopes:
        raise click.UsageError("say what it may do: --scope read, --scope write, --scope admin")
    click.echo(add_token(file, name, scopes, [coding.decode(prefix) for prefix in prefixes]))
    notice("keep it: the file has only its hash")
    return ExitCode.OK


def _show(file: Path) -> ExitCode:
    for token in read_tokens(file).values():
        grant = token.grant
        held = [prefix.decode("utf-8", "backslashreplace") for prefix in grant.prefixes]
        scopes = ",".join(scope for scope in SCOPES if scope in grant.scopes)
        click.echo("\t".join([grant.name, scopes, *held]))
    return ExitCode.OK
