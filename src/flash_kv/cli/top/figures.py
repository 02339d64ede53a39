"""A sample of live figures as text for people."""

from __future__ import annotations

from typing import Any

from flash_kv.cli.output import size

OPERATIONS = ("read", "write", "delete", "list", "other")


def number(value: Any) -> float:
    """A figure of the sample; 0 for one that is missing or none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def part(sample: dict[str, Any], name: str) -> dict[str, Any]:
    """A group of figures of the sample; empty when it has none."""
    found = sample.get(name)
    return found if isinstance(found, dict) else {}


def duration(microseconds: float) -> str:
    """`85 us`, `1.2 ms`, `3.0 s`."""
    if microseconds < 1000:
        return f"{microseconds:.0f} us"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1_000_000:.1f} s"


def rows(sample: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that stand in the table."""
    latency = part(sample, "latency_us")
    live, dead = number(sample.get("live_bytes")), number(sample.get("dead_bytes"))
    dead_ratio = dead / (live + dead) if live + dead else 0.0
    rates = [
        (f"{name}s/s" if name != "other" else "other/s", f"{number(part(sample, 'ops').get(name)):,.0f}")
        for name in OPERATIONS
    ]
    return [
        *rates,
        ("latency p50", duration(number(latency.get("p50")))),
        ("latency p99", duration(number(latency.get("p99")))),
        ("latency max", duration(number(latency.get("max")))),
        ("received", f"{size(number(sample.get('bytes_in')))}/s"),
        ("sent", f"{size(number(sample.get('bytes_out')))}/s"),
        ("connections", f"{number(sample.get('connections')):,.0f}"),
        ("keys", f"{number(sample.get('keys')):,.0f}"),
        ("segments", f"{number(sample.get('segments')):,.0f}"),
        ("live", size(live)),
        ("dead", f"{size(dead)} ({dead_ratio:.0%})"),
        ("on disk", size(number(sample.get("disk_bytes")))),
    ]


def requests(sample: dict[str, Any]) -> float:
    """All requests for data in a second."""
    return sum(number(rate) for name, rate in part(sample, "ops").items() if name != "other")


def compaction(sample: dict[str, Any]) -> tuple[str, float | None]:
    """What the compaction is at, and how far it is while one runs."""
    found = part(sample, "compaction")
    state = str(found.get("state", "unknown"))
    if state != "running":
        return f"compaction: {state}", None
    done, total = number(found.get("bytes_done")), number(found.get("bytes_total"))
    by = " (background)" if found.get("is_background") else ""
    return f"compaction: {size(done)} of {size(total)}{by}", min(max(number(found.get("progress")), 0.0), 1.0)
