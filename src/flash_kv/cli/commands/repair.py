"""`flash-kv repair`: salvage a damaged store into a new one."""

from __future__ import annotations

from pathlib import Path

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.opening import STORE_PATH
from flash_kv.cli.output import count_of, print_json, shown

HELP = f"""Copy everything that is whole from the store at SOURCE into a new store at DEST.

SOURCE is not changed. A key whose newest value is known to be lost is left out, never given an
older value. Exit code {ExitCode.NEGATIVE.value} when something was lost."""

KEYS_SHOWN = 20


def _checked(
    context: click.Context, parameter: click.Parameter, codecs: tuple[str, str] | None
) -> tuple[str, str] | None:
    from flash_kv.log.manifest import require_codec_name

    try:
        for name in codecs or ():
            require_codec_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return codecs


@click.command("repair", help=HELP, short_help="Salvage a damaged store into a new one.")
@click.argument("source", type=STORE_PATH)
@click.argument("dest", type=STORE_PATH)
@click.option(
    "--codecs",
    nargs=2,
    metavar="VALUES KEYS",
    callback=_checked,
    help="The names of its codecs, such as json tuple, if its MANIFEST is lost.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
def command(source: Path, dest: Path, codecs: tuple[str, str] | None, is_json: bool) -> ExitCode:
    import flash_kv

    report = flash_kv.repair(source, dest, codecs=codecs)
    is_whole = not report.damages and not report.records_lost and not report.lost_keys
    if is_json:
        print_json({"is_whole": is_whole, **report.as_dict()})
        return ExitCode.OK if is_whole else ExitCode.NEGATIVE
    click.echo(f"{count_of(report.keys, 'key')} salvaged into {report.path} in {report.duration_s:.2f} s")
    for damage in report.damages:
        click.echo(f"damaged: {damage.path} at offset {damage.offset}: {damage.reason}")
    if report.records_lost:
        click.echo(f"lost: {count_of(report.records_lost, 'record')} known to have been in damaged places")
    for key in report.lost_keys[:KEYS_SHOWN]:
        click.echo(f"lost key: {shown(key)}")
    if len(report.lost_keys) > KEYS_SHOWN:
        click.echo(f"and {len(report.lost_keys) - KEYS_SHOWN:,} more lost keys (--json names all)")
    return ExitCode.OK if is_whole else ExitCode.NEGATIVE
