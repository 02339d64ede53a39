"""Steps of which each is tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flash_kv.engine.steps import call_all


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_every_step_is_tried_and_the_last_failure_raised() -> None:
    done: list[int] = []
    errors = [OSError("first"), KeyboardInterrupt(), ValueError("last")]
    steps = [lambda: done.append(1), *map(failing, errors), lambda: done.append(2)]
    with pytest.raises(ValueError, match="last") as caught:
        call_all(steps)
    assert done == [1, 2]
    assert caught.value.__context__ is errors[1]
    assert errors[1].__context__ is errors[0]


def test_ten_thousand_failures_are_one() -> None:
    with pytest.raises(OSError, match="9999"):
        call_all(failing(OSError(str(number))) for number in range(10_000))


def test_no_step_is_no_failure() -> None:
    call_all([])
