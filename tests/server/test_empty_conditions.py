"""A condition without a tag is malformed, for a read and for a write, and nothing is written."""

from __future__ import annotations

import pytest

from support.servers import Served


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_empty_condition_is_refused(server: Served, method: str) -> None:
    server.db["conditional"] = b"1"
    answer = server.client.request(method, "/v1/kv/conditional", headers={"If-Match": ""})
    assert answer.status_code == 400
    assert server.db["conditional"] == b"1"
