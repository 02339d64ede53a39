"""Calls sent over httpx, from any number of threads.

A forked child has connections of its own: those of the parent are put aside unclosed, because closing one there would
say goodbye in the name of the parent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx

from flash_kv.client.calls import Answer, Call, Pause, Steps
from flash_kv.client.problems import error_of
from flash_kv.client.retrying import client_arguments, delay_before_retry, no_answer
from flash_kv.client.settings import Settings
from flash_kv.errors import ClosedError, FlashKVError

T = TypeVar("T")
# Clients of a parent process: kept, so that nothing closes them.
_PUT_ASIDE: list[httpx.Client] = []


def make_client(settings: Settings) -> httpx.Client:
    """A pool of connections; none is opened before the first call."""
    return httpx.Client(**client_arguments(settings))  # type: ignore[arg-type]


class Transport:
    """The connections of one `RemoteDB`."""

    def __init__(self, settings: Settings, make: Callable[[Settings], httpx.Client] = make_client) -> None:
        self.settings = settings
        self._make = make
        self._client = make(settings)
        self._pid = os.getpid()
        self.is_closed = False

    def close(self) -> None:
        """Close all connections; of a forked child only its own."""
        if not self.is_closed:
            self._own_client().close()
            self.is_closed = True

    def require_open(self) -> None:
        """ClosedError after close()."""
        if self.is_closed:
            raise ClosedError(self.settings.url, "client")

    def _own_client(self) -> httpx.Client:
        self.require_open()
        if self._pid != os.getpid():
            _PUT_ASIDE.append(self._client)
            self._client, self._pid = self._make(self.settings), os.getpid()
        return self._client

    def run(self, steps: Steps[T]) -> T:
        """Drive an operation to its end: its result, or its error."""
        try:
            wanted = next(steps)
            while True:
                try:
                    answer = self._taken(wanted)
                except FlashKVError as error:
                    wanted = steps.throw(error)
                else:
                    wanted = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _taken(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return Answer(0)
        return self._tried(step, _read)

    def open(self, call: Call) -> httpx.Response:
        """The answer to a call, its content not read yet; errors are raised."""
        return self._tried(call, lambda response: response)

    def _tried(self, call: Call, take: Callable[[httpx.Response], T]) -> T:
        """What `take` makes of the answer to a call, which may be sent again; errors it does not accept are raised."""
        tries = 0
        while True:
            tries += 1
            try:
                response = self._send(call)
                if response.status_code < 300 or response.status_code in call.accepts:
                    return take(response)
                outcome: Answer | httpx.TransportError = _read(response)
            except httpx.TransportError as error:
                outcome = error
            delay_s = delay_before_retry(self.settings, call, tries, outcome)
            if delay_s is None:
                raise self._error(call, outcome) from (outcome if isinstance(outcome, Exception) else None)
            time.sleep(delay_s)

    def _send(self, call: Call) -> httpx.Response:
        client = self._own_client()
        request = client.build_request(
            call.method, self.settings.url + call.target, headers=dict(call.headers), content=call.content
        )
        return client.send(request, stream=True)

    def _error(self, call: Call, outcome: Answer | httpx.TransportError) -> Exception:
        if isinstance(outcome, Answer):
            return error_of(outcome, self.settings.url, call)
        return no_answer(self.settings.url, call, outcome)

    def chunks(self, call: Call, response: httpx.Response) -> Iterator[bytes]:
        """The content as it comes. ServerUnreachableError when it breaks off."""
        try:
            yield from response.iter_raw()
        except httpx.TransportError as error:
            raise no_answer(self.settings.url, call, error) from error


def _read(response: httpx.Response) -> Answer:
    try:
        content = response.read()
    finally:
        response.close()
    return Answer(response.status_code, response.headers, content)
