"""Orders under keys that are tuples: the order of the keys is the index, and a prefix is a query.

Values are JSON, keys sort as Python sorts tuples. A second key for each order, by day, is written with it in one batch.
It prints:

    ann has 2 orders, 42.50 in all
    in March: bread, lamp
    after the change: tea (2)
    refused: 'json' values under 'tuple' keys
"""

from datetime import UTC, datetime
from typing import Any

import flash_kv

Orders = flash_kv.TypedDB[tuple[Any, ...], Any]


def day(month: int, day_of_month: int) -> datetime:
    return datetime(2026, month, day_of_month, tzinfo=UTC)


def order(db: Orders, user: str, number: int, when: datetime, what: str, price: float) -> None:
    with db.batch() as batch:
        batch["order", user, number] = {"what": what, "price": price}
        batch["by day", when, user, number] = what


def main() -> None:
    with flash_kv.open("orders", codec="json", key_codec="tuple") as db:
        order(db, "ann", 1, day(2, 27), "tea", 2.5)
        order(db, "bob", 1, day(3, 2), "bread", 3.0)
        order(db, "ann", 2, day(3, 30), "lamp", 40.0)
        own = list(db.values(prefix=("order", "ann")))
        print(f"ann has {len(own)} orders, {sum(order['price'] for order in own):.2f} in all")
        march = db.values(start=("by day", day(3, 1)), stop=("by day", day(4, 1)))
        print("in March: " + ", ".join(march))
        db["order", "ann", 1] = {"what": "tea", "price": 2.5, "count": 2}
        print(f"after the change: tea ({db['order', 'ann', 1]['count']})")
    try:
        flash_kv.open("orders", codec="str", key_codec="tuple")
    except flash_kv.CodecMismatchError as error:
        print(f"refused: {error.stored[0]!r} values under {error.stored[1]!r} keys")


main()
