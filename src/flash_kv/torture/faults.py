"""Failing calls: call N to the system, or allocation N of the compiled modules, fails, for N = 1, 2, ... until a
history has fewer than that.

After each: what was acknowledged is readable, at once, in what a kill would leave some steps later, and after
reopening; what was refused is not there; every error is one of the package's, with its place; nothing is left behind
but the store.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flash_kv.engine.db import DB
from flash_kv.errors import CorruptionError, FlashKVError, PoisonedError
from flash_kv.io.faulty import OPERATIONS, Call, Fault, FaultySystem
from flash_kv.io.memory_cy import allow_allocations, refuse_allocation
from flash_kv.io.system import System
from flash_kv.options import Options, parse_durability
from flash_kv.torture.journal import Journal, Kind, State, Violation, short
from flash_kv.torture.operations import KEYS, History
from flash_kv.torture.runs import Run
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from flash_kv.torture.tally import Tally

# Clocks and chance do not fail; free and allocated bytes are for reports.
NEVER_FAIL = {"now_ns", "monotonic_s", "boot_id", "random_bytes", "free_bytes", "allocated_bytes"}
FAILING = tuple(name for name in OPERATIONS if name not in NEVER_FAIL)
CODES = (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR)
STEPS = 25
# Of the calls of a history a run fails one of so many.
STRIDE = 7
STORE = "db"
KILLED = "killed"


@dataclass(frozen=True)
class Plan:
    """Which call or allocation fails, and how."""

    nth: int
    code: int | None
    """What a call raises; None: it is an allocation that finds no memory."""
    is_for_good: bool
    """All after it fail as well."""
    is_short: bool = False
    """A write that fails has written half."""

    def __str__(self) -> str:
        name = "no memory at allocation" if self.code is None else f"{errno.errorcode[self.code]} at call"
        short = ", short writes" if self.is_short else ""
        return f"{name} {self.nth}{' and from then on' if self.is_for_good else ''}{short}"


class Failing(Protocol):
    """What fails by a plan until it is healed."""

    system: System
    failed: list[str]
    """What has failed so far."""
    is_silent: bool
    """What has failed is known at the end only."""

    def begin(self) -> None: ...
    def heal(self) -> None: ...


class FailingCalls:
    """A system with a plan, and which calls it has failed."""

    is_silent = False

    def __init__(self, plan: Plan) -> None:
        self.failed: list[str] = []
        self._plan = plan
        self._seen = 0
        self._faulty = FaultySystem(inner=UNSYNCED)
        self.system: System = self._faulty

    def begin(self) -> None:
        self._faulty.add(*(Fault(name, action=self._act, from_then_on=True) for name in FAILING))

    def heal(self) -> None:
        self._faulty.heal()

    def _act(self, call: Call) -> object:
        plan = self._plan
        self._seen += 1
        if self._seen != plan.nth and not (plan.is_for_good and self._seen > plan.nth):
            return call.proceed()
        self.failed.append(f"{call.operation} {os.path.basename(call.path or '')}".strip())
        if call.operation == "close":
            call.proceed()  # as on Linux: a failed close has closed
        if plan.is_short and call.operation == "write_at":
            with memoryview(call.arguments["data"]).cast("B") as whole:
                call.arguments["data"] = whole[: len(whole) // 2]
                call.proceed()
        code = plan.code or errno.EIO
        raise OSError(code, os.strerror(code), call.path)


class FailingAllocations:
    """Memory that ends by a plan. One at a time in a process."""

    is_silent = True

    def __init__(self, plan: Plan) -> None:
        self.failed: list[str] = []
        self.system: System = UNSYNCED
        self._plan = plan

    def begin(self) -> None:
        refuse_allocation(self._plan.nth, self._plan.is_for_good)

    def heal(self) -> None:
        if allow_allocations() and not self.failed:
            self.failed.append("an allocation")


class FaultRun(Run):
    """The history of one seed, again and again, with another call failing each time."""

    part = "faults"

    def run(self) -> Tally:
        rng = random.Random(f"{self._seed}/plan")
        code, is_for_good = rng.choice((*CODES, None)), rng.random() < 0.5
        is_short = code == errno.ENOSPC and rng.random() < 0.5
        first = rng.randint(1, STRIDE)
        for nth in range(first, 100_000, STRIDE):
            if self._is_over():
                break
            if not self.attempt(Plan(nth, code, is_for_good, is_short)):
                break
        return self.tally

    def attempt(self, plan: Plan) -> bool:
        """One history under `plan`; False when it had fewer calls, so that none failed."""
        calls: Failing = FailingAllocations(plan) if plan.code is None else FailingCalls(plan)
        rng = random.Random(f"{self._seed}/history")
        with self._working() as scratch:
            attempt = _Attempt(calls, self._settings.options(rng), scratch, rng)
            try:
                violations = attempt.run()
            finally:
                calls.heal()
        self.tally.faults += bool(calls.failed)
        self.tally.acknowledged += attempt.acknowledged
        for violation in violations:
            moment = f"{plan} ({calls.failed[0] if calls.failed else 'none failed'})"
            self._record(moment, violation)
        return bool(calls.failed)


class _Attempt:
    """One history with its failing call."""

    def __init__(self, calls: Failing, options: Options, scratch: Path, rng: random.Random) -> None:
        self.acknowledged = 0
        self._calls = calls
        self._options = options
        self._path = scratch / STORE
        self._killed = scratch / KILLED
        # So many steps after a call has failed; an allocation does not tell that it has, so from the beginning.
        self._steps_to_kill = rng.randrange(STEPS if calls.is_silent else STEPS // 3)
        self._rng = rng
        self._violations: list[Violation] = []
        self._in_doubt: State | None = None
        """What may be found as well: a commit was refused and could not be taken back."""
        self._at_kill: list[State] = []
        """What may be found in the copy that stands for the store after a kill."""

    def run(self) -> list[Violation]:
        state: State = {}
        self._calls.begin()
        for steps in (STEPS, 3):
            journal = Journal(state, parse_durability(self._options.durability))
            self._live(journal, steps)
            self.acknowledged += journal.acknowledged
            state = journal.state
        self._calls.heal()
        self._check_killed()
        try:
            with DB(self._path, self._options, UNSYNCED) as db:
                if self._in_doubt is not None and dict(db.items()) == self._in_doubt:
                    state = self._in_doubt
                self._in_doubt = None
                self._compare("reopened", db, state)
        except FlashKVError as error:
            self._wrong(Violation("failed open", str(error)))
        left = [name for name in os.listdir(self._path) if name.startswith("tmp-")]
        if left:
            self._wrong(Violation("other", f"{left[0]} is left behind"))
        return self._violations

    def _kill(self, state: State) -> None:
        """Copy what a kill would leave: nothing runs in the background, and what is mapped is in the files, too."""
        shutil.copytree(self._path, self._killed)
        self._at_kill = [state, *([] if self._in_doubt is None else [self._in_doubt])]

    def _check_killed(self) -> None:
        """A failure and then a kill: what was acknowledged is there all the same."""
        if not self._at_kill:
            return
        try:
            with DB(self._killed, self._options, UNSYNCED) as db:
                if dict(db.items()) not in self._at_kill:
                    self._compare("killed", db, self._at_kill[0])
        except FlashKVError as error:
            self._wrong(Violation("failed open", f"killed: {error}"))

    def _live(self, journal: Journal, steps: int) -> None:
        db = self._open()
        if db is None:
            return
        history = History(db, journal, self._rng, self._report)
        for _ in range(steps):
            self._try(history.step, journal)
            if (self._calls.failed or self._calls.is_silent) and not self._at_kill:
                self._steps_to_kill -= 1
                if self._steps_to_kill < 0:
                    self._kill(journal.state)
        self._compare("before it is closed", db, journal.state)
        for _ in range(4):
            # Once for each snapshot, and for the store; a close that fails has closed.
            self._try(history.end, journal)

    def _open(self) -> DB | None:
        """The store; opened once more when the first attempt fails."""
        for _ in range(2):
            try:
                return open_stepped(self._path, self._options, self._calls.system)
            except (FlashKVError, OSError, MemoryError) as error:
                self._require_clear(error)
        return None

    def _try(self, operation: Callable[[], None], journal: Journal) -> None:
        """An operation that may fail; then its commit is refused, whole."""
        try:
            operation()
        except (FlashKVError, OSError, MemoryError) as error:
            self._require_clear(error)
            if journal.acknowledged < len(journal.states) - 1:
                if isinstance(error, PoisonedError) and error.is_in_doubt:
                    # No write follows it, so there is one such commit at most.
                    self._in_doubt = journal.state
                journal.refuse()

    def _require_clear(self, error: Exception) -> None:
        if isinstance(error, MemoryError):
            return
        if not isinstance(error, FlashKVError):
            self._wrong(Violation("other", f"{error!r} is none of the package's errors"))
        elif not getattr(error, "path", None):
            self._wrong(Violation("other", f"{error!r} does not say where"))
        elif isinstance(error, CorruptionError) and self._in_doubt is None:
            self._wrong(Violation("other", f"told of damage where there is none: {error}"))

    def _compare(self, when: str, db: DB, state: State) -> None:
        try:
            if self._in_doubt is not None:
                # The disk refused half-way to have it taken back: these keys may be damaged until the next open.
                self._compare_apart_from_doubt(when, db, state, self._in_doubt)
                return
            found = dict(db.items())
            is_same = {key: db.get(key) for key in found} == found
        except MemoryError:
            return  # what the store holds, the next open will show
        except FlashKVError as error:
            self._wrong(Violation("other", f"{when}, it cannot be read: {error}"))
            return
        if is_same and found == state:
            return
        missing = [key for key in state if key not in found]
        kind: Kind = "lost" if missing else "resurrected"
        differing = sorted(key for key in {*found, *state} if found.get(key) != state.get(key))
        self._wrong(Violation(kind, f"{when}, {short(differing[0])} is not as acknowledged"))

    def _compare_apart_from_doubt(self, when: str, db: DB, state: State, doubt: State) -> None:
        for key in KEYS:
            if state.get(key) == doubt.get(key) and db.get(key) != state.get(key):
                self._wrong(Violation("lost", f"{when}, {short(key)} is not as acknowledged"))

    def _report(self, violation: Violation) -> None:
        """What the history finds: not known while a commit is in doubt that it takes for refused."""
        if self._in_doubt is None:
            self._wrong(violation)

    def _wrong(self, violation: Violation) -> None:
        self._violations.append(violation)
