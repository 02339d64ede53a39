"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from client import test_remote_many
from support.mapping import taken_over

# Left out besides: what an operation takes from a generator cannot be awaited.
globals().update(
    taken_over(
        test_remote_many,
        "test_contains_many_takes_an_endless_iterator_no_further_than_needed",
        "test_values_of_any_item",
    )
)
