"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from support.mapping import taken_over
from unit import test_keys_and_values

globals().update(taken_over(test_keys_and_values))
