"""Signals held back for the moment in which a step must not be left half done.

Python runs signal handlers in the main thread, between any two of its instructions, and the handler of Ctrl-C
raises. What has just been opened, locked or started is then lost before anybody knows of it. Around such a
step `SignalsHeld` puts handlers in the place of the program's that only remember the signal; afterwards it is
raised again.

Invariants: held for milliseconds, never while waiting for a user's code, and for another thread only where it uses
what would be closed; handlers are put back whatever happens. In other threads there is nothing to hold: no handler
ever runs there.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

# Those whose handlers programs are known to let raise: Ctrl-C, time limits, orderly ends.
HELD = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)

# What `signal` makes its functions of, without a member of an enumeration for each answer: those took most of the time.
_functions: Any = sys.modules.get("_signal", signal)
_get_handler = _functions.getsignal
_set_handler = _functions.signal


class SignalsHeld:
    """A context manager: signals that come inside are handled at its end."""

    def __init__(self) -> None:
        self._replaced: list[tuple[int, Any]] = []
        self._came: list[int] = []

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)

    def __enter__(self) -> None:
        # Not `current_thread`: in a thread at its very end, where its stores may be collected, that enters a new one.
        if threading.get_ident() != threading.main_thread().ident:
            return
        try:
            for number in HELD:
                handler = _get_handler(number)
                # The default ones end the process or do nothing: neither leaves a step half done behind.
                if callable(handler):
                    self._replaced.append((number, handler))
                    _set_handler(number, self._remember)
        except ValueError:
            # A main thread that is not the main interpreter's: it runs no handlers either.
            self._replaced.clear()
        except BaseException:
            self._put_back()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._put_back()
        except BaseException:
            # One that came in between, to a handler that was back already: the others have to be, too.
            self._put_back()
            raise
        for number in dict.fromkeys(self._came):
            signal.raise_signal(number)

    def _put_back(self) -> None:
        for number, handler in self._replaced:
            _set_handler(number, handler)
