"""`flash-kv serve` as a process of its own, to be signalled and killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import flash_kv

DEADLINE_S = 60.0


@dataclass
class ServerProcess:
    """A running server; made by `serving`."""

    process: subprocess.Popen[str]
    url: str
    notices: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def wait(self) -> int:
        """Its exit code; what it said is in `notices` then."""
        _, said = self.process.communicate(timeout=DEADLINE_S)
        self.notices += said.splitlines()
        return self.process.returncode


def environment(**more: str) -> dict[str, str]:
    """This process's, with the package that is tested to be found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLASH_KV_")}
    return {**kept, "PYTHONPATH": str(Path(flash_kv.__file__).parents[1]), **more}


@contextlib.contextmanager
def serving(path: Path, *arguments: str, **variables: str) -> Iterator[ServerProcess]:
    """A server of `path` at a free port; it is killed when the block ends and it still runs."""
    command = [sys.executable, "-m", "flash_kv.cli", "serve", str(path), "--http", "127.0.0.1:0", *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment(**variables)
    ) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            match = re.search(r"at (https?://\S+);", first)
            assert match is not None, first + process.stderr.read()
            yield ServerProcess(process, match[1], [first])
        finally:
            if process.poll() is None:
                process.kill()
