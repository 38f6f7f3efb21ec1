"""Numbers as text: counts, bytes and tables. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence


def format_count(value: float | None, unit: str = "") -> str:
    """A number with three to four digits and a decimal prefix: ``29.30 B`` parameters, ``10.24 PFLOP``."""
    if value is None:
        return "unknown"
    prefixes = ("", "k", "M", "G" if unit else "B", "T", "P", "E", "Z", "Y")
    power = min(int(math.log10(value) // 3), len(prefixes) - 1) if value >= 1000 else 0
    return (f"{value / 1000**power:.2f}" if power else f"{value:.0f}") + f" {prefixes[power]}{unit}".rstrip()


def format_bytes(value: float | None) -> str:
    """Bytes in the largest binary unit that leaves at least one: ``54.6 GiB``."""
    if value is None:
        return "unknown"
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(int(math.log2(value) // 10), len(units) - 1) if value >= 1 else 0
    return (f"{value / 1024**power:.1f}" if power else f"{value:.0f}") + f" {units[power]}"


def format_table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows as aligned columns, the first ``left`` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = ([cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))] for row in rows)
    return ["  " + "  ".join(row).rstrip() for row in cells]
