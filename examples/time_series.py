"""A time series: measurements of many sensors, read back by sensor and range of time, newest first where wanted.

Keys sort as bytes. A name, a zero byte and the time as eight big-endian bytes keep each sensor's measurements together
and in the order of time. It prints:

    2880 measurements
    noon to one o'clock: 60, mean 21.12
    newest: 23:59 21.24
    after dropping the morning: 2160
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import flash_kv

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def key(sensor: str, when: datetime) -> bytes:
    return sensor.encode() + b"\0" + struct.pack(">Q", int(when.timestamp()))


def time_of(found: bytes) -> datetime:
    return datetime.fromtimestamp(struct.unpack(">Q", found[-8:])[0], UTC)


def between(db: flash_kv.DB, sensor: str, start: datetime, stop: datetime) -> Iterator[float]:
    for value in db.values(start=key(sensor, start), stop=key(sensor, stop)):
        yield struct.unpack("<d", value)[0]


def main() -> None:
    with flash_kv.open("measurements") as db:
        for sensor, base in (("kitchen", 20.0), ("cellar", 12.0)):
            db.put_many(
                (key(sensor, DAY + timedelta(minutes=n)), struct.pack("<d", base + n % 60 / 250 + n // 720))
                for n in range(24 * 60)
            )
        print(f"{len(db)} measurements")

        noon = DAY + timedelta(hours=12)
        values = list(between(db, "kitchen", noon, noon + timedelta(hours=1)))
        print(f"noon to one o'clock: {len(values)}, mean {sum(values) / len(values):.2f}")

        for found, value in islice(db.items(prefix=b"kitchen\0", reverse=True), 1):
            print(f"newest: {time_of(found):%H:%M} {struct.unpack('<d', value)[0]:.2f}")

        db.delete_range(start=key("kitchen", DAY), stop=key("kitchen", noon))
        print(f"after dropping the morning: {len(db)}")


main()
