"""Looking after the store: `/v1/compaction`, `/v1/verify`, `/v1/backup`, `/v1/backups`."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from pathlib import Path
from typing import Any

from flash_kv import BackupReport, StorageError
from flash_kv.server.http.answers import Answer, json_answer
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Route
from flash_kv.server.jobs import Job, Jobs, Kind
from flash_kv.server.service import Service

BODY_BYTES_MAX = 4096
# What becomes the name of a directory: no separator, no leading dot, and not what a backup in the making is called.
_NAME = re.compile(r"(?!\.|tmp-)[A-Za-z0-9._-]{1,64}")


class Maintenance:
    """The handlers of the jobs."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.jobs = Jobs(service)

    def routes(self) -> list[Route]:
        """All of them, for administrators."""
        return [
            Route("GET", "/v1/compaction", self.compaction, "admin"),
            Route("POST", "/v1/compaction", self.compact, "admin"),
            Route("DELETE", "/v1/compaction", self.cancel_compaction, "admin"),
            Route("GET", "/v1/verify", self.verification, "admin"),
            Route("POST", "/v1/verify", self.verify, "admin"),
            Route("DELETE", "/v1/verify", self.cancel_verification, "admin"),
            Route("POST", "/v1/backup", self.backup, "admin"),
            Route("DELETE", "/v1/backup", self.cancel_backup, "admin"),
            Route("GET", "/v1/backups", self.backups, "admin"),
        ]

    async def compaction(self, request: Request) -> Answer:
        request.query(())
        return json_answer(self.jobs.last["compaction"].as_dict())

    async def compact(self, request: Request) -> Answer:
        request.query(())
        body = await _object(request, ("dry_run",))
        dry_run = body.get("dry_run", False)
        if type(dry_run) is not bool:
            raise Problem(400, "dry_run must be true or false")
        db = self.service.db
        if dry_run:
            report = await self.service.call(db.compact, dry_run=True)
            return json_answer({"state": "done", "report": report.as_dict()})
        self.jobs.compact()
        return json_answer(self.jobs.last["compaction"].as_dict(), 202)

    async def cancel_compaction(self, request: Request) -> Answer:
        return self._cancel("compaction", request)

    async def cancel_verification(self, request: Request) -> Answer:
        return self._cancel("verify", request)

    async def cancel_backup(self, request: Request) -> Answer:
        return self._cancel("backup", request)

    def _cancel(self, kind: Kind, request: Request) -> Answer:
        request.query(())
        return json_answer(self.jobs.cancel(kind).as_dict(), 202)

    async def verification(self, request: Request) -> Answer:
        request.query(())
        return json_answer(self.jobs.last["verify"].as_dict())

    async def verify(self, request: Request) -> Answer:
        request.query(())
        await _object(request, ())
        self.jobs.verify()
        return json_answer(self.jobs.last["verify"].as_dict(), 202)

    async def backup(self, request: Request) -> Answer:
        request.query(())
        name = (await _object(request, ("name",))).get("name")
        directory = self._directory()
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Problem(
                400,
                "name must have 1 to 64 letters, digits, dots, hyphens and underlines, and begin with neither a dot "
                "nor tmp-",
            )
        target = directory / name

        def copy(job: Job) -> BackupReport:
            # Not followed: a link that somebody put there is something that is there.
            if os.path.lexists(target):
                raise StorageError(errno.EEXIST, target, "back up to")
            return self.service.db.backup(target, progress=job.note)

        done = self.jobs.start("backup", copy)
        job = self.jobs.last["backup"]
        # The backup goes on when the client does not wait for it.
        await asyncio.shield(asyncio.wrap_future(done))
        if job.state == "cancelled":
            raise Problem(409, "the backup was cancelled, and nothing of it is left", slug="cancelled")
        if job.error is not None:
            raise _failure(job, target)
        assert isinstance(job.report, BackupReport)
        return json_answer({"name": name, **_shown(job.report)}, 201)

    async def backups(self, request: Request) -> Answer:
        request.query(())
        found = await self.service.call(_list_backups, self._directory())
        return json_answer({"backups": found})

    def _directory(self) -> Path:
        directory = self.service.settings.backup_directory
        if directory is None:
            raise Problem(
                403,
                "no folder for backups is set: start the server with --backup-directory",
                slug="no-backups",
            )
        return directory


def _failure(job: Job, target: Path) -> Problem:
    error = dict(job.error or {})
    if os.path.lexists(target):
        return Problem(409, "there is a backup of that name", slug="exists")
    status, detail = error.pop("status"), error.pop("detail")
    return Problem(status, detail, slug=str(error["type"]).removeprefix("urn:flash-kv:"))


def _shown(report: BackupReport) -> dict[str, Any]:
    """A backup's report without where it is on the server."""
    return {name: value for name, value in report.as_dict().items() if name != "path"}


def _list_backups(directory: Path) -> list[dict[str, Any]]:
    """The backups in the folder, the newest first; what is none is left out."""
    found = []
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return []
    for entry in entries:
        if not _NAME.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            made_at = os.lstat(os.path.join(entry.path, "MANIFEST")).st_mtime
            size = sum(one.stat(follow_symlinks=False).st_size for one in os.scandir(entry.path))
        except OSError:
            continue  # no store, or going just now
        found.append({"name": entry.name, "bytes": size, "made_at": round(made_at, 3)})
    return sorted(found, key=lambda one: one["made_at"], reverse=True)


async def _object(request: Request, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The body as a JSON object with no other fields; an empty body is an empty one."""
    if (
        not request.headers.get(b"content-length", b"0").strip(b"0")
        and b"transfer-encoding" not in request.headers
    ):
        return {}
    body = await request.json(BODY_BYTES_MAX)
    if not isinstance(body, dict) or not set(body) <= set(allowed):
        raise Problem(
            400, f"the body must be a JSON object with no fields but: {', '.join(allowed) or 'none'}"
        )
    return body
