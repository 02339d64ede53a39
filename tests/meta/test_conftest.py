"""The check that nothing stays behind finds what it is there for, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SAMPLE = """
import gc, mmap, os, threading

KEPT = []


def map_a_file(path):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, 4096)
    kept = mmap.mmap(descriptor, 4096)
    os.close(descriptor)
    return kept


def test_leaves_a_file(tmp_path):
    KEPT.append(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))


def test_leaves_a_deleted_file(tmp_path):
    KEPT.append(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    os.unlink(tmp_path / "file")


def test_leaves_a_mapping(tmp_path):
    KEPT.append(map_a_file(tmp_path / "file"))


def test_leaves_a_thread():
    thread = threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True)
    thread.start()


def test_leaves_nothing(tmp_path):
    os.close(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    map_a_file(tmp_path / "file").close()
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()


def test_leaves_a_mapping_to_the_collector(tmp_path):
    cycle = [map_a_file(tmp_path / "file")]
    cycle.append(cycle)


def test_fails_and_leaves_a_file(tmp_path):
    KEPT.append(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    assert False


def test_numbers_of_a_seed(rng):
    print("drawn", rng.random())


def test_runs_once_per_kind(index, io):
    print("kind", index, io)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of the sample above under our conftest."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "conftest.py").write_bytes(CONFTEST.read_bytes())
    (folder / "test_sample.py").write_text(SAMPLE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(folder),
    ]
    environment = {**os.environ, "FLASH_KV_TEST_SEED": "7"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("test", "left"),
    [
        ("test_leaves_a_file", "open file .*/file"),
        ("test_leaves_a_deleted_file", r"open file .*/file \(deleted\)"),
        ("test_leaves_a_mapping", "mapping .*/file"),
        ("test_leaves_a_thread", "thread forgotten"),
    ],
)
def test_what_is_left_behind_fails_the_test(report: str, test: str, left: str) -> None:
    assert re.search(rf"^ERROR test_sample\.py::{test} - Failed: left behind", report, re.MULTILINE)
    assert re.search(rf"at teardown of {test} _+\nleft behind by this test:\n(?:  .*\n)*?  {left}", report)


@pytest.mark.parametrize("test", ["test_leaves_nothing", "test_leaves_a_mapping_to_the_collector"])
def test_what_is_given_back_does_not_fail(report: str, test: str) -> None:
    assert f"PASSED test_sample.py::{test}\n" in report
    assert f"ERROR test_sample.py::{test} " not in report


def test_a_failed_test_is_reported_once(report: str) -> None:
    assert "FAILED test_sample.py::test_fails_and_leaves_a_file" in report
    assert "ERROR test_sample.py::test_fails_and_leaves_a_file" not in report


def test_the_seed_is_in_the_header(report: str) -> None:
    assert "FLASH_KV_TEST_SEED=7\n" in report


def test_engine_tests_run_once_per_index_and_io_kind(report: str) -> None:
    kinds = sorted(re.findall(r"^kind (\w+) (\w+)$", report, re.MULTILINE))
    # Elsewhere than in some suites only the B-tree meets io="file".
    assert kinds == sorted(
        [("btree", "file"), *((index, "mmap") for index in ("bptree", "btree", "hash", "skiplist"))]
    )
