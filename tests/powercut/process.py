"""A store at work in a process of its own, and what it has said by the time it is cut.

`python process.py DIRECTORY SEED STEPS` opens the store, says that it is ready, and then after each step that it has
returned. Requires: PYTHONPATH names the package and the folder above this one.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

from flash_kv import DB, FlashKVError
from flash_kv.torture.journal import Journal, State, Violation
from powercut.commits import enter, judge, live, options, steps
from powercut.commits import journal as journal_of
from powercut.mounts import mounted
from powercut.tally import Tally

SCRIPT = Path(__file__).absolute()
# More than any store does before it is cut.
STEPS = 1_000_000
MARK = "step "
READY = "ready"


def python_path() -> str:
    """This process's, for another one."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)


def listen(fd: int, word: str | None, ends: float) -> str:
    """What comes until `word`, or until the time is over, or nobody is left to speak."""
    text = ""
    while (left := ends - time.monotonic()) > 0 and (word is None or word not in text):
        if select.select([fd], [], [], left)[0]:
            piece = os.read(fd, 65536)
            if not piece:
                break
            text += piece.decode("utf-8", "replace")
    return text


def hear_out(process: subprocess.Popen[bytes]) -> str:
    """What a process that was ended had said and nobody had read."""
    process.wait()
    assert process.stdout is not None
    with process.stdout as pipe:
        return pipe.read().decode("utf-8", "replace")


def last_step(text: str) -> int:
    """The last of the steps that were said to have returned."""
    lines = text.splitlines(keepends=True)
    whole = [line for line in lines if line.startswith(MARK) and line.endswith("\n")]
    return int(whole[-1].removeprefix(MARK)) if whole else 0


def journal_after(seed: int, base: State, done: int) -> Journal:
    """Of a store that has done so many steps. One more is begun: the cut may have come after its commit, before the
    process said so."""
    journal = journal_of(seed, base)
    for number, step in zip(range(done + 1), steps(seed), strict=False):
        if step.writes:
            journal.begin(step.writes)
        if number < done:
            enter(journal, step)
    return journal


def judge_image(
    file_system: str, image: Path, scratch: Path, seed: int, journal: Journal, promised: int, where: str
) -> tuple[State, Tally]:
    """Mount what was cut, and judge its store, of which so many commits were promised; what that holds."""
    tally = Tally(states=1, acknowledged=journal.acknowledged)
    found: State = {}
    violation: Violation | None
    try:
        with mounted(file_system, image, scratch / "cut") as directory:
            found, violation = judge(directory / "db", seed, journal, promised)
    except FlashKVError as error:
        violation = Violation("failed open", f"{type(error).__name__}: {error}")
    if violation is not None:
        tally.record(f"{where}, {file_system}, seed {seed}", violation)
    return found, tally


def _main(directory: str, seed: str, count: str) -> None:
    def tell(number: int) -> None:
        os.write(1, f"{MARK}{number}\n".encode())

    with DB(Path(directory), options(int(seed))) as db:
        os.write(1, f"{READY}\n".encode())
        live(db, int(seed), int(count), journal_of(int(seed), {}), tell)


if __name__ == "__main__":
    _main(*sys.argv[1:])
