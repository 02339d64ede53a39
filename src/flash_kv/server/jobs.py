"""`Jobs`: the long operations of the store, compaction, verify and backup: in a thread, one at a time.

A job goes on when the client that asked for it is gone. One that is cancelled, by a client or by the end of the server,
gives up at the next moment it can: a compaction within a megabyte, a backup within four, a verification with the
segment that it reads. Nothing of a backup is left.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from flash_kv import BackupReport, CompactionProgress, CompactionReport, FlashKVError, VerifyReport
from flash_kv.server.http.problems import Problem, describe
from flash_kv.server.service import Service

log = logging.getLogger("flash_kv.server")

Kind = Literal["compaction", "verify", "backup"]
State = Literal["idle", "running", "done", "failed", "cancelled"]
Report = CompactionReport | VerifyReport | BackupReport


class _CancelledError(Exception):
    """What a job is told that is to end early."""


@dataclass
class Job:
    """The last job of its kind."""

    kind: Kind
    state: State = "idle"
    started_at: float | None = None
    ended_at: float | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    report: Report | None = None
    error: dict[str, Any] | None = None
    is_cancelled: bool = False

    def note(self, bytes_done: int, bytes_total: int) -> None:
        """How far it is; what its work is told when it is to end early is raised."""
        self.bytes_done, self.bytes_total = bytes_done, bytes_total
        if self.is_cancelled:
            raise _CancelledError

    def as_dict(self) -> dict[str, Any]:
        """As it is shown to clients."""
        shown: dict[str, Any] = {
            "state": self.state,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }
        share = 1.0 if self.state == "done" else 0.0
        if self.bytes_total and self.state != "done":
            share = min(self.bytes_done / self.bytes_total, 1.0)
        shown |= {"progress": share, "bytes_done": self.bytes_done, "bytes_total": self.bytes_total}
        if self.report is not None:
            shown["report"] = self.report.as_dict()
        if self.error is not None:
            shown["error"] = self.error
        return shown


class Jobs:
    """The jobs of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.last: dict[Kind, Job] = {
            "compaction": Job("compaction"),
            "verify": Job("verify"),
            "backup": Job("backup"),
        }
        # Guards `_running` and the states of jobs: they change in the event loop and in the job's thread.
        self._lock = threading.Lock()
        self._running: Job | None = None
        service.stoppers.append(self._stop)

    @property
    def running(self) -> Job | None:
        """The job that is at work."""
        return self._running

    def start(self, kind: Kind, work: Callable[[Job], Report]) -> Future[None]:
        """Begin a job. Problem 409 while another one runs."""
        with self._lock:
            if self._running is not None:
                raise Problem(409, f"a {self._running.kind} is running", slug="busy", job=self._running.kind)
            job = Job(kind, "running", time.time())
            self._running = self.last[kind] = job
        try:
            return self.service.submit(self._run, job, work)
        except RuntimeError:
            # The server is being stopped and takes no more work.
            self._end(job, "cancelled")
            raise Problem(503, "the server is stopping", slug="stopping") from None

    def compact(self) -> Future[None]:
        """Begin a compaction."""
        return self.start("compaction", self._compact)

    def verify(self) -> Future[None]:
        """Begin a verification."""
        return self.start("verify", lambda job: self.service.db.verify(progress=job.note))

    def cancel(self, kind: Kind) -> Job:
        """Have a running job end early. Problem 409 when there is none."""
        with self._lock:
            job = self._running
            if job is None or job.kind != kind:
                raise Problem(409, f"no {kind} is running", slug="not-running")
            job.is_cancelled = True
            return job

    def _compact(self, job: Job) -> CompactionReport:
        def note(progress: CompactionProgress) -> bool:
            job.bytes_done, job.bytes_total = progress.bytes_done, progress.bytes_total
            return not job.is_cancelled

        return self.service.db.compact(progress=note)

    def _run(self, job: Job, work: Callable[[Job], Report]) -> None:
        """In the job's thread."""
        state: State = "failed"
        try:
            job.report = work(job)
            cut_short = isinstance(job.report, CompactionReport) and job.report.is_cancelled
            state = "cancelled" if cut_short else "done"
        except _CancelledError:
            state = "cancelled"
        except FlashKVError as error:
            job.error = describe(error).document()
            log.error("%s: %s", job.kind, error)
        except Exception:
            job.error = Problem(500, "an error nobody foresaw; the server's log has it").document()
            log.exception("%s", job.kind)
        finally:
            self._end(job, state)

    def _end(self, job: Job, state: State) -> None:
        with self._lock:
            job.state, job.ended_at = state, time.time()
            self._running = None

    async def _stop(self) -> None:
        with self._lock:
            if self._running is not None:
                self._running.is_cancelled = True
