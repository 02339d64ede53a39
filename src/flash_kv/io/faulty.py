"""A `System` that fails on plan: call N of an operation, once or from then on, as the plan says.

    system = FaultySystem(Fault("sync_data", nth=3), Fault("write_at", action="short", path_contains=".seg"))

It stands in front of another System, counts every call, remembers which path a descriptor belongs to, and
consults its faults in order: the first one that is due decides. The wrappers are generated from System's
public methods, so an operation added there is covered here without a word.

Bytes stored into a mapping pass no System, here as there.
"""

from __future__ import annotations

import errno as errno_codes
import functools
import inspect
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from flash_kv.io.system import REAL, System

ANY_OPERATION = "*"


@dataclass(frozen=True)
class Call:
    """One call on its way, as a fault's own action sees it."""

    operation: str
    path: str | None
    """What it is about: the path given, the path of the descriptor, "src -> dst", or None (clocks)."""
    arguments: dict[str, Any]
    proceed: Callable[[], Any]
    """Do what was asked for, on the System behind; returns what it returns."""


Action = Literal["fail", "short", "kill", "delay"] | Callable[[Call], object]


@dataclass(frozen=True)
class Fault:
    """One rule: what happens to the `nth` (from 1) call of `operation`, counted among the calls it matches.

    - "fail" raises OSError(errno) and does nothing else; a failed close has closed, as on Linux.
    - "short" (write_at) writes half of the data, then raises.
    - "kill" ends the process by SIGKILL, before the call.
    - "delay" sleeps `delay_s`, then proceeds.
    - a callable gets the Call; what it returns or raises is the outcome, `call.proceed()` included.
    """

    operation: str
    nth: int = 1
    errno: int | None = None
    """Default: ENOSPC for "short", else EIO."""
    action: Action = "fail"
    from_then_on: bool = False
    path_contains: str | None = None
    delay_s: float = 0.01

    def __post_init__(self) -> None:
        if self.operation != ANY_OPERATION and self.operation not in OPERATIONS:
            raise ValueError(f"System has no operation {self.operation!r}, only {', '.join(OPERATIONS)}")
        if self.nth < 1:
            raise ValueError(f"nth counts from 1, not {self.nth}")
        if not callable(self.action) and self.action not in ("fail", "short", "kill", "delay"):
            raise ValueError(f"unknown action {self.action!r}")
        if self.action == "short" and self.operation != "write_at":
            raise ValueError(f"only write_at can be short, not {self.operation}")

    def matches(self, operation: str, path: str | None) -> bool:
        if self.operation not in (ANY_OPERATION, operation):
            return False
        return self.path_contains is None or (path is not None and self.path_contains in path)

    def is_due(self, count: int) -> bool:
        return count == self.nth or (self.from_then_on and count > self.nth)


@dataclass
class _Rule:
    fault: Fault
    count: int = field(default=0)


class FaultySystem(System):
    """`inner` with faults. May be used from any number of threads."""

    def __init__(self, *faults: Fault, inner: System = REAL, is_tracing: bool = False) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()
        """Calls per operation, failed ones included."""
        self.trace: list[tuple[str, str | None]] = []
        """Every call in order, when `is_tracing`."""
        self.is_tracing = is_tracing
        self.open_paths: dict[int, str] = {}
        """The path of every descriptor opened here and not yet closed."""
        self._rules = [_Rule(fault) for fault in faults]
        # Guards all of the above; innermost lock, never held across a call to `inner` or an action.
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """More rules; each counts from now on."""
        with self._lock:
            self._rules.extend(_Rule(fault) for fault in faults)

    def heal(self) -> None:
        """Drop all rules; counts, trace and descriptors stay."""
        with self._lock:
            self._rules.clear()

    def _intercept(self, operation: str, arguments: dict[str, Any]) -> Any:
        with self._lock:
            path = self._path(arguments)
            self.calls[operation] += 1
            if self.is_tracing:
                self.trace.append((operation, path))
            fault = self._due(operation, path)
            if operation == "close":
                # Before the close: the number is free for another thread's open right after it.
                self.open_paths.pop(arguments["fd"], None)

        def proceed() -> Any:
            return getattr(self.inner, operation)(**arguments)

        result = proceed() if fault is None else _carry_out(fault, Call(operation, path, arguments, proceed))
        if operation == "open":
            with self._lock:
                self.open_paths[result] = os.fspath(arguments["path"])
        return result

    def _path(self, arguments: dict[str, Any]) -> str | None:
        if "src" in arguments:
            return f"{os.fspath(arguments['src'])} -> {os.fspath(arguments['dst'])}"
        if "path" in arguments:
            return str(os.fspath(arguments["path"]))
        return self.open_paths.get(arguments["fd"]) if "fd" in arguments else None

    def _due(self, operation: str, path: str | None) -> Fault | None:
        """Requires: lock held. Counts the call on all rules that match, also behind the one that is due."""
        due: Fault | None = None
        for rule in self._rules:
            if rule.fault.matches(operation, path):
                rule.count += 1
                if due is None and rule.fault.is_due(rule.count):
                    due = rule.fault
        return due


def _carry_out(fault: Fault, call: Call) -> Any:
    if callable(fault.action):
        return fault.action(call)
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.action == "delay":
        time.sleep(fault.delay_s)
        return call.proceed()
    code = fault.errno
    if fault.action == "short":
        code = errno_codes.ENOSPC if code is None else code
        data = call.arguments["data"]
        with memoryview(data).cast("B") as whole:
            call.arguments["data"] = whole[: len(whole) // 2]
            call.proceed()
    elif call.operation == "close":
        call.proceed()
    code = errno_codes.EIO if code is None else code
    raise OSError(code, os.strerror(code), call.path)


def _wrapper(operation: str, method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def wrapped(self: FaultySystem, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        arguments = dict(bound.arguments)
        del arguments["self"]
        return self._intercept(operation, arguments)

    return wrapped


OPERATIONS: tuple[str, ...] = tuple(
    name for name, member in vars(System).items() if callable(member) and not name.startswith("_")
)

for _name in OPERATIONS:
    setattr(FaultySystem, _name, _wrapper(_name, getattr(System, _name)))
