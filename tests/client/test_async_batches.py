"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from support.mapping import taken_over
from unit import test_batches

# Left out: what needs snapshots or a store of this process.
globals().update(
    taken_over(
        test_batches,
        "test_batch_is_atomic_in_a_snapshot",
        "test_batch_of_a_read_only_store_is_refused",
        "test_many_at_once_inside_a_batch",
        "test_public_class_is_exported",
    )
)
