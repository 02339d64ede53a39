"""Builds the compiled modules: every `*_cy.py` under `src/flash_kv` is one extension module.

Everything else about the distribution stands in pyproject.toml. Invariants: a module that does not compile
fails the build; nothing is compiled for the building machine's own CPU (what a CPU can do is found out at run
time); only what changed since the last build in place is built again.
"""

import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("src", "flash_kv")
HEADERS = PACKAGE / "include"
JOBS_MAX = 4  # the C compiler takes some hundred MB for each

COMPILER_ARGUMENTS = [
    # A level asked for in CFLAGS comes before these arguments and would otherwise lose to ours.
    *([] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]),
    # Records are read and written through pointers of several types into one mapping.
    "-fno-strict-aliasing",
    # Only the module's init function is looked up by name.
    "-fvisibility=hidden",
    # Cython emits static helpers whether or not the module calls them.
    "-Wno-unused-function",
]

# Bounds and signs are checked where a length enters (docs/design.md), not at each access.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "embedsignature.format": "python",
}


class BuildCompiledModules(build_ext):
    """`build_ext` that translates all modules to C first, side by side, and only when it really builds."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = min(os.cpu_count() or 1, JOBS_MAX)

    def run(self) -> None:
        _require_headers()
        self._translate()
        super().run()

    def _translate(self) -> None:
        from Cython.Build import cythonize

        translated = cythonize(
            self.extensions,
            nthreads=self.parallel,
            # The directives change every translation, and Cython compares the ages of sources only.
            force=self.force or any(_is_older_than_setup(extension) for extension in self.extensions),
            quiet=self.verbose == 0,
            include_path=["src"],
            compiler_directives=DIRECTIVES,
        )
        # setuptools keeps notes of its own on its Extension objects: those stay, with other sources.
        c_sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = c_sources[extension.name]


def _is_older_than_setup(extension: Extension) -> bool:
    output = (ROOT / extension.sources[0]).with_suffix(".c")
    return output.exists() and output.stat().st_mtime < (ROOT / "setup.py").stat().st_mtime


def _require_headers() -> None:
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise PlatformError(
            f"{header} is missing: FlashKV compiles its hot path; install this Python's headers "
            "(python3-dev on Debian, python3-devel on Fedora) and a C compiler, then build again"
        )


def _compiled_modules() -> list[Extension]:
    modules = []
    for path in sorted((ROOT / PACKAGE).rglob("*_cy.py")):
        source = path.relative_to(ROOT)
        modules.append(
            Extension(
                ".".join(source.with_suffix("").parts[1:]),
                [str(source)],
                include_dirs=[str(HEADERS)],
                depends=["setup.py", *(str(header) for header in sorted(HEADERS.glob("*.h")))],
                extra_compile_args=COMPILER_ARGUMENTS,
            )
        )
    return modules


# The workers of a parallel translation import this file again where processes are spawned, not forked.
if __name__ == "__main__":
    setup(ext_modules=_compiled_modules(), cmdclass={"build_ext": BuildCompiledModules})
