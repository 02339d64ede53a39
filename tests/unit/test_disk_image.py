"""What a power cut may leave: every state the model allows and no other."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flash_kv.io.crash import CrashSystem
from flash_kv.io.disk_image import EveryChooser, Image, RandomChooser, write_image

CREATE = os.O_RDWR | os.O_CREAT
PAGE = 4096


@pytest.fixture
def system(tmp_path: Path) -> Iterator[CrashSystem]:
    (tmp_path / "root").mkdir()
    with CrashSystem(tmp_path / "root") as system:
        yield system


def every_image(system: CrashSystem) -> list[Image]:
    chooser = EveryChooser()
    images = []
    system.disk.note()
    while chooser.has_next():
        images.append(system.disk.choose(chooser))
    return images


def write(system: CrashSystem, name: str, data: bytes, *, offset: int = 0, is_synced: bool = False) -> None:
    fd = system.open(system.root / name, CREATE)
    system.write_at(fd, data, offset)
    if is_synced:
        system.sync_file(fd)
    system.close(fd)


def test_what_is_synced_is_all_that_can_be_left(system: CrashSystem) -> None:
    write(system, "a", b"x" * 5000, is_synced=True)
    system.sync_directory(system.root)
    assert every_image(system) == [{"a": b"x" * 5000}]


def test_a_new_file_without_a_sync_of_its_directory_may_be_missing(system: CrashSystem) -> None:
    write(system, "a", b"x", is_synced=True)
    assert every_image(system) == [{}, {"a": b"x"}]


def test_a_written_page_is_old_new_or_torn_between_two_sectors(system: CrashSystem) -> None:
    write(system, "a", b"o" * PAGE, is_synced=True)
    system.sync_directory(system.root)
    write(system, "a", b"n" * PAGE)
    found = sorted(image["a"] for image in every_image(system))  # type: ignore[type-var]
    assert found == sorted(b"n" * size + b"o" * (PAGE - size) for size in range(0, PAGE + 1, 512))


def test_pages_are_kept_and_lost_independently(system: CrashSystem) -> None:
    write(system, "a", b"o" * 2 * PAGE, is_synced=True)
    system.sync_directory(system.root)
    write(system, "a", b"n" * 2 * PAGE)
    found = {(image["a"][0], image["a"][-1]) for image in every_image(system)}  # type: ignore[index]
    assert found == {(first, second) for first in b"on" for second in b"on"}


def test_a_file_that_grew_may_have_its_old_size_and_what_is_not_written_back_reads_as_zeros(
    system: CrashSystem,
) -> None:
    write(system, "a", b"o", is_synced=True)
    system.sync_directory(system.root)
    write(system, "a", b"n", offset=PAGE)
    found = {image["a"] for image in every_image(system)}
    assert found == {b"o", b"o".ljust(PAGE + 1, b"\0"), b"o".ljust(PAGE, b"\0") + b"n"}


def test_what_is_stored_into_a_mapping_is_found_by_looking(system: CrashSystem) -> None:
    fd = system.open(system.root / "a", CREATE)
    system.allocate(fd, 0, PAGE)
    system.sync_file(fd)
    system.sync_directory(system.root)
    with_mapping = system.map(fd, PAGE, True)
    with_mapping.write(0, b"n")
    assert {image["a"][:1] for image in every_image(system)} == {b"\0", b"n"}  # type: ignore[index]
    with_mapping.write(0, b"m")
    assert {image["a"][:1] for image in every_image(system)} == {b"\0", b"n", b"m"}  # type: ignore[index]
    with_mapping.close()
    system.close(fd)


def test_a_rename_has_happened_or_not_and_is_never_half_done(system: CrashSystem) -> None:
    write(system, "old", b"o", is_synced=True)
    system.sync_directory(system.root)
    write(system, "tmp", b"n", is_synced=True)
    system.rename(system.root / "tmp", system.root / "old")
    found = every_image(system)
    assert {"old": b"o"} in found
    assert {"old": b"n"} in found
    assert all(image["old"] in (b"o", b"n") for image in found)
    system.sync_directory(system.root)
    assert every_image(system) == [{"old": b"n"}]


def test_a_removed_file_may_be_back_until_its_directory_is_synced(system: CrashSystem) -> None:
    write(system, "a", b"x", is_synced=True)
    system.sync_directory(system.root)
    system.unlink(system.root / "a")
    assert every_image(system) == [{"a": b"x"}, {}]
    system.sync_directory(system.root)
    assert every_image(system) == [{}]


def test_changes_of_names_are_independent_of_their_order(system: CrashSystem) -> None:
    for name in ("a", "b"):
        write(system, name, b"x", is_synced=True)
    found = [sorted(image) for image in every_image(system)]
    assert sorted(found) == [[], ["a"], ["a", "b"], ["b"]]


def test_directories_below_have_books_of_their_own(system: CrashSystem) -> None:
    system.make_directory(system.root / "d")
    write(system, "d/a", b"x", is_synced=True)
    assert every_image(system) == [{}, {"d": {}}, {"d": {"a": b"x"}}]
    system.sync_directory(system.root / "d")
    assert every_image(system) == [{}, {"d": {"a": b"x"}}]
    system.sync_directory(system.root)
    system.unlink(system.root / "d/a")
    system.remove_directory(system.root / "d")
    assert every_image(system) == [{"d": {"a": b"x"}}, {"d": {}}, {}, {}][: len(every_image(system))]


def test_a_file_with_two_names_has_one_content(system: CrashSystem) -> None:
    write(system, "a", b"o", is_synced=True)
    system.link(system.root / "a", system.root / "b")
    system.sync_directory(system.root)
    write(system, "a", b"n")
    assert {image["a"] == image["b"] for image in every_image(system)} == {True}


def test_the_death_of_the_process_leaves_everything(system: CrashSystem) -> None:
    write(system, "a", b"x")
    system.disk.note()
    assert system.disk.present() == {"a": b"x"}


def test_what_is_there_when_the_system_is_made_is_durable(tmp_path: Path) -> None:
    image: Image = {"a": b"x" * 5000 + b"\0" * 100, "d": {"b": b""}}
    write_image(image, tmp_path / "root")
    with CrashSystem(tmp_path / "root") as system:
        assert every_image(system) == [image]


@pytest.mark.parametrize("newest", [0.0, 0.5, 1.0])
def test_the_states_of_chance_are_among_all_states(
    system: CrashSystem, rng: random.Random, newest: float
) -> None:
    write(system, "a", b"o" * PAGE, is_synced=True)
    system.sync_directory(system.root)
    write(system, "a", b"n" * 100)
    write(system, "b", b"")
    every = every_image(system)
    for _ in range(50):
        assert system.disk.choose(RandomChooser(rng, newest)) in every


def test_the_same_seed_gives_the_same_ids_and_times(tmp_path: Path) -> None:
    def draw(seed: int) -> tuple[bytes, int]:
        with CrashSystem(tmp_path, seed=seed) as system:
            return system.random_bytes(16), system.now_ns()

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda system, outside: system.rename(system.root / "a", outside),
        lambda system, outside: system.rename(outside, system.root / "b"),
    ],
)
def test_a_rename_out_of_what_is_simulated_is_refused(
    system: CrashSystem, tmp_path: Path, call: Callable[[CrashSystem, Path], None]
) -> None:
    write(system, "a", b"x")
    (tmp_path / "outside").touch()
    with pytest.raises(ValueError, match="not simulated"):
        call(system, tmp_path / "outside")
