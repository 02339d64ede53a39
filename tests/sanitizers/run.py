"""Run the suite on a build with sanitizers: `python tests/sanitizers/run.py address|thread [pytest arguments]`.

The compiled modules are built into build/sanitize/<kind>, beside the ordinary build and never mixed with it; what was
built is built again only where a source has changed. The interpreter itself is not instrumented: the sanitizer's
library is loaded before everything else. Reports go to files, because one written by a child process, or by an
interpreter that is killed later, would pass unseen otherwise; any file is a failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from compiler import C_READERS, READERS, declaration

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "sanitize"
COMPILER = Path(__file__).with_name("compiler.py")

COMMON_FLAGS = "-O1 -g -fno-omit-frame-pointer"
FLAGS = {
    # Python's own flags define signed overflow; here it shall be found.
    "address": f"{COMMON_FLAGS} -fno-wrapv -fsanitize=address,undefined -fno-sanitize-recover=undefined",
    # The compiler warns that this sanitizer knows no fences: those who need them are told in compiler.py.
    "thread": f"{COMMON_FLAGS} -fsanitize=thread -Wno-tsan",
}
LIBRARIES = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
# What is about the engine. The command line is the same Python on both builds; the tests in meta are about sources.
SUITES = {
    "address": [
        f"tests/{name}" for name in ("unit", "recovery", "faults", "model", "concurrency", "regressions")
    ],
    "thread": [
        "tests/concurrency",
        "tests/unit/test_index.py::test_readers_beside_a_writer_miss_no_key_that_is_always_there",
    ],
}
# Whatever takes longer than the tests' own limit for one may just be slow here.
TEST_SECONDS_MAX = 1800
OPTIONS = {
    "address": {
        # An interpreter leaves much to the end of the process. Asking for more memory than there is is tested.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:log_path={log}",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:log_path={log}",
        # Python's own allocator would hide what lies around a block.
        "PYTHONMALLOC": "malloc",
    },
    "thread": {
        # Tests fork while threads run, and the child does little more than say what it found.
        "TSAN_OPTIONS": "die_after_fork=0:history_size=7:second_deadlock_stack=1:exitcode=66:log_path={log}",
    },
}


# Loaded beside the other's library, the one for undefined behaviour ignores `log_path` and writes to where nobody
# looks; it listens when told in the process itself.
START = """
import ctypes
ctypes.CDLL({library!r}).__sanitizer_set_report_path({report!r})
"""
# What each has to report: a write behind a block, a sum that does not fit, and two threads that write to one block
# without a lock, often enough to do so at once where other work has the processors. The package is imported as well, to
# see that it is the one that was built for this.
OVERFLOW = "int overflow(int number) { return number + 2147483647; }"
CANARIES = {
    "address": [
        "libc.malloc.restype = ctypes.c_void_p; ctypes.memset(libc.malloc(8), 0, 9)",
        "ctypes.CDLL({canary!r}).overflow(1)",
    ],
    "thread": [
        """
block = ctypes.create_string_buffer(4096)
calls = [threading.Thread(target=lambda: [libc.memset(block, n, 4096) for n in range(50000)]) for _ in range(2)]
for call in calls: call.start()
for call in calls: call.join()
""",
    ],
}
IMPORTS = (
    "import ctypes, threading, flash_kv; libc = ctypes.CDLL(None); assert flash_kv.__file__.startswith({!r})"
)


def build(kind: str) -> Path:
    """Compile; the directory with the package."""
    library = BUILD / kind / "lib"
    command = [sys.executable, "setup.py", "--quiet", "build"]
    command += ["--build-base", str(BUILD / kind / "objects"), "--build-lib", str(library)]
    variables = {**os.environ, "CFLAGS": FLAGS[kind]}
    if kind == "thread":
        _require_readers()
        if library.exists() and library.stat().st_mtime < COMPILER.stat().st_mtime:
            shutil.rmtree(BUILD / kind)
        variables["FLASH_KV_COMPILER"] = os.environ.get("CC", "cc")
        variables["FLASH_KV_MARKED_SOURCES"] = str(BUILD / kind / "marked")
        variables["CC"] = f"{sys.executable} {COMPILER}"
    subprocess.run(command, cwd=ROOT, env=variables, check=True)
    return library


def _require_readers() -> None:
    """What is exempt has to be there under its name: the ordinary build has translated all modules."""
    translated = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*_cy.c"))
    if missing := [name for name in (*READERS, *C_READERS) if not declaration(name).search(translated)]:
        sys.exit(f"{COMPILER} exempts functions that are not there: {', '.join(missing)}")


def environment(kind: str, library: Path, reports: Path) -> dict[str, str]:
    values = {"log": str(reports / "report")}
    if kind == "address":
        start = START.format(library=_library_path("libubsan.so"), report=os.fsencode(reports / "undefined"))
        (library / "sitecustomize.py").write_text(start, encoding="utf-8")
    return {
        **os.environ,
        **{name: text.format(**values) for name, text in OPTIONS[kind].items()},
        "LD_PRELOAD": " ".join(_library_path(name) for name in LIBRARIES[kind]),
        "PYTHONPATH": str(library),
        "FLASH_KV_TEST_SANITIZER": kind,
    }


def _library_path(name: str) -> str:
    command = [os.environ.get("CC", "cc"), f"-print-file-name={name}"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"this compiler has no {name}: install its sanitizer libraries")
    return path


def _empty(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def require_working(kind: str, library: Path) -> None:
    """A sanitizer that reports nothing where there is something says nothing by its silence."""
    canary = BUILD / kind / "canary.so"
    compiler = [os.environ.get("CC", "cc"), *FLAGS[kind].split(), "-shared", "-fPIC", "-x", "c", "-"]
    subprocess.run([*compiler, "-o", canary], input=OVERFLOW.encode(), check=True)
    for text in CANARIES[kind]:
        reports = _empty(BUILD / kind / "canary")
        program = "\n".join((IMPORTS.format(str(library)), text.format(canary=str(canary))))
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env=environment(kind, library, reports), capture_output=True, check=False
        )
        if not any(reports.iterdir()):
            sys.exit(f"the {kind} sanitizer is not at work here: {done.stderr.decode()[-1000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the suite on a build with sanitizers.")
    parser.add_argument("kind", choices=FLAGS)
    known, arguments = parser.parse_known_args()
    chosen = known.kind
    library = build(chosen)
    require_working(chosen, library)
    reports = _empty(BUILD / chosen / "reports")
    suites = [] if any("tests/" in text for text in arguments) else SUITES[chosen]
    command = [sys.executable, "-m", "pytest", "-m", "not packaging and not lint"]
    command += ["-o", f"faulthandler_timeout={TEST_SECONDS_MAX}", *suites, *arguments]
    status = subprocess.run(
        command, cwd=ROOT, env=environment(chosen, library, reports), check=False
    ).returncode
    found = sorted(reports.iterdir())
    for report in found:
        print(f"--- {report}\n{report.read_text('utf-8', 'replace')}")
    print(f"{chosen}: {len(found)} reports, pytest ended with {status}")
    return status or bool(found)


if __name__ == "__main__":
    sys.exit(main())
