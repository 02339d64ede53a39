"""Damaged files: the right answer or an error with its place, never another value, never the end of the process.

A sample of the sweep, the same each time; `flash-kv torture --only damage` does all of it. The engine is also broken on
purpose: the sweep has to notice.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flash_kv import CorruptionError
from flash_kv.engine import recovery, repair
from flash_kv.index import checkpoint
from flash_kv.io.disk_image import write_image
from flash_kv.log import manifest
from flash_kv.log.names import INDEX
from flash_kv.torture.apart import each_apart
from flash_kv.torture.damage import BIT_STEPS, Case, cases
from flash_kv.torture.damages import STRIDES, DamageRun, sweep
from flash_kv.torture.examination import Examiner
from flash_kv.torture.settings import Settings
from flash_kv.torture.specimen import KINDS, Specimen, SpecimenKind, make_specimen
from support.stores import crash_image
from support.workload import open_with


@pytest.fixture
def examine(tmp_path: Path) -> Callable[[Specimen, Case], list[str]]:
    """What is wrong with how a damaged specimen fares."""

    def examine_one(specimen: Specimen, case: Case) -> list[str]:
        examiner = Examiner(specimen, Settings(), tmp_path)
        return [violation.kind for violation in examiner.examine(case, 1)]

    return examine_one


@pytest.fixture
def make(tmp_path: Path) -> Callable[[SpecimenKind], Specimen]:
    """Specimens by their kind."""
    return lambda kind: make_specimen(kind, tmp_path / f"specimen-{kind}")


@pytest.mark.parametrize("seed", range(len(KINDS)), ids=KINDS)
def test_no_damage_is_taken_for_data(tmp_path: Path, seed: int) -> None:
    tally = DamageRun(seed, Settings(), tmp_path / "scratch").run()
    assert [str(failure) for failure in tally.failures] == []
    assert tally.damages > 30
    assert list(tmp_path.iterdir()) == []


def test_the_runs_of_a_sweep_are_all_of_its_cases(make: Callable[[SpecimenKind], Specimen]) -> None:
    assert sorted(sweep(None)) == sorted((kind, first) for kind in KINDS for first in range(STRIDES[kind]))
    assert sorted(sweep(None)) == sorted([*sweep("btree"), *sweep("bptree")])
    for kind in KINDS:
        specimen = make(kind)
        damaged = [INDEX] if specimen.has_index else specimen.files
        bits = sum(8 * len(specimen.files[name]) for name in damaged)
        texts = [case.text for case in cases(specimen)]
        flips = sum(case.is_flip for case in cases(specimen))
        step = BIT_STEPS.get(kind, 1)
        assert flips == (-(-bits // step) if step else 0)
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("kind", ["pages", "replay"])
def test_the_index_on_disk_that_is_damaged_has_pages_of_two_levels_and_all_else_there_is(
    make: Callable[[SpecimenKind], Specimen], tmp_path: Path, kind: SpecimenKind
) -> None:
    specimen = make(kind)
    write_image(dict(specimen.files), tmp_path / "db")
    with open_with(tmp_path / "db", index="bptree") as db:
        base, index = db._index_keeper._file, db._index_keeper._index
        assert base is not None
        assert base.checkpoint is not None
        assert index is not None
        assert index.page_count > 2
        assert len(base.checkpoint.loose) == 1
        recovery = db.stats().recovery
        assert recovery.index_fault is None
        assert recovery.segments_from_index > 0
        assert recovery.was_clean == specimen.is_closed
        assert dict(db.items()) == specimen.state


def test_a_specimen_is_the_same_each_time(tmp_path: Path) -> None:
    first, again = (make_specimen("closed", tmp_path / name) for name in ("first", "again"))
    assert first.files.keys() == again.files.keys()
    assert {name for name in first.files if first.files[name] != again.files[name]} <= {"LOCK"}
    assert first.state == again.state


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_damages(make: Callable[[SpecimenKind], Specimen], kind: SpecimenKind) -> None:
    """Some blocks are like others; apart from those a case that changes nothing would try nothing."""
    specimen = make(kind)
    every = list(cases(specimen))
    step = max(len(every) // 1000, 37)
    idle = [case.text for case in every[::step] if case.files(specimen) == specimen.files]
    assert [text for text in idle if not re.search("bytes at|in the place of|exchanged", text)] == []


# The judge has to notice.


class _Anything(int):
    """A checksum that is always right."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def _first_noticed(
    examine: Callable[[Specimen, Case], list[str]], specimen: Specimen, text: str
) -> list[str]:
    for case in cases(specimen):
        if re.search(text, case.text) and (found := examine(specimen, case)):
            return found
    return []


def test_a_manifest_without_a_checksum_is_noticed(
    make: Callable[[SpecimenKind], Specimen], examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen = make("closed")
    monkeypatch.setattr(manifest, "crc32c", lambda content: _Anything())
    assert _first_noticed(examine, specimen, "bit [01] of byte .* of MANIFEST")


def test_a_manifest_that_is_too_old_is_noticed(
    make: Callable[[SpecimenKind], Specimen], examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen = make("killed")
    monkeypatch.setattr(recovery, "require_current_manifest", lambda segments: None)
    assert "resurrected" in _first_noticed(examine, specimen, "^MANIFEST of an older generation")


def test_a_loss_that_a_record_proves_is_noticed(
    make: Callable[[SpecimenKind], Specimen], examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(found: recovery.Recovery, unsealed: list[recovery.Recovered]) -> None:
        for one in unsealed:
            found.unsealed.append(one)
            found.last_lsn = max(found.last_lsn, one.seen_lsn)

    specimen = make("always")
    monkeypatch.setattr(recovery, "keep_prefix", believe)
    name = sorted(name for name in specimen.files if name.endswith(".seg"))[-2]
    assert _first_noticed(examine, specimen, f"{name} (cut|missing)")


def test_a_repair_that_brings_older_values_back_is_noticed(
    make: Callable[[SpecimenKind], Specimen], examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen = make("closed")
    monkeypatch.setattr(repair._Salvage, "_lose", lambda self, *record: None)
    assert "resurrected" in _first_noticed(examine, specimen, "bit 0 of byte .* of 0000000008.seg")


def test_a_repair_that_leaves_out_whole_batches_is_noticed(
    make: Callable[[SpecimenKind], Specimen], examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen = make("closed")
    monkeypatch.setattr(repair._Salvage, "_committed_orphans", lambda self, segment, sound: {})
    hit = next(place for place in specimen.places.values() if place.record.stop < place.offset + place.size)
    assert "lost" in _first_noticed(examine, specimen, f"bit 0 of byte {hit.record.stop - 8} of {hit.name}")


def test_an_index_without_checksums_is_noticed(
    make: Callable[[SpecimenKind], Specimen], examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    specimen = make("pages")
    monkeypatch.setattr(checkpoint.IndexFile, "_checksum", lambda self, block, content: _Anything())
    # How many keys there are, in one of the heads.
    assert _first_noticed(examine, specimen, r"bit 0 of byte (56|4152) of INDEX")


# What the sweep found


def test_an_older_manifest_is_refused_by_readers_too_and_before_anything_changes(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with open_with(path) as db:
        db["key"] = b"older"
        killed = crash_image(db, tmp_path / "killed")
        older = (killed / "MANIFEST").read_bytes()
    for number in range(2):
        with open_with(path) as db:
            db["key"] = b"newer %d" % number
    (path / "MANIFEST").write_bytes(older)
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}
    for is_read_only in (True, False):
        with pytest.raises(CorruptionError, match="must be an older copy"):
            open_with(path, read_only=is_read_only)
        assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"} == before


# What ends a child is an outcome.


def test_a_child_that_is_killed_costs_one_piece(capfd: pytest.CaptureFixture[str]) -> None:
    def work(piece: int) -> int:
        if piece == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if piece == 4:
            raise ValueError("no")
        return 10 * piece

    outcomes = list(each_apart(work, range(1, 6)))
    assert [piece for piece, _, _ in outcomes] == [1, 2, 3, 4, 5]
    assert [result for _, result, _ in outcomes] == [10, None, 30, None, 50]
    ends = [end for _, _, end in outcomes]
    assert ends == ["", "the process was ended by SIGKILL", "", "the process ended with status 1", ""]
    assert "ValueError: no" in capfd.readouterr().err


def test_a_child_that_hangs_is_ended() -> None:
    def work(piece: int) -> int:
        if piece == 1:
            time.sleep(60)
        return piece

    outcomes = list(each_apart(work, [0, 1, 2], deadline_s=1))
    assert [end for _, _, end in outcomes] == ["", "nothing came of it in 1 s", ""]


def test_what_is_not_asked_for_is_not_done(tmp_path: Path) -> None:
    outcomes = each_apart(lambda piece: os.getpid(), range(1000))
    _, pid, _ = next(outcomes)
    outcomes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(pid)), 0)
