"""The timed loops, and the empty callables whose cost in the same loops is subtracted.

Invariants:
- Each loop is a `for` over a list made beforehand and one call of a local name: what a user's loop costs.
- The garbage collector is off while the clock runs; nothing else happens between the two clock reads.
- What is subtracted is the loop and the cheapest call Python can make, of a built-in that does nothing,
  measured in the same run as a store of its own. An empty Python function would cost more than a whole
  `dict.get`, and subtracting it would flatter the fast stores. The figures as called are kept too.
"""

from __future__ import annotations

import gc
import itertools
import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

from flash_kv.bench.stores.base import Handle, Pairs, nothing


@contextmanager
def collector_off() -> Iterator[None]:
    """The garbage collector off inside, as it was afterwards."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def time_pairs_ns(call: Callable[[bytes, Any], object], keys: list[bytes], values: list[Any]) -> int:
    """Nanoseconds of `call(key, value)` over all pairs."""
    with collector_off():
        start = perf_counter_ns()
        for key, value in zip(keys, values):  # noqa: B905 - same length by construction, checking costs
            call(key, value)
        return perf_counter_ns() - start


def time_each_ns(call: Callable[[Any], object], arguments: list[Any]) -> int:
    """Nanoseconds of `call(argument)` over all arguments: keys, or lists of keys or pairs."""
    with collector_off():
        start = perf_counter_ns()
        for argument in arguments:
            call(argument)
        return perf_counter_ns() - start


def time_items_ns(items: Callable[[], Iterable[tuple[bytes, bytes]]]) -> int:
    """Nanoseconds to begin an iteration and unpack every item of it."""
    with collector_off():
        start = perf_counter_ns()
        for _key, _value in items():
            pass
        return perf_counter_ns() - start


def time_call_ns(call: Callable[[], object]) -> int:
    """Nanoseconds of one long operation."""
    with collector_off():
        start = perf_counter_ns()
        call()
        return perf_counter_ns() - start


def time_iterations_ns(iterate: Callable[[Any], Iterable[object]], arguments: list[Any]) -> int:
    """Nanoseconds of going through `iterate(argument)` for all arguments."""
    with collector_off():
        start = perf_counter_ns()
        for argument in arguments:
            for _item in iterate(argument):
                pass
        return perf_counter_ns() - start


def time_calls_ns(calls: list[tuple[Callable[..., object], tuple[Any, ...]]]) -> int:
    """Nanoseconds of a mix of calls, one after the other."""
    with collector_off():
        start = perf_counter_ns()
        for call, arguments in calls:
            call(*arguments)
        return perf_counter_ns() - start


def call_each(call: Callable[[Any], object], arguments: list[Any]) -> None:
    for argument in arguments:
        call(argument)


def time_threads_ns(jobs: list[Callable[[], None]]) -> int:
    """Nanoseconds from the moment all threads stand ready to the end of the last one."""
    ready = threading.Barrier(len(jobs) + 1)

    def work(job: Callable[[], None]) -> None:
        ready.wait()
        job()

    with ThreadPoolExecutor(len(jobs)) as pool, collector_off():
        running = [pool.submit(work, job) for job in jobs]
        ready.wait()
        start = perf_counter_ns()
        for job in running:
            job.result()
        return perf_counter_ns() - start


def latencies_ns(call: Callable[..., object], calls: Iterable[tuple[Any, ...]]) -> list[int]:
    """The nanoseconds of each single call with these arguments, one clock read included."""
    samples: list[int] = []
    add, now = samples.append, perf_counter_ns
    with collector_off():
        for arguments in calls:
            start = now()
            call(*arguments)
            add(now() - start)
    return samples


def empty_handle(item_count: int) -> Handle:
    """A store that does nothing: its times are the overhead of the loops."""
    item = (b"key", b"value")
    # `truth` and `is_` look at the pointer or the size of what they get and return a constant.
    empty_one: Callable[[Any], Any] = operator.truth
    empty_two: Callable[[Any, Any], Any] = operator.is_

    def empty_batch(pairs: Pairs) -> None:
        for key, value in pairs:
            empty_two(key, value)

    def empty_many(_keys: list[bytes]) -> list[bytes | None]:
        return []

    return Handle(
        put=empty_two,
        get=empty_one,
        get_missing=empty_one,
        delete=empty_one,
        put_many=empty_one,
        batch=empty_batch,
        get_many=empty_many,
        items=lambda: itertools.repeat(item, item_count),
        reverse=lambda: itertools.repeat(item, item_count),
        scan_from=empty_two,
        prefix=lambda _prefix: (),
        close=nothing,
    )
