"""A load that goes on where an earlier one of the same input stopped: uses and keeps its mark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_kv.cli.exits import BadRow, ExitCode, Failure, InputError
from flash_kv.cli.formats.rows import RowReader
from flash_kv.cli.loading import LoadReport, Place
from flash_kv.cli.marks import Mark, default_mark_path, digest, read_mark, remove_mark, write_mark
from flash_kv.cli.output import count_of, notice

if TYPE_CHECKING:
    import flash_kv


class MarkedLoad:
    """The mark of one load: `begin`, then `note` after each commit, then `finish`.

    `chosen_path`: where the user wants the mark; None keeps it beside the store, and keeps none for a pipe.
    """

    def __init__(
        self, db: flash_kv.DB, store: Path, source: dict[str, Any], *, chosen_path: Path | None, is_pipe: bool
    ) -> None:
        self._db = db
        self._source = source
        self._is_pipe = is_pipe
        self._is_chosen = chosen_path is not None
        self._path: Path | None = chosen_path
        if chosen_path is None and not is_pipe:
            self._path = default_mark_path(store, source)
        self._earlier: Mark | None = None

    def begin(self, open_reader: Callable[[], RowReader], *, restart: bool) -> RowReader:
        """The reader of the input, at its beginning or where the earlier load stopped."""
        reader = open_reader()
        mark = None if restart else self._usable_mark()
        if mark is None:
            return reader
        if self._is_at(reader, mark):
            self._earlier = mark
            place = f"{reader.unit} {reader.row + 1}"
            done = count_of(mark.records, "record")
            notice(f"going on at {place}, after {done} of an earlier load (--restart begins anew)")
            return reader
        if self._is_pipe:
            raise InputError(
                f"this input is not the one {self._path} was written for: "
                "bring the same bytes again, or add --restart"
            )
        notice(f"the mark {self._path} does not fit this input: beginning anew")
        return open_reader()

    def note(self, place: Place, report: LoadReport) -> None:
        """Remember a committed batch."""
        if self._path is None:
            return
        earlier = self._earlier
        mark = Mark(
            source=self._source,
            lsn=self._db.stats().lsn,
            offset=place.offset,
            row=place.row,
            records=report.records + (earlier.records if earlier else 0),
            witness_key=place.key.hex(),
            witness_digest=digest(place.value),
        )
        try:
            write_mark(self._path, mark)
        except OSError as error:
            if self._is_chosen:
                raise
            notice(f"no resume mark: {self._path}: {error.strerror} (--resume FILE keeps it elsewhere)")
            self._path = None

    def finish(self, report: LoadReport) -> None:
        """The whole input is in the store: the mark has served."""
        report.resumed_records = self._earlier.records if self._earlier else 0
        if self._path is not None:
            remove_mark(self._path)

    def _usable_mark(self) -> Mark | None:
        if self._path is None:
            return None
        try:
            mark = read_mark(self._path)
        except ValueError as error:
            if self._is_chosen:
                # Whatever this file is, it is the user's, and writing the mark would replace it.
                raise Failure(f"{error}: choose another file for --resume", ExitCode.USAGE) from error
            notice(f"{error}: beginning anew")
            return None
        if mark is not None and not mark.is_of(self._source, self._db):
            notice(f"the mark {self._path} is of another input or store: beginning anew")
            return None
        return mark

    @staticmethod
    def _is_at(reader: RowReader, mark: Mark) -> bool:
        """Move past the record the mark names; False when the input has another one there."""
        try:
            reader.resume(mark.offset, mark.row)
            key, value = next(reader)
        except (BadRow, InputError, StopIteration):
            return False
        return mark.is_witness(key, value)
