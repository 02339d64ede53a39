"""The embedded store's tests of the same name, through a server and the asynchronous client."""

from __future__ import annotations

from support.mapping import taken_over
from unit import test_dict_methods

# There are no snapshots and no path over the network, thousands of single gets take long, and what an operation takes
# from a generator cannot be awaited.
globals().update(
    taken_over(
        test_dict_methods,
        "test_update_from_itself_and_from_another_store",
        "test_get_many_of_many_keys_equals_single_gets",
        "test_update_is_one_commit",
        "test_repr_says_path_and_state",
    )
)
