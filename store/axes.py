"""Which axis of an array of others is time, which crops, which features.

A reading names the axes of arrays of two and of three dimensions. A consistent one gives all videos the same C crops
and D features, and those of known length as many snippets as they have; then only time varies. Where several are
consistent, as with arrays of one shape, the user has to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from ssrl.errors import UserError

Axes = tuple[str, ...]
TIME, CROPS, FEATURES = "time", "crops", "features"
ROWS_FIRST: Mapping[int, Axes] = {2: (TIME, FEATURES), 3: (TIME, CROPS, FEATURES)}
CROPS_FIRST: Mapping[int, Axes] = {2: (TIME, FEATURES), 3: (CROPS, TIME, FEATURES)}


class Sizes(NamedTuple):
    """What an array holds under one reading."""

    rows: int
    crops: int
    features: int


@dataclass(frozen=True)
class Shape:
    """The shape of a file. `num_rows` is what it must have over time, if that is known."""

    file: str
    shape: tuple[int, ...]
    num_rows: int | None = None


def parse_axes(text: str) -> Axes:
    """Parse "crops,time,features". Raises a UserError that lists what is allowed."""
    axes = tuple(part.strip() for part in text.split(","))
    if sorted(axes) not in (sorted(ROWS_FIRST[2]), sorted(ROWS_FIRST[3])):
        raise UserError(
            f"axes {text!r}; give the names of the arrays' axes in their order, such as {TIME},{FEATURES} or "
            f"{CROPS},{TIME},{FEATURES}"
        )
    return axes


def measure(shape: Sequence[int], axes: Axes) -> Sizes:
    sizes = dict(zip(axes, shape, strict=True))
    return Sizes(sizes[TIME], sizes.get(CROPS, 1), sizes[FEATURES])


def arrange(array: np.ndarray, axes: Axes) -> np.ndarray:
    """View an array as (T, C, D). Raises a UserError if it has another number of axes."""
    if array.ndim != len(axes):
        raise UserError(f"shape {array.shape} has {array.ndim} axes, not {len(axes)} ({','.join(axes)})")
    if CROPS not in axes:
        array, axes = array[..., None], (*axes, CROPS)
    return array.transpose([axes.index(name) for name in ROWS_FIRST[3]])


def infer_axes(shapes: Iterable[Shape], stored: tuple[int, int] | None = None) -> dict[int, Axes]:
    """Infer the axes of the arrays of two and of three dimensions from the shapes of all files; `stored` are C and D of
    the store that they are added to.

    Raises a UserError with the readings if several are consistent.
    """
    by_ndim: dict[int, list[Shape]] = {}
    for shape in shapes:
        by_ndim.setdefault(len(shape.shape), []).append(shape)
    return {ndim: _infer(alike, stored) for ndim, alike in by_ndim.items()}


def _infer(shapes: Sequence[Shape], stored: tuple[int, int] | None) -> Axes:
    usual = ROWS_FIRST[len(shapes[0].shape)]
    support = {axes: _count_consistent(shapes, axes, stored) for axes in permutations(usual)}
    most = max(support.values())
    readings = [axes for axes, count in support.items() if count == most]
    last = [axes for axes in readings if axes[-1] == FEATURES]
    if len(readings) == 1:
        return readings[0]
    example = Counter(shape.shape for shape in shapes).most_common(1)[0][0]
    if last == [usual] and example[-1] > max(example[:-1]):  # both custom and size say so
        return usual
    options = [
        f"--axes {','.join(axes)} ({_describe(measure(example, axes))})"
        for axes in (last if len(last) > 1 else readings)
    ]
    file = next(shape.file for shape in shapes if shape.shape == example)
    raise UserError(
        f"the shape {example}, as of {file}, can be read in more than one way; say which: {' or '.join(options)}"
    )


def _count_consistent(shapes: Sequence[Shape], axes: Axes, stored: tuple[int, int] | None) -> int:
    """How many files agree on C and D, at most, if their axes are these."""
    counts: Counter[tuple[int, int]] = Counter()
    for shape in shapes:
        rows, crops, features = measure(shape.shape, axes)
        if crops < features and shape.num_rows in (None, rows) and stored in (None, (crops, features)):
            counts[crops, features] += 1
    return max(counts.values(), default=0)


def _describe(sizes: Sizes) -> str:
    return f"T = {sizes.rows}, {sizes.crops} crops, D = {sizes.features}"
