"""Numbers as the page writes them."""

from __future__ import annotations


def format_clock(seconds: float) -> str:
    """75.4 → 1:15; 4210 → 1:10:10."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def format_points(difference: float | None) -> str:
    """A difference of two shares in percentage points, signed: 0.0123 → +1.23."""
    return "–" if difference is None else f"{100 * difference:+.2f}".replace("-", "−")
