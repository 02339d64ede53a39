"""What a damaged store answers, and whether it may.

It may refuse, naming file and offset, or give the right answer; never another one, and never after more than a second.
`verify` has to notice what is refused, and `repair` to salvage every key whose newest record is whole. A store that was
not closed may end earlier than it did, since damage to the end of its log looks like a torn tail, but not before what
a later record proves to have been durable.

The file of the index on disk has nothing that the log has not. So whatever is damaged in it costs no key for longer
than until the store is opened for writing once more, and neither `verify` nor `repair` look at it.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flash_kv.engine.db import DB
from flash_kv.engine.repair import repair
from flash_kv.engine.reports import RepairReport
from flash_kv.engine.verify import verify
from flash_kv.errors import CorruptionError, FlashKVError, FormatVersionError
from flash_kv.io.disk_image import write_image
from flash_kv.log.names import INDEX, LOCK, MANIFEST, RESERVE
from flash_kv.options import Options
from flash_kv.torture.damage import Case
from flash_kv.torture.journal import State, Violation, short
from flash_kv.torture.settings import Settings
from flash_kv.torture.specimen import Files, Specimen, hint_of
from flash_kv.torture.stepped import UNSYNCED

# Of processor time, so that a busy machine changes nothing.
SECONDS_MAX = 1.0
# One of so many stores that open is opened for writing too, closed, and opened once more.
REOPEN_EVERY = 4
# One of so many stores with a damaged index is opened with any index, and verified and repaired, which see nothing.
OTHERWISE_EVERY = 16
ORIGIN_OFFSET = 12


@dataclass
class Answer:
    """What a damaged store says, opened once."""

    values: dict[bytes, bytes | None]
    """Of the keys that can be read."""
    unreadable: dict[bytes, Exception]
    torn_bytes: int
    written: dict[bytes, bytes | None]
    """What has been written after all that was read; None: deleted."""


class Examiner:
    """Examines the damaged stores of one specimen, in the directory `scratch`."""

    def __init__(self, specimen: Specimen, settings: Settings, scratch: Path) -> None:
        self._specimen = specimen
        self._settings = settings
        self._path = scratch / "db"
        self._repaired = scratch / "repaired"

    def examine(self, case: Case, seed: int = 0) -> list[Violation]:
        """All that is wrong with how the store fares."""
        self._rng = random.Random(seed)
        self._case = case
        self._wrong: list[Violation] = []
        self._files = case.files(self._specimen)
        write_image(dict(self._files), self._path)
        try:
            has_trouble = self._timed("reading", self._examine_reading)
            if not self._is_index_alone() or self._rng.randrange(OTHERWISE_EVERY) == 0:
                self._timed("verify", lambda: self._examine_verify(has_trouble))
                self._timed("repair", self._examine_repair)
        finally:
            shutil.rmtree(self._path)
            shutil.rmtree(self._repaired, ignore_errors=True)
        return self._wrong

    def _timed(self, what: str, examine: Callable[[], bool]) -> bool:
        started = time.process_time()
        result = examine()
        seconds = time.process_time() - started
        if seconds > SECONDS_MAX:
            self._broken(f"{what} took {seconds:.1f} s")
        return result

    def _broken(self, text: str) -> None:
        self._wrong.append(Violation("other", text))

    def _is_index_alone(self) -> bool:
        """Whether nothing else is damaged than the file of the index."""
        names = {*self._files, *self._specimen.files}
        return all(name == INDEX or self._files.get(name) == self._specimen.files.get(name) for name in names)

    # -- opening and reading

    def _options(self, *, read_only: bool) -> Options:
        options = self._settings.reading(self._rng, read_only=read_only)
        if self._specimen.has_index and self._rng.randrange(OTHERWISE_EVERY):
            options = replace(options, index="bptree")
        return options

    def _examine_reading(self) -> bool:
        """Whether anything of the log was refused."""
        answer = self._ask(self._path, self._options(read_only=True))
        if answer is None:
            return True
        self._judge(answer)
        is_index = self._is_of_index(answer)
        if (is_index or not answer.unreadable) and self._rng.randrange(REOPEN_EVERY) == 0:
            self._examine_writing()
        return bool(answer.unreadable) and not is_index

    def _is_of_index(self, answer: Answer) -> bool:
        """Whether all that is refused is refused for the index."""
        return bool(answer.unreadable) and all(map(_names_index, answer.unreadable.values()))

    def _ask(self, path: Path, options: Options, *, is_written: bool = False) -> Answer | None:
        """None when the store does not open."""
        try:
            db = DB(path, options, UNSYNCED)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
            self._require_clear(error)
            return None
        with db:
            answer = Answer({}, {}, db.stats().recovery.torn_tail_bytes, {})
            for key in self._specimen.keys:
                try:
                    answer.values[key] = db.get(key)
                except Exception as error:  # noqa: BLE001 - as above
                    self._require_clear(error)
                    answer.unreadable[key] = error
            self._compare_scan(db, answer)
            if is_written:
                self._write(db, answer)
        return answer

    def _write(self, db: DB, answer: Answer) -> None:
        """Overwrite a key and delete another: done, or refused and nothing changed."""
        for key, value in zip(self._rng.sample(self._specimen.keys, 2), (b"written", None), strict=True):
            try:
                if value is None:
                    db.delete(key)
                else:
                    db.put(key, value)
            except CorruptionError as error:
                self._require_clear(error)
            else:
                answer.written[key] = value

    def _compare_scan(self, db: DB, answer: Answer) -> None:
        """A scan finds what the single reads have found, or is refused where one of them was."""
        wanted = {key: value for key, value in answer.values.items() if value is not None}
        try:
            found = dict(db.items())
        except Exception as error:  # noqa: BLE001 - as above
            self._require_clear(error)
            if not answer.unreadable:
                self._broken(f"a scan is refused though every key can be read: {error}")
            return
        if found != wanted or len(db) != len(wanted):
            self._broken("a scan finds something else than single reads")

    def _require_clear(self, error: Exception) -> None:
        if isinstance(error, CorruptionError):
            size = max(len(files.get(Path(error.path).name, b"")) for files in self._generations())
            if Path(error.path).parent == self._path and 0 <= error.offset <= size:
                return
            self._broken(f"an error that names no place in a file: {error}")
        elif isinstance(error, FormatVersionError):
            # The first line of the manifest stands before its checksum.
            if error.path != str(self._path / MANIFEST):
                self._broken(f"another version where there is none: {error}")
        else:
            self._broken(f"an error that is not about damage: {error!r}")

    def _generations(self) -> tuple[Files, ...]:
        return self._specimen.files, self._specimen.older, self._files

    def _judge(self, answer: Answer) -> None:
        states = self._possible_states()
        for key in answer.unreadable:
            # Where a key that is not there would stand there may be a record of which the key cannot be read.
            if _names_index(answer.unreadable[key]):
                if self._files.get(INDEX) == self._specimen.files.get(INDEX):
                    self._broken(f"{short(key)} is said to be of a damaged index, which it is not")
            elif key in self._specimen.state and self._is_whole(key):
                self._broken(f"{short(key)}, whose record is whole, cannot be read: {answer.unreadable[key]}")
        for state in states:
            if all(state.get(key) == value for key, value in answer.values.items()):
                is_shorter = state != self._specimen.state
                if self._case.is_flip and is_shorter and not answer.torn_bytes:
                    self._wrong.append(Violation("lost", "commits are missing and it is not told"))
                return
        self._wrong.append(self._explain(answer, states))

    def _explain(self, answer: Answer, states: list[State]) -> Violation:
        if not states:
            return Violation("resurrected", "an older manifest is believed beside segments it does not know")
        for key, value in answer.values.items():
            if value != states[-1].get(key):
                was_there = any(state.get(key) == value for state in self._specimen.states)
                kind = "lost" if value is None else "resurrected" if was_there else "other"
                return Violation(kind, f"{short(key)} has another value: {value!r}")  # type: ignore[arg-type]
        return Violation("torn", "what is found was at no time all there was")

    def _possible_states(self) -> list[State]:
        """What the store may hold."""
        specimen = self._specimen
        if self._is_older():
            if any(self._is_unknown_to_older(name) for name in self._files):
                return []
            if specimen.is_closed:
                return [specimen.states[specimen.older_commits]]
            return specimen.states[specimen.older_sealed_commits :]
        if specimen.is_closed:
            return [specimen.state]
        if specimen.kind == "always" and self._case.is_flip:
            # Only the last record has none behind it that states it to have been durable.
            return specimen.states[-2:]
        return specimen.states[specimen.sealed_commits :]

    def _is_older(self) -> bool:
        """Whether the manifest is that of the older generation."""
        return self._case.is_mixture and self._files.get(MANIFEST) == self._specimen.older[MANIFEST]

    def _is_unknown_to_older(self, name: str) -> bool:
        """A segment that puts have filled since `older`; one of a compaction may be left over."""
        content = self._files[name]
        return (
            name.endswith(".seg")
            and name not in self._specimen.older
            and not any(content[ORIGIN_OFFSET : ORIGIN_OFFSET + 4])
        )

    def _is_whole(self, key: bytes) -> bool:
        """Whether the newest record of a key is as it was."""
        place = self._specimen.places.get(key)
        if place is None:
            return False
        part = slice(place.offset, place.offset + place.size)
        return self._files.get(place.name, b"")[part] == self._specimen.files[place.name][part]

    def _examine_writing(self) -> None:
        """What is settled is the same once more, and an index that was damaged is whole again."""
        options = self._options(read_only=False)
        first = self._ask(self._path, options, is_written=True)
        if first is None:
            return
        self._judge(first)
        second = self._ask(self._path, options)
        wanted = {**first.values, **first.written}
        if (
            second is None
            or second.unreadable
            or second.torn_bytes
            or any(second.values[key] != value for key, value in wanted.items())
        ):
            self._broken("closed and opened again it is another")
        shutil.rmtree(self._path)
        write_image(dict(self._files), self._path)

    # -- verify and repair

    def _examine_verify(self, has_trouble: bool) -> bool:
        try:
            report = verify(self._path, system=UNSYNCED)
        except FlashKVError as error:
            self._broken(f"verify is refused: {error}")
            return False
        if not report.is_ok:
            return True
        if has_trouble:
            self._broken("verify finds nothing where reads are refused")
        changed = [name for name, content in self._specimen.files.items() if self._files.get(name) != content]
        if self._case.is_flip and self._specimen.is_closed and changed[0] not in (LOCK, RESERVE, INDEX):
            self._broken("verify finds nothing")
        return False

    def _examine_repair(self) -> bool:
        try:
            report = repair(self._path, self._repaired, system=UNSYNCED)
        except FlashKVError as error:
            self._broken(f"repair is refused: {error}")
            return False
        answer = self._ask(self._repaired, self._options(read_only=True))
        if answer is None or answer.unreadable:
            self._broken("what repair has made cannot be read")
        elif not self._is_prefix(answer):
            for key in self._specimen.keys:
                self._judge_repaired(key, answer.values[key], report)
        return True

    def _is_prefix(self, answer: Answer) -> bool:
        """Where an open is right about what the store holds, repair may say the same."""
        return any(
            all(state.get(key) == value for key, value in answer.values.items())
            for state in self._possible_states()
        )

    def _judge_repaired(self, key: bytes, value: bytes | None, report: RepairReport) -> None:
        wanted = self._specimen.state.get(key)
        is_whole = self._is_whole(key) or self._is_sound_in_batch(key)
        if value == wanted or (value is None and not is_whole):
            return
        if is_whole:
            kind = "lost" if value is None else "resurrected"
            text = f"{short(key)}, whose record is whole, is {value!r} after repair"
            self._wrong.append(Violation(kind, text))  # type: ignore[arg-type]
        elif self._is_known_lost(key) or not (report.damages or self._is_older()):
            self._wrong.append(Violation("resurrected", f"{short(key)} is {value!r} after repair"))

    def _is_sound_in_batch(self, key: bytes) -> bool:
        """Whether the batch around a key's newest record is all that is damaged, and the record is as it was."""
        place = self._specimen.places.get(key)
        if place is None or not self._is_known_lost(key):
            return False
        batch = slice(place.offset, place.offset + place.size)
        now, before = self._files.get(place.name, b""), self._specimen.files[place.name]
        return (
            now[place.record] == before[place.record]
            and (now[: batch.start], now[batch.stop :]) == (before[: batch.start], before[batch.stop :])
            and all(
                self._files.get(name) == content
                for name, content in self._specimen.files.items()
                if name != place.name
            )
        )

    def _is_known_lost(self, key: bytes) -> bool:
        """Whether a hint file is left that tells of the newest record; without one an older value may come back."""
        place = self._specimen.places.get(key)
        if place is None or self._case.is_mixture:
            return not self._case.is_mixture
        hint = hint_of(place.name)
        return hint in self._specimen.files and self._files.get(hint) == self._specimen.files[hint]


def _names_index(error: Exception) -> bool:
    return isinstance(error, CorruptionError) and Path(error.path).name == INDEX
