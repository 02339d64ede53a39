"""`flash-kv serve` and `flash-kv token`, as far as no server has to run for it (tests/server has the rest)."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from flash_kv.cli.commands import serve
from flash_kv.cli.flags import FieldOption
from flash_kv.options import Options
from flash_kv.server.settings import ServerSettings


def test_every_setting_is_a_flag_and_a_variable_and_no_other() -> None:
    options = [option for option in serve.command.params if isinstance(option, FieldOption)]
    settings = {field.name for field in dataclasses.fields(ServerSettings)}
    store = {field.name for field in dataclasses.fields(Options)} - {"read_only", "create"}
    assert {option.name for option in options} == {
        *(f"server_{name}" for name in settings),
        *(f"store_{name}" for name in store),
    }
    assert {option.envvar for option in options} == {
        *(f"FLASH_KV_{name.upper()}" for name in settings),
        *(f"FLASH_KV_STORE_{name.upper()}" for name in store),
    }


def test_the_help_shows_settings_and_store_options_apart(run) -> None:
    text = " ".join(run("serve", "--help").text.split())
    own, _, rest = text.partition("Server settings (see docs/http.md):")
    server, _, store = rest.partition("Store options (see flash_kv.Options):")
    assert "--config" in own
    assert "--http TEXT Where to listen for HTTP: HOST:PORT, [IPv6]:PORT" in server
    assert "[64MiB]" in server
    assert "--index [hash|btree|skiplist|bptree]" in store


def test_a_server_without_its_packages_says_what_to_install(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = run("serve", "db")
    assert outcome.code == 2
    assert "pip install 'flash-kv[server]'" in outcome.stderr


def test_tokens_are_added_listed_and_removed(run, tmp_path: Path) -> None:
    added = run("token", "tokens", "one", "--scope", "read", "--scope", "write", "--prefix", "a/")
    assert added.code == 0
    assert added.text.startswith("fkv_one_")
    assert run("token", "tokens", "two", "--scope", "admin").code == 0
    assert run("token", "tokens").text == "one\tread,write\ta/\ntwo\tadmin\n"
    assert added.text.strip().rpartition("_")[2] not in (tmp_path / "tokens").read_text()
    assert run("token", "tokens", "one", "--remove").code == 0
    assert run("token", "tokens", "one", "--remove").code == 1
    assert run("token", "tokens").text == "two\tadmin\n"


def test_a_prefix_may_be_any_bytes(run) -> None:
    assert run("token", "tokens", "one", "--scope", "read", "--hex", "--prefix", "ff00").code == 0
    assert run("token", "tokens").text == "one\tread\t\\xff\0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scope", "read"),
        ("--remove",),
        ("one",),
        ("one", "--remove", "--scope", "read"),
        ("a_b", "--scope", "read"),
        ("one", "--scope", "admin", "--prefix", "a"),
        ("one", "--scope", "root"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert run("token", "tokens", *arguments).code == 2
    assert not (tmp_path / "tokens").exists()
