"""Methods of a wrapped object as methods of its wrapper: same parameters, same result, same text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def passed(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """`method`, of what the wrapper has as `raw`."""
    name = method.__name__

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = getattr(self.raw, name)(*args, **kwargs)
        return result

    functools.update_wrapper(call, method, assigned=("__name__", "__doc__"))
    return call
