"""Runs the loading process, kills it hard about half-way, and keeps what it had acknowledged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flash_kv.cli.demo.corpus import Corpus
from flash_kv.cli.exits import Failure
from flash_kv.cli.progress import Bar

# A small pipe keeps the child at most so many acknowledgements ahead of the parent that kills it.
PIPE_BYTES = 4096
READ_BYTES = 65536
KILL_SHARE = (0.4, 0.6)
KILL_DELAY_S = 0.002


def load_and_kill(store: Path, corpus: Corpus, options: dict[str, Any], bar: Bar) -> list[bytes]:
    """The keys whose put had returned in the child before SIGKILL ended it, in order."""
    command = [sys.executable, "-m", "flash_kv.cli.demo.loader", str(store), str(corpus.root)]
    # The child's errors go to a file: a pipe that nobody reads until the end could block it.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*command, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            pipesize=PIPE_BYTES,
        )
        with process:
            try:
                acknowledged = _follow(process, corpus, bar)
            finally:
                process.kill()
        if process.returncode != -signal.SIGKILL:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip().splitlines() or ["nothing said"]
            raise Failure(f"the loading process ended by itself with {process.returncode}: {said[-1]}")
    return acknowledged


def _follow(process: subprocess.Popen[bytes], corpus: Corpus, bar: Bar) -> list[bytes]:
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    kill_at = max(1, int(random.uniform(*KILL_SHARE) * len(corpus.sizes)))
    acknowledged: list[bytes] = []
    rest, done, is_killed = b"", 0, False
    while piece := os.read(pipe, READ_BYTES):
        *keys, rest = (rest + piece).split(b"\0")
        acknowledged += keys
        done += sum(corpus.sizes.get(key, 0) for key in keys)
        bar.show(done, records=len(acknowledged))
        if len(acknowledged) >= kill_at and not is_killed:
            time.sleep(random.uniform(0, KILL_DELAY_S))
            process.kill()
            is_killed = True
    return acknowledged
