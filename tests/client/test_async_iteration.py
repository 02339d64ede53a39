"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from support.mapping import taken_over
from unit import test_iteration

# Left out: what needs snapshots, or looks at the memory and the snapshots of this process; an async generator begins
# with its first step; a thousand deletes take long.
globals().update(
    taken_over(
        test_iteration,
        "test_deleting_everything_while_iterating_meets_every_key_once",
        "test_iterator_begins_when_it_is_made_not_when_it_is_read",
        "test_clear_and_delete_range_of_many_keys_are_one_commit",
        "test_dropped_iterator_lets_go_of_its_moment",
        "test_exhausted_iterator_lets_go_at_once_and_stays_at_its_end",
        "test_iterator_in_a_reference_cycle_lets_go_when_collected",
        "test_memory_does_not_grow_with_the_range",
        "test_store_and_what_reads_it_may_be_collected_together",
        "test_unordered_scan_goes_on_through_growth_and_shrinking",
        "test_unordered_scan_meets_every_key_once_whatever_the_size",
    )
)
