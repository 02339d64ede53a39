"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from client import test_remote_iteration
from support.mapping import taken_over

# Left out besides: an async generator begins with its first step; a thousand deletes take long.
globals().update(
    taken_over(
        test_remote_iteration,
        "test_deleting_everything_while_iterating_meets_every_key_once",
        "test_iterator_begins_when_it_is_made_not_when_it_is_read",
    )
)
