"""A cache on disk: the results of a slow function are kept between two runs of a program.

`durability="process"` is the default and right for a cache: a write costs no system call, survives the death of the
process, and after a power cut the cache at worst has fewer entries. It prints:

    computed 1000 of 1000
    computed 0 of 1000
"""

import json
from collections.abc import Callable
from typing import Any

import flash_kv


def cached(db: flash_kv.DB, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its results in `db`: arguments and results are anything that JSON can hold."""

    def call(*arguments: Any) -> Any:
        key = json.dumps([name, *arguments])
        found = db.get(key)
        if found is None:
            found = json.dumps(function(*arguments)).encode()
            db[key] = found
        return json.loads(found)

    return call


def main() -> None:
    for _ in range(2):
        calls = 0

        def sum_of_squares(n: int) -> int:
            nonlocal calls
            calls += 1
            return sum(i * i for i in range(n))

        with flash_kv.open("cache", index="hash") as db:
            lookup = cached(db, "sum_of_squares", sum_of_squares)
            assert lookup(10) == 285
            for n in range(1000):
                lookup(n)
        print(f"computed {calls} of 1000")


main()
