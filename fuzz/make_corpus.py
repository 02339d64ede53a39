"""`python -m fuzz.make_corpus`: write the inputs that the fuzzers begin with, from real stores.

Files named `found-...` are findings and stay.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from flash_kv.torture.specimen import KINDS, make_specimen
from fuzz import CORPUS, INPUT_BYTES_MAX, TARGETS
from fuzz.directory import COPY, DROP, INSERT, OLDER, OVERWRITE, REMOVE


def _inputs() -> dict[str, dict[str, bytes]]:
    inputs: dict[str, dict[str, bytes]] = {target: {} for target in TARGETS}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            specimen = make_specimen(kind, Path(scratch) / kind)
            for name, content in specimen.files.items():
                place = f"{kind}-{name}"
                if len(content) > INPUT_BYTES_MAX:
                    continue
                if name.endswith(".seg"):
                    # Of an unsealed one scanned as such, and as sealed, where its end is damage.
                    for flags in (0, 1, 2 + 4):
                        inputs["segment"][f"{place}-{flags}"] = bytes([flags, 0]) + content
                elif name.endswith(".hint"):
                    inputs["hint"][place] = b"\0" + content
                elif name == "MANIFEST":
                    inputs["manifest"][place] = b"\1" + content
    for kind in range(len(KINDS)):
        for what in (OVERWRITE, INSERT, DROP, REMOVE, OLDER, COPY):
            changes = b"".join(
                bytes([number, what, 80 + number, 0, 4])
                + (b"\xff\0\1\2" if what in (OVERWRITE, INSERT) else b"")
                for number in range(3 + what)
            )
            inputs["directory"][f"{KINDS[kind]}-{what}"] = bytes([kind, kind + 4 * (what % 2)]) + changes
    return inputs


def main() -> None:
    """Replace all but the findings."""
    for target, inputs in _inputs().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found-"):
                old.unlink()
        for name, data in inputs.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
