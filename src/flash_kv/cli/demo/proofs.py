"""The proofs of the demo: each compares the store with the files on disk and fails loudly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flash_kv.cli.demo.corpus import Corpus
from flash_kv.cli.exits import ExitCode, Failure
from flash_kv.cli.output import shown

if TYPE_CHECKING:
    import flash_kv


class ProofFailed(Failure):
    """What the demo promises is not so."""

    def __init__(self, what: str) -> None:
        super().__init__(f"PROOF FAILED: {what}; the store is left as it is", ExitCode.NEGATIVE)


def require(is_so: bool, what: str) -> None:
    if not is_so:
        raise ProofFailed(what)


def prove_present(db: flash_kv.DB, corpus: Corpus, keys: Iterable[bytes]) -> int:
    """Every key of `keys` has the content of its file, byte for byte; how many there were."""
    number = 0
    for key in keys:
        value = db.get(key)
        require(value is not None, f"{shown(key)} is missing")
        require(value == corpus.content(key), f"{shown(key)} differs from its file")
        number += 1
    return number


def prove_absent(db: flash_kv.DB, keys: Iterable[bytes]) -> None:
    for key in keys:
        require(key not in db and db.get(key) is None, f"{shown(key)} is back though it was deleted")


def prove_nothing_else(db: flash_kv.DB, corpus: Corpus, keys: Iterable[bytes]) -> None:
    """A scan gives exactly `keys`, in order, with the contents of their files."""
    expected = sorted(keys)
    found = []
    for key, value in db.items():
        require(key in corpus.sizes, f"{shown(key)} was never stored")
        require(value == corpus.content(key), f"{shown(key)} differs from its file in a scan")
        found.append(key)
    require(found == expected, f"a scan found {len(found)} keys, {len(expected)} are expected")
    require(len(db) == len(expected), f"the store counts {len(db)} keys, {len(expected)} are expected")


def prove_in_flight_only(db: flash_kv.DB, corpus: Corpus, acknowledged: list[bytes]) -> int:
    """Beyond the acknowledged entries there may be those of puts that had not reported yet; how many.

    They have to be whole, and next in the order of loading: nothing after a gap, nothing in part.
    """
    known = set(acknowledged)
    others = [key for key in db.keys() if key not in known]  # noqa: SIM118 - a view of a store, not of a dict
    following = list(corpus.sizes)[len(acknowledged) : len(acknowledged) + len(others)]
    require(sorted(others) == sorted(following), "entries are there whose put had not even begun")
    prove_present(db, corpus, others)
    return len(others)


def prove_undamaged(db: flash_kv.DB) -> None:
    report = db.verify()
    require(report.is_ok, f"verify found damage: {[damage.reason for damage in report.damages]}")
