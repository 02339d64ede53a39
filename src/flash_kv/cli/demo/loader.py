"""The process that the demo kills: `python -m flash_kv.cli.demo.loader STORE ROOT OPTIONS_JSON`.

It puts one file after the other and, after each put has RETURNED, writes the key and a NUL to stdout: what was
read from there was acknowledged. It never closes the store; at the end it waits to be killed, or for its parent
to be gone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import flash_kv
from flash_kv.cli.demo.corpus import files_of

STDOUT = 1


def load(store: Path, root: Path, options: dict[str, Any]) -> None:
    db = flash_kv.open(store, **options)
    for key, content in files_of(root):
        db.put(key, content)
        os.write(STDOUT, key + b"\0")
    sys.stdin.buffer.read()


if __name__ == "__main__":
    load(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
