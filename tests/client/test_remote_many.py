"""The embedded store's tests of the same name, through a server."""

from __future__ import annotations

from support.mapping import taken_over
from unit import test_many

# Left out: what needs snapshots, files to damage, or the engine's memory; and what costs a server too much time.
globals().update(
    taken_over(
        test_many,
        "test_a_key_out_of_order_ends_a_sorted_load",
        "test_a_load_behind_a_damaged_last_key_tells_it",
        "test_a_read_only_store_takes_no_load",
        "test_a_sorted_load_is_what_single_puts_are",
        "test_contains_many_tells_damage",
        "test_any_place_where_order_may_break_is_seen",
        "test_keys_may_come_in_any_form",
        "test_pieces_of_a_load_that_raises_stay",
        "test_the_tree_is_sound_after_sorted_loads",
        "test_without_memory_a_look_up_is_refused",
    )
)
