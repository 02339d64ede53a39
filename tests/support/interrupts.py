"""Ctrl-C at the nth place where the interpreter would handle one.

CPython runs signal handlers at a few places only: on entry to a function, on a backward jump, and after a
call of something compiled has returned. A trace function that sends the signal exactly there reaches each of
these places in turn, which a timer never would.
"""

from __future__ import annotations

import dis
import signal
import sys
from types import FrameType
from typing import Any

# Python's own code that runs on our behalf is interrupted as well.
_MODULES = ("flash_kv.", "threading", "concurrent.", "contextlib", "weakref")
_CHECKED = {"RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD"}
_NAMES = dis.opname


class Interrupter:
    """As a context manager: SIGINT once, at the `nth` place (from 1) in this, the main thread."""

    def __init__(self, nth: int) -> None:
        self.nth = nth
        self.seen = 0
        self.place = ""
        self._last: dict[FrameType, str] = {}

    @property
    def has_fired(self) -> bool:
        return bool(self.place)

    def __enter__(self) -> Interrupter:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._last.clear()

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(_MODULES):
            return None
        caller = frame.f_back
        if caller is not None and caller in self._last:
            # What the caller called is Python: no check follows its return.
            self._last[caller] = ""
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self._last[frame] = ""
        return self._trace_opcode

    def _trace_opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._last.pop(frame, None)
        elif event == "exception":
            self._last[frame] = ""
        elif event == "opcode":
            before, self._last[frame] = self._last.get(frame, ""), _NAMES[frame.f_code.co_code[frame.f_lasti]]
            if before in _CHECKED:
                self.seen += 1
                if self.seen == self.nth:
                    code = frame.f_code
                    self.place = f"{frame.f_globals['__name__']}.{code.co_qualname}:{frame.f_lineno}"
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
        return self._trace_opcode
