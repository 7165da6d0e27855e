"""Says numbers as people do."""

from __future__ import annotations


def count(number: int, one: str, many: str | None = None) -> str:
    """Write how many there are of something.

    >>> count(1, "task"), count(1500, "row"), count(2, "batch", "batches"), count(2, "worker process")
    ('1 task', '1,500 rows', '2 batches', '2 worker processes')
    """
    plural = f"{one}es" if one.endswith("s") else f"{one}s"
    return f"{number:,} {one if number == 1 else many or plural}"


def seconds(value: float) -> str:
    """Write a time as people say it.

    >>> seconds(0.0123), seconds(1.5)
    ('12 ms', '1.50 s')
    """
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def duration(value_s: float) -> str:
    """Write how long something has been going on.

    >>> duration(0.5), duration(75), duration(3 * 3600 + 240), duration(100 * 3600)
    ('0.5 s', '1 min 15 s', '3 h 4 min', '4 d 4 h')
    """
    whole = int(value_s)
    if whole < 60:
        return f"{value_s:.1f} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400:,} d {whole % 86_400 // 3_600} h"
