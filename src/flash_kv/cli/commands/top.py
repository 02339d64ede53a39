"""`flash-kv top`: the figures of a running server in the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import click

from flash_kv.cli.exits import ExitCode, Failure

HELP = """Show what the server at URL does, second by second: requests, latencies, bytes, segments, compaction.

A token is read from --token-file or from the variable FLASH_KV_TOKEN; it has to have the scope read. Keys: q quits, p
pauses."""
TOKEN_BYTES_MAX = 4096


@click.command("top", help=HELP, short_help="Show what a server does, live.")
@click.argument("url", default="http://127.0.0.1:7380")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file with the token, and nothing else in it.",
)
def command(url: str, token_file: Path | None) -> ExitCode:
    checked = _checked(url)
    token = _token(token_file)
    try:
        from flash_kv.cli.top.feed import live_figures
        from flash_kv.cli.top.screen import Top
    except ModuleNotFoundError as missing:
        raise Failure(
            f"top needs the package {missing.name!r}: pip install 'flash-kv[top]'", ExitCode.USAGE
        ) from missing
    refusal = Top(lambda: live_figures(checked, token), checked).run()
    if refusal is not None:
        raise Failure(f"{checked}: {refusal}")
    return ExitCode.OK


def _checked(url: str) -> str:
    """The URL of the server without a path of its own."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise click.BadParameter(
            f"{url!r} is no URL of a server; write http://127.0.0.1:7380", param_hint="URL"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("FLASH_KV_TOKEN") or None
    with file.open("rb") as opened:
        text = opened.read(TOKEN_BYTES_MAX + 1).strip()
    if not text or len(text) > TOKEN_BYTES_MAX or not text.isascii() or len(text.split()) != 1:
        raise click.BadParameter(f"{file} has not one token in it", param_hint="--token-file")
    return text.decode("ascii")
