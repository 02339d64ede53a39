"""What an import of FlashKV needs before anything else: a host the format fits, and the compiled modules.

Without its compiled half a `*_cy.py` would be imported as ordinary Python and fail deep inside Cython's names;
`require_compiled()` is called first in `flash_kv/__init__.py` and says instead what is missing and what to do.
Invariant: this module imports nothing of the package. The list of compiled modules is never written down: it is
what lies on the disk.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES

_SOURCE_SUFFIX = "_cy.py"
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def require_compiled() -> None:
    """Return when this installation can run; ImportError saying what to do when it cannot."""
    _require_host(sys.byteorder, sys.maxsize)
    missing = missing_modules(_PACKAGE)
    if missing:
        names = missing[0] if len(missing) == 1 else f"{missing[0]} (and {len(missing) - 1} more)"
        raise ImportError(
            f"FlashKV is not compiled for this Python: {names} has no {EXTENSION_SUFFIXES[0]} file in {_PACKAGE}; "
            "in a source tree run `make build`, or `pip install -e .` with this Python (a C compiler and Python's "
            "headers are needed); elsewhere reinstall flash-kv",
            name="flash_kv",
            path=_PACKAGE,
        )


def missing_modules(package: str) -> list[str]:
    """Dotted names of the modules whose source lies in the directory `package` without a compiled half."""
    missing = []
    for folder, subfolders, files in os.walk(package):
        subfolders[:] = sorted(name for name in subfolders if name != "__pycache__")
        present = set(files)
        for file in sorted(files):
            stem = file.removesuffix(".py")
            if file.endswith(_SOURCE_SUFFIX) and not any(stem + end in present for end in EXTENSION_SUFFIXES):
                parts = os.path.relpath(os.path.join(folder, stem), os.path.dirname(package)).split(os.sep)
                missing.append(".".join(parts))
    return missing


def _require_host(byteorder: str, maxsize: int) -> None:
    # The log is little-endian and read in place, and a mapping may be larger than 32 bits can address.
    if byteorder != "little":
        raise ImportError(
            f"FlashKV needs a little-endian machine, this one is {byteorder}-endian", name="flash_kv"
        )
    if maxsize < 2**63 - 1:
        raise ImportError(
            "FlashKV needs a 64-bit Python, this one has 32 bits: install a 64-bit one", name="flash_kv"
        )
