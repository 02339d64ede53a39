"""The C compiler of the build for ThreadSanitizer: what reads without a lock is compiled without the sanitizer.

Those functions read what a writer may be changing, bound what they have read, and conclude nothing before they have
seen that the version is still the same (docs/design.md, "Index"). Most of it is read sixteen bytes at a time, which no
atomic access can do; the words that matter alone (versions, entries, numbers of buckets) are atomic. A suppression
would not do: by the time a writer meets what was read, the sanitizer has forgotten who read it. Only readers are named,
so two writers that meet are reported, and so is any reader that is not named.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

# Functions that read, by class or module; `run.py` fails when one of them is not there any more.
READERS = (
    # Hash index: the hashes and the chain of a bucket.
    "hash_buckets_cy_matching",
    "hash_buckets_cy_home_bucket",
    "hash_buckets_cy_spilled_bucket",
    "HashIndex_find",
    "HashIndex_walk",
    "HashIndex__holds",
    "HashIndex__take_class",
    "HashIndex__class_versions",
    # A guess which lines will be needed; a wrong one costs nothing but time.
    "HashIndex__prefetch_home",
    "HashIndex__prefetch_record",
    # B-tree: counts, heads and hints of a node, on the way down and in the leaf.
    "btree_node_blob_data",
    "btree_node_child_of",
    "btree_node_prefetch_child",
    "btree_node_prefetch_lines",
    "btree_node_separator_of",
    "btree_node_hint_of",
    "btree_node_is_in_range",
    "btree_node_line_of",
    "btree_node_bound_in_line",
    "btree_node_upper_bound",
    "btree_node_leaf_bound",
    "btree_node_candidate",
    "btree_inner_cy__is_below",
    "btree_inner_cy_route",
    "btree_inner_cy_route_tie",
    "btree_leaf_cy_find_slot",
    "btree_leaf_cy_seek_slot",
    "btree_cy__go_down",
    "btree_walk_cy__begin",
    "btree_walk_cy__enter",
    "btree_walk_cy__look_ahead",
    "btree_walk_cy__seek",
    "btree_walk_cy__next_leaf",
    "leaf_walk_cy_copy_leaf",
    "btree_walk_cy_walk_once",
    "leaf_walk_cy_seek_leaf",
    "LeafReader_walk",
    "BTreeIndex__walk_once",
    "LeafReader_find",
    "LeafReader__find_once",
    "BTreeIndex__find_leaf",
    "BTreeIndex__find_leaves",
    "BTreeIndex__aim_inner",
    "LeafReader__find_group",
    "LeafReader__aim",
    "leaf_reader_cy_is_unchanged",
    "BTreeIndex__enter_root",
    "LeafReader__hold",
    "LeafReader_hold_many",
    # Skip list: separators, links and entries of lanes, on the way down and from leaf to leaf.
    "skiplist_lane_is_at_or_above",
    "skiplist_lane_is_shown_passed",
    "skiplist_lane_passes",
    "skiplist_lane_settle_tie",
    "skiplist_lane_count_passed",
    "skiplist_lane_go_down",
    "skiplist_lane_owner_of",
    "skiplist_lane_enter_leaf",
    "skiplist_lane_covers",
    "skiplist_lane_likely_leaf",
    "skiplist_lane_read_head",
    "skiplist_lane_prefetch_half",
    "skiplist_walk_cy__neighbour",
    "skiplist_walk_cy__look_ahead",
    "skiplist_walk_cy__go_right",
    "skiplist_walk_cy__begin",
    "skiplist_walk_cy_walk_once",
    "SkipListIndex__walk_once",
    "SkipListIndex__find_leaf",
    "SkipListIndex__find_leaves",
    # Where a key was found last: several readers write it at once and leave a mixture, which its reader does not mind.
    "LeafReader_recall",
    "LeafReader_remember",
)
# C functions of the declarations above.
C_READERS = ("fk_count_at_most", "fk_matching_ten")
ATTRIBUTE = '__attribute__((no_sanitize("thread")))'


def declaration(name: str) -> re.Pattern[str]:
    """Where a translated module declares or defines the function that Cython calls `__pyx_f_...name`."""
    prefix = "" if name in C_READERS else r"__pyx_f_\w*"
    return re.compile(rf"^\s*(?=static [^;{{}}=\n]*\b{prefix}{name}\()", re.MULTILINE)


def without_sanitizer(source: Path) -> Path:
    """A copy of a translated module in which its readers are marked, or itself when it has none."""
    text = source.read_text("utf-8")
    marked = text
    for name in (*READERS, *C_READERS):
        marked = declaration(name).sub(f"{ATTRIBUTE} ", marked)
    if marked == text:
        return source
    copy = Path(os.environ["FLASH_KV_MARKED_SOURCES"], source.name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(f'#line 1 "{source}"\n{marked}', "utf-8")
    return copy


def main() -> None:
    arguments = [
        str(without_sanitizer(Path(argument))) if argument.endswith(".c") else argument
        for argument in sys.argv[1:]
    ]
    command = [*shlex.split(os.environ.get("FLASH_KV_COMPILER", "cc")), *arguments]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
