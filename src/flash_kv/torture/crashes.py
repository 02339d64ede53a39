"""Crashes: at each call to the system and after each operation, what a crash may leave is opened and judged.

A run is a chain of generations. Each runs a history in a world of its own (a `CrashSystem` over a directory), from
opening to closing. Before and after each call that changes something, states that the death of the process or a power
cut would leave are made, opened and judged. One of them, by chance, is the world that the next generation finds: so an
open that recovers is crashed in as well, and the open after that, and what is written after a recovery.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from flash_kv.engine.db import DB
from flash_kv.errors import FlashKVError, StrPath
from flash_kv.io.crash import CrashSystem
from flash_kv.io.disk_image import Image, RandomChooser, write_image
from flash_kv.io.image_system import ImageSystem
from flash_kv.io.system import System
from flash_kv.log.names import MANIFEST
from flash_kv.options import Options, parse_durability
from flash_kv.torture.journal import Journal, State, Violation
from flash_kv.torture.operations import History
from flash_kv.torture.runs import Run
from flash_kv.torture.settings import Settings
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from flash_kv.torture.tally import Tally

GENERATIONS = 4
STEPS = 30
STORE = "db"
LEFT = "left"
# How much of what was not synced a power cut leaves.
NEWEST = (0.0, 0.1, 0.5, 0.8, 0.95)
# One of so many states is also opened for writing, closed and opened once more.
REOPEN_EVERY = 32

SystemMaker = Callable[..., CrashSystem]


class CrashRun(Run):
    """The generations of one seed."""

    part = "crashes"

    def __init__(
        self,
        seed: int,
        settings: Settings,
        scratch: Path,
        *,
        make_system: SystemMaker = CrashSystem,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(seed, settings, scratch, is_over=is_over)
        self._make_system = make_system
        # Two, so that how many states are looked at does not change what the histories do.
        self._rng = random.Random(f"{seed}/history")
        self._looking = random.Random(f"{seed}/looking")
        self._seen: set[tuple[int, int, int, int]] = set()
        # What a store of this fingerprint holds: it is opened once, and judged by each promise it meets.
        self._contents: dict[int, State | None] = {}
        self._sound_backups: set[tuple[str, int]] = set()
        self._moments = 0
        self._next_world: tuple[Image, State] = ({}, {})
        self._left = ImageSystem(scratch / LEFT)

    def run(self) -> Tally:
        with self._working(), self._left:
            for generation in range(GENERATIONS):
                if generation and self._is_over():
                    break
                self._generation(generation)
        return self.tally

    def _generation(self, number: int) -> None:
        image, base = self._next_world
        root = self._scratch / f"world-{number}"
        write_image(image, root)
        options = self._settings.options(self._rng)
        self._journal = Journal(base, parse_durability(options.durability))
        self._history: History | None = None
        self._seen.clear()
        self._moments = 0
        # Half of the crashes that go on happen in the recovery: that is where the next recovery is hardest.
        self._is_crash_in_open = number > 0 and self._rng.random() < 0.5
        seed = self._rng.randrange(2**32)
        with self._make_system(root, seed=seed, watch=self._look) as system:
            self._system = system
            try:
                self._live(root / STORE, options)
            except FlashKVError as error:
                self._record("a call", Violation("other", f"{type(error).__name__}: {error}"))
            self._look("the end")
            self._drop_store()
        self.tally.acknowledged += self._journal.acknowledged
        shutil.rmtree(root)

    def _live(self, path: Path, options: Options) -> None:
        db = self._db = open_stepped(path, options, self._system)
        history = self._history = History(
            db,
            self._journal,
            self._rng,
            lambda violation: self._record("while open", violation),
            lambda: self._open_again(path, options),
        )
        for _ in range(STEPS):
            if self._is_over():
                break
            history.step()
            self._look("after an operation")
        history.end()

    def _open_again(self, path: Path, options: Options) -> DB:
        """What a process has left that died: what it had not synced may still be lost to a power cut."""
        others = self._settings.options(self._rng)
        # Of the store's promises the journal has been told once.
        self._db = open_stepped(path, replace(others, durability=options.durability), self._system)
        return self._db

    def _drop_store(self) -> None:
        db = getattr(self, "_db", None)
        if db is not None and not db._is_let_go:
            self._system.watch = None
            db.close()

    # -- looking at what a crash would leave

    def _look(self, moment: str) -> None:
        """Called at each moment at which a crash may come."""
        is_opening = self._history is None
        rng = self._looking
        if self._is_over():
            return
        self._system.disk.note()
        if rng.random() < 0.3:
            self._try_image(self._system.disk.present(), self._journal.acknowledged, f"killed, {moment}")
            self.tally.kills += self._is_tried
        # An open has few moments and the most to do in each.
        for _ in range(6 if is_opening else rng.randint(2, 4)):
            chooser = RandomChooser(rng, rng.choice(NEWEST))
            image = self._system.disk.choose(chooser)
            found = self._try_image(image, self._journal.durable, f"power cut, {moment}")
            if found is not None and (is_opening or not self._is_crash_in_open):
                self._maybe_go_on_from(image, found)

    def _maybe_go_on_from(self, image: Image, found: State) -> None:
        """Any of the moments so far with the same chance."""
        self._moments += 1
        if self._looking.randrange(self._moments) == 0:
            self._next_world = _store_in(image), found

    def _try_image(self, image: Image, floor: int, moment: str) -> State | None:
        """What a store that finds `image` holds; None when that breaks a promise, or was tried already."""
        self._is_tried = False
        # Of nothing, that is: an empty directory is something else.
        content = _fingerprint(_store_in(image))
        others = _fingerprint({name: node for name, node in image.items() if name != STORE})
        key = (content, others, floor, len(self._journal.states))
        if key in self._seen:
            return None
        self._seen.add(key)
        self._is_tried = True
        self.tally.states += 1
        self.tally.in_recovery += self._history is None
        try:
            found = self._read_store(image, content)
            if found is None or self.tally.states % REOPEN_EVERY == 0:
                # The crash came before there was a store, and an open must be able to make one.
                found = self._reopen(image, found or {})
            violation = self._journal.judge(found, floor) or self._judge_backups(image)
        except FlashKVError as error:
            violation = Violation("failed open", f"{type(error).__name__}: {error}")
        if violation is not None:
            self._record(moment, violation)
            return None
        return found

    def _read_store(self, image: Image, content: int) -> State | None:
        """What is in the store of this fingerprint. One met before, with other promises, is not opened again."""
        if content not in self._contents:
            self._contents[content] = self._read(image, STORE)
        return self._contents[content]

    def _read(self, image: Image, name: str) -> State | None:
        """What is in the store `name`, read only; None where there is none."""
        self._left.image = image
        path = _below(self._left.root, name)
        if not self._left.is_directory(path) or MANIFEST not in self._left.list_directory(path):
            return None
        options = self._settings.reading(self._looking, read_only=True)
        return _content(path, options, self._left)

    def _reopen(self, image: Image, found: State) -> State:
        """Open what is left for writing, twice, which must not change what is in it."""
        directory = self._scratch / "image"
        write_image(_store_in(image), directory)
        try:
            for _ in range(2):
                options = self._settings.reading(self._looking, read_only=False)
                if _content(directory / STORE, options, UNSYNCED) != found:
                    raise _ChangedError
        finally:
            shutil.rmtree(directory)
        return found

    def _unseen_backups(self, image: Image) -> list[str]:
        """The backups that are there and were not found sound already, as they stand in this image."""
        names = self._history.backups if self._history else ()
        return [
            name
            for name in names
            if name in image and (name, _fingerprint({"": image[name]})) not in self._sound_backups
        ]

    def _judge_backups(self, image: Image) -> Violation | None:
        """A backup appears whole or not at all."""
        for name in self._unseen_backups(image):
            if self._history is not None and self._read(image, name) != self._history.backups[name]:
                return Violation("other", f"{name} is there and does not hold what it should")
            self._sound_backups.add((name, _fingerprint({"": image[name]})))
        return None


class _ChangedError(FlashKVError):
    """Two opens of one directory gave two answers."""

    def __init__(self) -> None:
        super().__init__("the next open finds another content")


def _store_in(image: Image) -> Image:
    return {STORE: image[STORE]} if STORE in image else {}


def _content(path: StrPath, options: Options, system: System) -> State:
    with DB(path, options, system) as db:
        return dict(db.items())


@cache
def _below(root: str, name: str) -> Path:
    """One object for all opens: to make one takes as long as to open a file."""
    return Path(root, name)


def _fingerprint(node: Image | bytes) -> int:
    """Equal for equal images, within this process."""
    if isinstance(node, bytes):
        return hash(node)
    return hash(frozenset([(name, _fingerprint(content)) for name, content in node.items()]))
