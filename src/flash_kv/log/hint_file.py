"""Writing hint files: whole or not at all. What is in one: hints_cy.py and docs/format.md."""

from __future__ import annotations

import os

from flash_kv.errors import StrPath
from flash_kv.io.system import System
from flash_kv.log.hints_cy import HintRun
from flash_kv.log.names import hint_name, temporary_name


def write_hint(system: System, directory: StrPath, segment_id: int, run: HintRun) -> None:
    """Write a hint file: whole under a temporary name, then renamed. OSError leaves nothing behind."""
    name = hint_name(segment_id)
    path = os.path.join(directory, name)
    temporary = os.path.join(directory, temporary_name(name))
    fd = system.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
    try:
        try:
            offset = 0
            for chunk in run.chunks():
                system.write_at(fd, chunk, offset)
                offset += len(chunk)
            system.sync_file(fd)
        finally:
            system.close(fd)
        system.rename(temporary, path)
    except BaseException as error:
        try:
            system.unlink(temporary)
        except FileNotFoundError:
            pass  # it was renamed, and what came after was an interrupt
        except OSError as cleanup_error:
            error.add_note(f"{temporary} is left behind: {cleanup_error}")
        raise
