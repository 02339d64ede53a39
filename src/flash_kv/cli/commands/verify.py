"""`flash-kv verify`: read and check every byte of a store without changing any."""

from __future__ import annotations

from pathlib import Path

import click

from flash_kv.cli.exits import ExitCode, Failure
from flash_kv.cli.opening import STORE_PATH
from flash_kv.cli.output import count_of, print_json, size
from flash_kv.errors import StoreNotFoundError

HELP = f"""Read every segment, hint file and the manifest, and check every record.

Nothing is changed. Exit code {ExitCode.NEGATIVE.value} when there is damage; each damaged place is named."""


@click.command("verify", help=HELP, short_help="Check every byte of a store.")
@click.argument("path", type=STORE_PATH)
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
def command(path: Path, is_json: bool) -> ExitCode:
    import flash_kv

    try:
        report = flash_kv.verify(path)
    except StoreNotFoundError as error:
        raise Failure(f"no store at {path}: check the path", ExitCode.STORE) from error
    if is_json:
        print_json({"is_ok": report.is_ok, **report.as_dict()})
    else:
        click.echo(
            f"{count_of(report.segments, 'segment')}, {count_of(report.records, 'record')}, "
            f"{size(report.bytes_checked)} checked in {report.duration_s:.2f} s"
        )
        if report.torn_tail_bytes:
            click.echo(
                f"torn tail of {size(report.torn_tail_bytes)}: never acknowledged as durable, no damage"
            )
        for damage in report.damages:
            extent = f", {size(damage.size)}" if damage.size else ""
            click.echo(f"damaged: {damage.path} at offset {damage.offset}{extent}: {damage.reason}")
        if report.damages:
            click.echo(f"salvage what is whole: flash-kv repair {path} NEW_DIRECTORY")
        else:
            click.echo("no damage")
    return ExitCode.OK if report.is_ok else ExitCode.NEGATIVE
