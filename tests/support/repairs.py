"""Stores whose every version of every key is known, and what a repair makes of them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import flash_kv
from flash_kv import RepairReport
from support.damage import Placed, records, tree
from support.workload import content, open_with

Versions = dict[bytes, list[bytes | None]]


def build(path: Path, seed: int = 1) -> Versions:
    """A closed store of several segments; of each key all values it had, oldest first, None for a delete."""
    chance = random.Random(seed)
    versions: Versions = {}
    with open_with(path) as db:
        for i in range(400):
            key = b"key %d" % chance.randrange(150)
            if chance.random() < 0.2 and versions.get(key, [None])[-1] is not None:
                db.delete(key)
                versions[key].append(None)
            elif chance.random() < 0.1:
                other = b"key %d" % (150 + chance.randrange(50))
                with db.batch() as batch:
                    batch[key] = batch[other] = b"batch %d" % i
                versions.setdefault(key, []).append(b"batch %d" % i)
                versions.setdefault(other, []).append(b"batch %d" % i)
            else:
                value = b"%d " % i * chance.randrange(1, 200)
                db[key] = value
                versions.setdefault(key, []).append(value)
    return versions


def newest(versions: Versions) -> dict[bytes, bytes]:
    """What the store holds."""
    return {key: values[-1] for key, values in versions.items() if values[-1] is not None}


def salvaged(source: Path, **options: object) -> tuple[RepairReport, dict[bytes, bytes]]:
    """Repair into a new directory: the report and what the new store holds. `source` must not change."""
    before = tree(source)
    dest = source.parent / "repaired"
    report = flash_kv.repair(source, dest, **options)
    assert tree(source) == before
    assert flash_kv.verify(dest).is_ok
    with open_with(dest) as db:
        found = content(db)
    assert report.keys == len(found)
    assert report.path == dest
    assert report.source == source
    shutil.rmtree(dest)
    return report, found


def check(found: dict[bytes, bytes], report: RepairReport, versions: Versions, damaged: set[bytes]) -> None:
    """Each key has its newest value, unless the record of it is damaged: then it is absent and reported."""
    wanted = {key: value for key, value in newest(versions).items() if key not in damaged}
    assert found == wanted
    assert set(report.lost_keys) == {key for key in damaged if versions[key][-1] is not None}


def newest_records(source: Path) -> dict[bytes, Placed]:
    """Of each key the record that counts."""
    return {placed.record.key: placed for placed in records(source)}
