"""The errors of a client: what each is, carries and survives."""

from __future__ import annotations

import errno
import pickle

import pytest

from flash_kv import (
    AccessDeniedError,
    ClientUnavailableError,
    FlashKVError,
    RemoteError,
    ServerTimeoutError,
    ServerUnreachableError,
)

CASES: list[tuple[FlashKVError, type[Exception], dict[str, object]]] = [
    (ClientUnavailableError("no module"), ImportError, {"reason": "no module"}),
    (
        RemoteError(409, "Conflict", "it runs", {"job": "verify"}),
        FlashKVError,
        {"status": 409, "title": "Conflict"},
    ),
    (AccessDeniedError(401, "Unauthorized"), PermissionError, {"status": 401, "errno": errno.EACCES}),
    (
        ServerUnreachableError("http://h", "reset", True),
        ConnectionError,
        {"url": "http://h", "reason": "reset", "is_in_doubt": True, "errno": errno.ECONNREFUSED},
    ),
    (ServerTimeoutError("http://h", "late"), TimeoutError, {"is_in_doubt": False, "errno": errno.ETIMEDOUT}),
]


@pytest.mark.parametrize(("error", "built_in", "attributes"), CASES, ids=lambda part: type(part).__name__)
def test_each_error_is_its_built_in_and_survives_a_pickle(
    error: FlashKVError, built_in: type[Exception], attributes: dict[str, object]
) -> None:
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert isinstance(one, built_in)
        assert {name: getattr(one, name) for name in attributes} == attributes
    assert type(again) is type(error)
    assert str(again) == str(error)
