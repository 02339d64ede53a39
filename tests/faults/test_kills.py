"""Killed in the middle of anything: what was acknowledged is there, a batch is whole or not there at all.

The kill comes before calls to the operating system in turn, of a history every 19th and of an open every 7th, from
one of chance, and at moments of chance while threads write and compaction runs. FLASH_KV_TEST_KILLS=1000 makes it that
many kills at moments of chance instead of a few, and tries every call.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flash_kv.io.faulty import Fault, FaultySystem
from support.processes import Report, forked, run_forked
from support.workload import UNSYNCED, content, difference, history, model_after, open_with

KILLS = int(os.environ.get("FLASH_KV_TEST_KILLS", "0"))
KINDS = [("mmap", "btree"), ("file", "hash"), ("mmap", "skiplist"), ("mmap", "bptree")]
CLOCKS = {"now_ns", "monotonic_s", "boot_id", "random_bytes"}


def killing_system(nth: int) -> FaultySystem:
    """SIGKILL before the nth call, whichever it is."""
    return FaultySystem(Fault("*", nth=nth, action="kill"), inner=UNSYNCED)


def run_until_killed(path: Path, nth: int, **options: str) -> tuple[int, bool]:
    """How many steps of the history were acknowledged, and whether it was killed before its end."""
    steps = history()

    def body(report: Report) -> None:
        db = open_with(path, killing_system(nth), **options)
        report(b"opened")
        for step in steps:
            step.run(db)
            report(b"done")
        db.close()
        report(b"closed")

    messages, status = run_forked(body)
    assert status in (0, -signal.SIGKILL)
    return messages.count(b"done"), status != 0


def check_prefix(path: Path, done: int, **options: str) -> str:
    """What is wrong: the store must hold the acknowledged steps, and the one that was going on wholly or not at all."""
    steps = history()
    with open_with(path, **options) as db:
        found = content(db)
        db.put(b"goes", b"on")
    faults = [difference(found, model_after(steps[:count])) for count in (done, min(done + 1, len(steps)))]
    return "" if "" in faults else faults[0]


@pytest.mark.parametrize(("io", "index"), KINDS)
def test_a_kill_before_any_call_loses_nothing(
    tmp_path: Path, io: str, index: str, rng: random.Random
) -> None:
    wrong = []
    stride = 1 if KILLS else 19
    nth = rng.randint(1, stride)
    is_killed = True
    while is_killed:
        path = tmp_path / f"db{nth}"
        done, is_killed = run_until_killed(path, nth, io=io, index=index)
        fault = check_prefix(path, done, io=io, index=index)
        if fault:
            wrong.append(f"killed before call {nth}, after {done} steps: {fault}")
        shutil.rmtree(path)
        nth += stride
    assert nth > 100
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def killed_store(path: Path, **options: str) -> int:
    """A store whose writer was killed with two segments unsealed; how many steps it acknowledged."""
    steps = [step for step in history() if step.name not in ("compact", "sync")]

    def body(report: Report) -> None:
        db = open_with(path, UNSYNCED, **options)
        db._maintenance._is_stopping = True  # nobody seals what is full
        for step in steps:
            step.run(db)
        report(b"done")
        os.kill(os.getpid(), signal.SIGKILL)

    messages, status = run_forked(body)
    assert (messages, status) == ([b"done"], -signal.SIGKILL)
    return len(steps)


@pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "again-and-again"])
@pytest.mark.parametrize(("io", "index"), KINDS)
def test_an_open_killed_before_any_call_can_be_repeated(
    tmp_path: Path, io: str, index: str, is_repeated: bool, rng: random.Random
) -> None:
    original = tmp_path / "original"
    killed_store(original, io=io, index=index)
    wanted = model_after([step for step in history() if step.writes])
    wrong = []
    path = tmp_path / "db"
    stride = 1 if KILLS else 7
    first = rng.randint(1, stride)
    for nth in range(first, 1000, stride):
        if nth == first or not is_repeated:
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(original, path)

        def body(report: Report, nth: int = nth) -> None:
            open_with(path, killing_system(nth), io=io, index=index)
            report(b"opened")
            os._exit(0)

        _, status = run_forked(body)
        if not is_repeated or status == 0:
            with open_with(path, io=io, index=index) as db:
                fault = difference(content(db), wanted)
            if fault:
                wrong.append(f"killed before call {nth} of the open: {fault}")
        if status == 0:
            break
    assert nth > 10
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


# Moments of chance


def writer(path: Path, seed: int, **options: object) -> Callable[[Report], None]:
    """Two threads write numbered versions of their own keys, in puts, batches and deletes, until they are killed."""

    def body(report: Report) -> None:
        db = open_with(
            path, UNSYNCED, compaction="auto", compaction_interval_s=0.005, compaction_dead_bytes=0, **options
        )

        def work(thread: int) -> None:
            rng = random.Random(f"{seed}/{thread}")
            version = 0
            while True:
                version += 1
                keys = [f"{thread}/{rng.randrange(150)}" for _ in range(rng.choice([1, 1, 1, 8]))]
                kind = "delete" if len(keys) == 1 and rng.random() < 0.2 else "put"
                report(json.dumps(["begin", kind, version, keys]).encode())
                if kind == "delete":
                    db.delete(keys[0])
                elif len(keys) == 1:
                    db.put(keys[0], value_of(version))
                else:
                    db.put_many([(key, value_of(version)) for key in keys])
                report(json.dumps(["done", kind, version, keys]).encode())

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return body


def value_of(version: int) -> bytes:
    return b"%d " % version * (version % 300 + 1)


def check_versions(path: Path, messages: list[bytes], **options: object) -> str:
    """Each key has what its last acknowledged write gave it, or what the one that was going on would."""
    acknowledged: dict[str, bytes | None] = {}
    going_on: dict[str, dict[str, bytes | None]] = {}
    for message in messages:
        state, kind, version, keys = json.loads(message)
        thread = keys[0].partition("/")[0]
        writes = dict.fromkeys(keys, None if kind == "delete" else value_of(version))
        if state == "begin":
            going_on[thread] = writes
        else:
            acknowledged.update(writes)
            going_on[thread] = {}
    with open_with(path, UNSYNCED, **options) as db:
        found = {key.decode(): value for key, value in content(db).items()}
    wrong = []
    for writes in going_on.values():
        # All of a batch or none of it: where one key has the new value all have.
        if any(found.get(key) == value != acknowledged.get(key) for key, value in writes.items()):
            acknowledged.update(writes)
    for key, value in acknowledged.items():
        if found.get(key) != value:
            wrong.append(f"{key}: {str(found.get(key))[:20]} in place of {str(value)[:20]}")
    wrong += [f"{key}: not deleted, {str(found[key])[:20]}" for key in found if acknowledged.get(key) is None]
    return "; ".join(wrong[:5])


def test_a_kill_at_any_moment_of_writes_and_compactions_loses_nothing(
    tmp_path: Path, io: str, index: str, rng: random.Random
) -> None:
    for number in range(KILLS or 5):
        path = tmp_path / f"db{number}"
        for _ in range(2):  # the second run goes on with what the first has left
            with forked(writer(path, rng.randrange(2**32), io=io, index=index)) as child:
                threading.Timer(rng.uniform(0.02, 0.25), child.kill).start()
                messages = list(child.messages())
                assert child.was_killed
            break
        assert (fault := check_versions(path, messages, io=io, index=index)) == "", fault
        shutil.rmtree(path)
