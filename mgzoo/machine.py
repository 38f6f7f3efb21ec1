"""The memory of this machine. Standard library only."""

from __future__ import annotations

from pathlib import Path

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's limit is written, cgroup version 2 and 1."""


def memory() -> dict[str, int | None]:
    """Bytes of main memory, ``total`` and ``available`` to a new process; None where the system does not say. A container's limit counts as its total."""
    found = Path("/proc/meminfo")
    lines = found.read_text().splitlines() if found.is_file() else []
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    limits = [int(text) for path in map(Path, LIMITS) if path.is_file() and (text := path.read_text().strip()).isdecimal()]
    if total and limits:
        total = min(total, *limits)
        available = min(available or total, total)
    return {"total": total, "available": available}
