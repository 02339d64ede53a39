"""`flash-kv serve`: a store over HTTP, until it is told to stop."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flash_kv.cli.exits import ExitCode, Failure
from flash_kv.cli.flags import Command, FieldOption, field_options
from flash_kv.cli.opening import DECIDED_BY_THE_COMMAND, STORE_PATH, StoreCommand, open_store
from flash_kv.cli.output import notice
from flash_kv.options import Options
from flash_kv.server.settings import ServerSettings

if TYPE_CHECKING:
    from flash_kv.server.service import Service

HELP = """Serve the store at PATH over HTTP; it is made when there is none.

Every setting can also be a variable, FLASH_KV_HTTP for --http and FLASH_KV_STORE_INDEX for --index, or stand in the
TOML file of --config: [server] has the server settings, [store] the store options, named as the flags with _ for -.
A flag goes before a variable, a variable before the file.

SIGTERM or Ctrl-C stops it: no new connections, requests in flight finish, the store is closed clean."""

# The group of flags that a table of the file stands for.
TABLES = {"server": "server", "store": "store"}

server_settings: Callable[[Command], Command] = field_options(
    ServerSettings, "server", "settings", environment="FLASH_KV_"
)
store_options: Callable[[Command], Command] = field_options(
    Options, "store", "options", left_out=DECIDED_BY_THE_COMMAND, environment="FLASH_KV_STORE_"
)


def read_config(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Take the file's values as defaults of the flags; `click.UsageError` for one that is none."""
    if path is None:
        return
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}", ctx) from error
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}", ctx) from error
    known = {option.name for option in ctx.command.params if isinstance(option, FieldOption)}
    defaults: dict[str, Any] = {}
    for table, values in tables.items():
        if table not in TABLES or not isinstance(values, dict):
            raise click.UsageError(f"{path}: {table!r} is none of [server] and [store]", ctx)
        for name, value in values.items():
            if f"{TABLES[table]}_{name}" not in known:
                raise click.UsageError(f"{path}: there is no setting {name!r} in [{table}]", ctx)
            defaults[f"{TABLES[table]}_{name}"] = value
    ctx.default_map = defaults


@click.command("serve", cls=StoreCommand, help=HELP, short_help="Serve a store over HTTP.")
@click.argument("path", type=STORE_PATH)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=read_config,
    envvar="FLASH_KV_CONFIG",
    help="A TOML file with settings.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not say where it listens.")
@server_settings
@store_options
def command(path: Path, quiet: bool, settings: dict[str, Any], options: dict[str, Any]) -> ExitCode:
    checked = ServerSettings(**settings)
    _require_server()
    from flash_kv.server.logs import logging_to_stderr
    from flash_kv.server.process import check_files, serve
    from flash_kv.server.service import Service

    check_files(checked)
    with logging_to_stderr(checked), open_store(path, options, create=True) as db:
        service: Service = Service(db, checked)
        try:
            serve(service, lambda url: None if quiet else notice(f"serving {path} at {url}; Ctrl-C stops it"))
        finally:
            service.close()
    if not quiet:
        notice("stopped; the store is closed")
    return ExitCode.OK


def _require_server() -> None:
    try:
        import httptools  # noqa: F401
        import uvicorn  # noqa: F401
        import uvloop  # noqa: F401
    except ModuleNotFoundError as missing:
        raise Failure(
            f"the server needs the package {missing.name!r}: pip install 'flash-kv[server]'", ExitCode.USAGE
        ) from missing
