"""docs/client.md: its examples run, its table has every setting with its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from flash_kv.client.settings import Settings
from support.servers import Served

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(server: Served, number: int) -> None:
    server.db.clear()
    exec(compile("import flash_kv\n" + EXAMPLES[number], "docs/client.md", "exec"), {"url": server.url})


def test_every_setting_is_on_the_page_with_its_default() -> None:
    rows = re.findall(r"^\| (`[`\w, ]+`) \| (`[^`]*`)? ?\|", PAGE, re.MULTILINE)
    listed = {name: default.strip("`") for names, default in rows for name in re.findall(r"\w+", names)}
    defaults = {
        field.name: "" if field.default is dataclasses.MISSING else repr(field.default)
        for field in dataclasses.fields(Settings)
    }
    assert listed == defaults
