"""Several steps of which each has to be tried, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise


def call_all(steps: Iterable[Callable[[], object]]) -> None:
    """Call each, in order, also when one fails; the last exception is raised, with the ones before as its context.

    What `contextlib.ExitStack` does in several times the time: every close of a store takes many steps.
    """
    remaining = iter(steps)
    failures: list[BaseException] = []
    while True:
        try:
            for step in remaining:
                step()
            break
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
    if failures:
        try:
            for before, after in pairwise(failures):
                after.__context__ = before
            raise failures[-1]
        finally:
            # Their tracebacks lead to this frame: a cycle would keep alive what is being closed.
            failures.clear()
