"""The report's figures of a whole test set as SVG: curves in the unit square, and the distribution of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from ssrl.evaluate.metrics import Curve

SQUARE = 300  # side of a ROC or precision-recall plot
WIDE, HIGH = 640, 170  # of a histogram
LEFT, TOP = 62, 14  # margins


def draw_curve(
    curve: Curve, name: str, x_name: str, y_name: str, chance: tuple[float, float], other: Curve | None = None
) -> Markup:
    """A curve in the unit square with axes; chance is a dashed line from `chance[0]` at x = 0 to `chance[1]` at 1."""
    left, top = 44, 10
    ticks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + tick * SQUARE, top + (1 - tick) * SQUARE
        ticks.append(f'<path class="grid" d="M{left} {y:g}h{SQUARE}M{x:g} {top}v{SQUARE}"/>')
        ticks.append(f'<text x="{left - 8}" y="{y + 4:g}" text-anchor="end">{tick:g}</text>')
        ticks.append(f'<text x="{x:g}" y="{top + SQUARE + 18}" text-anchor="middle">{tick:g}</text>')
    middle = top + SQUARE / 2
    lines = "".join(
        f'<path class="{kind}" d="M{_join(left + SQUARE * each.x, top + SQUARE * (1 - each.y))}"/>'
        for kind, each in (("line other", other), ("line", curve))
        if each is not None
    )
    at_0, at_1 = (top + SQUARE * (1 - height) for height in chance)
    return Markup(
        f'<svg class="square" viewBox="0 0 {left + SQUARE + 14} {top + SQUARE + 44}" role="img" '
        f'aria-label="{name}">{"".join(ticks)}'
        f'<text x="{left + SQUARE / 2}" y="{top + SQUARE + 38}" text-anchor="middle">{x_name}</text>'
        f'<text transform="rotate(-90 10 {middle})" x="10" y="{middle}" text-anchor="middle">{y_name}</text>'
        f'<path class="threshold" d="M{left} {at_0:.1f}L{left + SQUARE} {at_1:.1f}"/>{lines}</svg>'
    )


def _join(x: np.ndarray, y: np.ndarray) -> str:
    return "L".join(f"{at:.1f} {height:.1f}" for at, height in zip(x, y, strict=True))


def draw_distribution(counts: Mapping[str, np.ndarray], threshold: float) -> Markup:
    """Histograms of frames by score, one per kind: the share of the kind's frames in each bin, on a log axis.

    `counts` are as from `count_scores`. Shares of two kinds are legible side by side however many frames either has,
    and so are rare high scores of normal frames.
    """
    shares = {kind: count / count.sum() for kind, count in counts.items()}
    lowest = min((share[share > 0].min() for share in shares.values()), default=0.1)
    decades = max(1, int(np.ceil(-np.log10(lowest) - 1e-9)))
    ticks = []
    for decade in range(decades + 1):
        y = TOP + HIGH * decade / decades
        text = f"{100 * 10.0**-decade:.10f}".rstrip("0").rstrip(".") + "%" if decade < 6 else f"1e-{decade - 2}%"
        ticks.append(f'<path class="grid" d="M{LEFT} {y:g}h{WIDE}"/>')
        ticks.append(f'<text x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end">{text}</text>')
    for score in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LEFT + score * WIDE
        ticks.append(f'<text x="{x:g}" y="{TOP + HIGH + 20}" text-anchor="middle">{score:g}</text>')
    bars = "".join(f'<path class="bars {kind}" d="{_trace_bars(share, decades)}"/>' for kind, share in shares.items())
    at = LEFT + threshold * WIDE
    anchor, gap = ("end", -6) if threshold > 0.7 else ("start", 6)
    return Markup(
        f'<svg class="histogram" viewBox="0 0 {LEFT + WIDE + 14} {TOP + HIGH + 46}" role="img" '
        f'aria-label="Share of frames by score: {_describe(counts, threshold)}">{"".join(ticks)}{bars}'
        f'<path class="threshold" d="M{at:.1f} {TOP - 6}V{TOP + HIGH}"/>'
        f'<text class="at" x="{at + gap:.1f}" y="{TOP + 4}" text-anchor="{anchor}">threshold {threshold:.2g}</text>'
        f'<text x="{LEFT + WIDE / 2}" y="{TOP + HIGH + 40}" text-anchor="middle">score</text></svg>'
    )


def _trace_bars(share: np.ndarray, decades: int) -> str:
    """The outline of a histogram, closed along its foot; an empty bin has no height."""
    with np.errstate(divide="ignore"):
        heights = np.clip(1 + np.log10(share) / decades, 0, 1)
    edges = LEFT + WIDE * np.arange(len(share) + 1) / len(share)
    tops = TOP + HIGH * (1 - heights)
    steps = "".join(f"V{top:.1f}H{edge:.1f}" for top, edge in zip(tops, edges[1:], strict=True))
    return f"M{LEFT} {TOP + HIGH}{steps}V{TOP + HIGH}Z"


def _describe(counts: Mapping[str, np.ndarray], threshold: float) -> str:
    first = round(threshold * len(next(iter(counts.values()), ())))  # bin that holds the threshold
    parts: Sequence[str] = [
        f"{count[first:].sum() / count.sum():.1%} of {kind} frames near or above {threshold:.2g}"
        for kind, count in counts.items()
    ]
    return ", ".join(parts)
