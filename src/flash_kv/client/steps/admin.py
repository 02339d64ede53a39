"""Looking after a store from afar: stats, sync, and the long operations, which the server does while a client asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from flash_kv.client import reports
from flash_kv.client.calls import PROBLEM, Answer, Pause, Steps, json_call
from flash_kv.client.errors import RemoteError
from flash_kv.client.problems import error_of
from flash_kv.engine.reports import BackupReport, CompactionProgress, CompactionReport, Stats, VerifyReport

# How often a long operation is asked how far it is: at first often, because most are short.
PAUSE_S_MIN = 0.01
PAUSE_S_MAX = 0.5

Job = Literal["compaction", "verify", "backup"]
Progress = Callable[[CompactionProgress], object]


def stats() -> Steps[Stats]:
    """The state of the store."""
    answer = yield json_call("GET", "/v1/stats", is_read=True)
    return reports.stats(answer.json())


def server_stats() -> Steps[dict[str, Any]]:
    """What the server says of itself."""
    answer = yield json_call("GET", "/v1/stats", is_read=True)
    found: dict[str, Any] = answer.json().get("server", {})
    return found


def sync() -> Steps[None]:
    """Back when everything committed so far survives a power cut."""
    yield json_call("POST", "/v1/sync")


def compact(*, dry_run: bool, progress: Progress | None) -> Steps[CompactionReport]:
    """Start a compaction, or wait for one that runs already; its report."""
    if dry_run:
        answer = yield json_call("POST", "/v1/compaction", {"dry_run": True})
        return reports.compaction(_report(answer.json()))
    yield from _begun("/v1/compaction", "compaction", {"dry_run": False})
    state = yield from _ended("/v1/compaction", progress)
    return reports.compaction(_report(state))


def verify() -> Steps[VerifyReport]:
    """Have every record read and checked."""
    yield from _begun("/v1/verify", "verify", {})
    state = yield from _ended("/v1/verify", None)
    return reports.verification(_report(state))


def cancel(job: Job) -> Steps[bool]:
    """Have an operation end early; False when none of the kind runs."""
    answer = yield json_call("DELETE", f"/v1/{job}", accepts=(409,))
    return answer.status != 409


def _begun(path: str, job: str, body: dict[str, Any]) -> Steps[None]:
    """Start an operation, unless it runs already. RemoteError when another one does."""
    answer = yield json_call("POST", path, body, accepts=(409,))
    if answer.status == 409 and not (answer.is_problem and answer.json().get("job") == job):
        raise error_of(answer, "")


def _ended(path: str, progress: Progress | None) -> Steps[dict[str, Any]]:
    """Ask until the operation at `path` is at its end; its last state. RemoteError when it failed."""
    pause_s = PAUSE_S_MIN
    while True:
        answer = yield json_call("GET", path, is_read=True)
        state: dict[str, Any] = answer.json()
        if state.get("state") == "failed":
            raise RemoteError(
                500, f"{path} failed", str(state.get("error") or state.get("detail") or ""), state
            )
        if state.get("state") == "cancelled" and not state.get("report"):
            raise RemoteError(409, f"{path} was cancelled", "", state)
        if state.get("state") != "running":
            return state
        if progress is not None and not (yield from _goes_on(path, progress, state)):
            progress = None
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


def _failure(path: str, error: Any) -> Exception:
    if not isinstance(error, dict):
        return RemoteError(500, f"{path} failed", str(error or ""))
    problem = json.dumps(error).encode()
    return error_of(Answer(int(error.get("status", 500)), {"content-type": PROBLEM}, problem), "the server")


def _goes_on(path: str, progress: Progress, state: dict[str, Any]) -> Steps[bool]:
    """Tell `progress`; what it answers or raises may end the operation, as with an embedded store."""
    cancel = json_call("DELETE", path, accepts=(404, 409))
    try:
        goes_on = progress(reports.progress(state)) is not False
    except BaseException:
        yield cancel
        raise
    if not goes_on:
        yield cancel
    return goes_on


def _report(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state.get("report") or state
    return found


def backup(name: str) -> Steps[BackupReport]:
    """Copy the store to a new directory in the server's folder of backups."""
    answer = yield json_call("POST", "/v1/backup", {"name": name})
    return reports.backup({"path": name, **answer.json()})
