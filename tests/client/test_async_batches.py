"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from client import test_remote_batches
from support.mapping import taken_over

globals().update(taken_over(test_remote_batches))
