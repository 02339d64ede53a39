"""Mixed load on a server for a while, from many connections: no error, no wrong value, no growth of memory.

    python -m benchmarks.http_soak --minutes 10 --connections 200

`flash-kv serve` runs in a process of its own, on a store in a temporary directory; all clients share one event loop
here. Each owns some keys and knows what they hold, so it can foretell every answer: values, lists, conditions, expiry.
Some watch, one too slowly; one compacts, verifies and backs up. At the end the server is stopped, and the store, opened
here, has to hold exactly what the clients know.

Memory that grows: the median of what the server holds by itself (RssAnon) in the last fifth of the time is more than
`--growth-mib` above that of the second fifth. Before the load all keys are written, and the buffers of the server are
filled; the first fifth is left to warm up the rest. With 32 threads the allocator keeps some 100 MiB of free memory in
its arenas, which comes and goes by 15 MiB while what is used stays the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import flash_kv
from benchmarks.soak_onlookers import Steward, Watcher, look_at_live
from benchmarks.soak_owners import Owner
from benchmarks.soak_wire import Tally

START_S = 60.0
STOP_S = 90.0
# What it says at the end of a graceful stop.
STOPPED = "stopped; the store is closed"
WATCHERS_MAX = 8
# Small, so that there is something to compact all the time.
STORE = ("--segment-bytes-max", "16MiB", "--compaction-dead-ratio", "0.6")


class Memory:
    """What a process holds by itself, sampled until the end."""

    def __init__(self, pid: int, interval_s: float) -> None:
        self.pid = pid
        self.interval_s = interval_s
        self.samples_mib: list[float] = []

    async def sample(self) -> None:
        """Until cancelled."""
        while True:
            status = Path(f"/proc/{self.pid}/status").read_text()
            [anonymous_kib] = re.findall(r"RssAnon:\s+(\d+) kB", status)
            self.samples_mib.append(int(anonymous_kib) / 1024)
            await asyncio.sleep(self.interval_s)

    def fifths(self) -> list[float]:
        """The median of each fifth of the time."""
        count = len(self.samples_mib)
        cuts = [count * number // 5 for number in range(6)]
        parts = [self.samples_mib[low:high] for low, high in itertools.pairwise(cuts)]
        return [statistics.median(part) if part else 0.0 for part in parts]

    def growth_mib(self) -> float:
        """From the second fifth to the last."""
        fifths = self.fifths()
        return fifths[-1] - fifths[1]


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """The server and where it listens. Its log is `directory`/log."""
    command = [sys.executable, "-m", "flash_kv.cli", "serve", str(directory / "db")]
    options = ["--http", "127.0.0.1:0", "--backup-directory", str(directory / "backups"), *STORE]
    (directory / "backups").mkdir()
    log = directory / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen([*command, *options], stderr=file, stdout=subprocess.DEVNULL) as process,
    ):
        try:
            deadline = time.monotonic() + START_S
            while not (match := re.search(r"at http://([\d.]+):(\d+);", log.read_text())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the server did not start: {log.read_text()}")
                time.sleep(0.02)
            yield process, (match[1], int(match[2]))
        finally:
            if process.poll() is None:
                process.kill()


async def load(
    tally: Tally, memory: Memory, address: tuple[str, int], backups: Path, arguments: argparse.Namespace
) -> list[Owner]:
    """The whole load; the owners, who know what the store holds."""
    # Two of all are the steward and who looks at the live figures.
    watcher_count = min(WATCHERS_MAX, arguments.connections // 4)
    owner_count = max(arguments.connections - watcher_count - 2, 1)
    owners = [Owner(number, address, tally, arguments.seed) for number in range(owner_count)]
    watchers = [
        Watcher(owners[number % owner_count], tally, is_slow=number == 0) for number in range(watcher_count)
    ]
    seconds = arguments.minutes * 60
    steward = Steward(address, tally, backups, min(15.0, seconds / 8))
    async with contextlib.AsyncExitStack() as ends:
        onlookers = [asyncio.create_task(watcher.run()) for watcher in watchers]
        onlookers.append(asyncio.create_task(look_at_live(address, tally)))
        ends.push_async_callback(_end, onlookers)
        for watcher in watchers:
            await watcher.begun.wait()
        await asyncio.gather(*(owner.warm_up() for owner in owners))
        sampler = asyncio.create_task(memory.sample())
        ends.push_async_callback(_end, [sampler])
        until = time.monotonic() + seconds
        await asyncio.gather(steward.run(until), *(owner.run(until) for owner in owners))
        await _end([sampler])
        for watcher in watchers:
            if not watcher.is_slow:
                await watcher.check()
    for owner in owners:
        await owner.wire.close()
    await _check_connections(steward, tally)
    await steward.wire.close()
    return owners


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def _check_connections(steward: Steward, tally: Tally) -> None:
    """All that were closed are gone: only the steward's is left."""
    deadline = time.monotonic() + START_S
    while (left := await steward.connections()) != 1:
        if time.monotonic() > deadline:
            tally.blame("end", f"the server still has {left} connections")
            return
        await asyncio.sleep(0.05)


def stop(process: subprocess.Popen[bytes], log: Path, tally: Tally) -> None:
    """A graceful stop."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        tally.blame("end", "the server does not stop")
        return
    if code:
        tally.blame("end", f"the server ended with {code}")
    check_log(log.read_text(), tally)


def check_log(text: str, tally: Tally) -> None:
    """It says where the server listens, and that it has stopped; everything else is a complaint."""
    for line in text.splitlines()[1:]:
        if line != STOPPED:
            tally.blame("end", f"the server said: {line}")


def check_store(directory: Path, owners: list[Owner], tally: Tally) -> None:
    """The store holds what the clients know, and is sound."""
    with flash_kv.open(directory) as db:
        if damages := db.verify().damages:
            tally.blame("value", f"the store is damaged: {damages}")
        for owner in owners:
            contents = {key.encode(): value for key, value in owner.contents().items()}
            if dict(db.items(prefix=owner.prefix)) != contents:
                tally.blame("value", f"the store holds something else under {owner.prefix}")


def report(tally: Tally, memory: Memory, seconds: float) -> None:
    kinds = sorted({kind for kind, _ in tally.answers})
    print(f"{'':17}{'requests':>9}  {'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}  answers")
    for kind in kinds:
        statuses = {status: count for (name, status), count in tally.answers.items() if name == kind}
        said = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
        times = "".join(f"{tally.quantile_ms(kind, share):8.2f}" for share in (0.5, 0.99, 1.0))
        print(f"{kind:17}{sum(statuses.values()):9,}  {times}  {said}")
    for note, count in sorted(tally.notes.items()):
        print(f"{note}: {count:,}")
    total = tally.answers.total()
    print(f"{total:,} requests in {seconds:.0f} s, {total / seconds:,.0f}/s")
    fifths = ", ".join(f"{median:.1f}" for median in memory.fifths())
    print(f"memory (RssAnon), medians of the fifths: {fifths} MiB; growth {memory.growth_mib():+.1f} MiB")
    for line in tally.shown:
        print(line, file=sys.stderr)
    said = ", ".join(f"{count} x {what}" for what, count in tally.problems.items())
    print(f"FAILED: {said}" if said else "no error, no wrong value, no growth")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--growth-mib", type=float, default=24.0, help="so much is noise of the allocator [24]"
    )
    parser.add_argument("--directory", type=Path, help="where the temporary directory is made")
    arguments = parser.parse_args(words)
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        directory = Path(name)
        with serving(directory) as (process, address):
            memory = Memory(process.pid, min(1.0, arguments.minutes * 60 / 50))
            owners = asyncio.run(load(tally, memory, address, directory / "backups", arguments))
            seconds = time.monotonic() - began
            stop(process, directory / "log", tally)
        check_store(directory / "db", owners, tally)
    if memory.growth_mib() > arguments.growth_mib:
        tally.blame("memory", f"it grew by {memory.growth_mib():.1f} MiB")
    report(tally, memory, seconds)
    return 1 if tally.problems else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
