"""Zones of the frame that are watched, or ignored: a door, a road, a screen that flickers.

zones.json     {"zones": [{"name": "road", "mode": "ignore", "points": [[0, 0.6], [1, 0.6], [1, 1], [0, 1]]}]}

patches        ┌────┬────┐      watched share     ┌────┬────┐
               │    │    │                        │ 1  │ 1  │
               ├────┼────┤                        ├────┼────┤
               │▒▒▒▒│▒▒▒▒│ ▒ ignored              │ .2 │ .2 │
               └────┴────┘                        └────┴────┘

A patch's features are blended towards the mean of the training videos by the share that is not watched, before the
network sees them: what is ignored then tells it nothing. Without a zone to watch, all is watched that is not ignored.
The whole frame, and patches at the edge of a zone, still see something of what is ignored. Where a score is high
nevertheless, what ignored places contribute to it is traced and taken away (`ssrl.workflows.zoning`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.path import Path as Outline

from ssrl.errors import UserError
from ssrl.evaluate.scoring import Features
from ssrl.geometry import Geometry, Grid
from ssrl.model.build import Network

Mode = Literal["watch", "ignore"]
Point = tuple[float, float]
KEYS, OPTIONAL_KEYS = ("name", "mode", "points"), ("videos",)
SAMPLES = 120  # of a patch's area, along each side


@dataclass(frozen=True)
class Zone:
    """A polygon whose points are fractions of the frame's width and height, from the upper left corner."""

    name: str
    mode: Mode
    points: tuple[Point, ...]
    videos: str = "*"  # which it holds for: a pattern of ids

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UserError(f"zone {self.name!r} has the mode {self.mode!r}; allowed are {', '.join(get_args(Mode))}")
        if len(self.points) < 3:
            raise UserError(f"zone {self.name!r} has {len(self.points)} points; a polygon has at least 3")
        outside = [point for point in self.points if not all(0 <= value <= 1 for value in point)]
        if outside:
            raise UserError(
                f"zone {self.name!r} has the point {list(outside[0])}; points are [x, y] as fractions of the frame's "
                f"width and height, each in 0..1"
            )
        if _crosses_itself(self.points):
            raise UserError(f"zone {self.name!r} crosses itself; give its corners in order around it")

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Whether each of the points (n, 2) lies inside: (n,) bool."""
        return Outline(self.points, closed=False).contains_points(points)


@dataclass(frozen=True)
class Zones:
    """All zones of a file."""

    zones: tuple[Zone, ...]

    def weigh(self, video_id: str, grid: Grid) -> np.ndarray:
        """The watched share of each patch's area: (rows, cols) float32 in 0..1."""
        is_watched = self.draw(video_id, grid.rows * SAMPLES, grid.cols * SAMPLES)
        shares: np.ndarray = is_watched.reshape(grid.rows, SAMPLES, grid.cols, SAMPLES).mean(axis=(1, 3))
        return shares.astype(np.float32)

    def draw(self, video_id: str, rows: int, cols: int) -> np.ndarray:
        """Whether the middle of each cell is watched: (rows, cols) bool."""
        zones = self._find(video_id)
        y, x = np.mgrid[0:rows, 0:cols]
        points = np.stack([(x.ravel() + 0.5) / cols, (y.ravel() + 0.5) / rows], axis=1)
        is_watched = np.full(len(points), not any(zone.mode == "watch" for zone in zones))
        for zone in sorted(zones, key=lambda zone: zone.mode, reverse=True):  # to watch, then to ignore
            is_watched[zone.covers(points)] = zone.mode == "watch"
        return is_watched.reshape(rows, cols)

    def concern(self, video_id: str) -> bool:
        """Whether any zone holds for a video."""
        return bool(self._find(video_id))

    def _find(self, video_id: str) -> list[Zone]:
        return [zone for zone in self.zones if fnmatchcase(video_id, zone.videos)]

    def apply(
        self, video_id: str, features: Mapping[int, Features], network: Network, geometry: Geometry
    ) -> dict[int, WatchedFeatures]:
        """The features of a video, one array (T, N_r, D) per scale, without what is ignored. The whole frame counts as
        ignored as far as its area is.
        """
        return {
            scale: WatchedFeatures(
                each,
                self.weigh(video_id, geometry.grid(scale)).reshape(-1, 1),
                network.baseline(scale).detach().cpu().numpy(),
            )
            for scale, each in features.items()
        }


@dataclass(frozen=True, eq=False)
class WatchedFeatures:
    """Features (T, N_r, D) that are blended as they are read: `watched` (N_r, 1) of each, the rest from `mean` (D,)."""

    features: Features
    watched: np.ndarray
    mean: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> np.ndarray:
        blended: np.ndarray = self.features[rows].astype(np.float32) * self.watched + self._ignored
        return blended

    @cached_property
    def _ignored(self) -> np.ndarray:
        ignored: np.ndarray = (1 - self.watched) * self.mean
        return ignored


def load_zones(path: Path) -> Zones:
    """Read a file of zones. Raises a UserError that says what is allowed."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); --zones takes a JSON file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error})") from error
    if not isinstance(value, dict) or value.keys() != {"zones"} or not isinstance(value["zones"], list):
        raise UserError(f'{path} must hold {{"zones": [...]}}, and nothing else')
    try:
        return Zones(tuple(map(_parse_zone, value["zones"])))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse_zone(value: Any) -> Zone:
    if not isinstance(value, dict):
        raise UserError(f"a zone must be a mapping with the keys {', '.join(KEYS)}, not {value!r}")
    unknown = sorted(value.keys() - {*KEYS, *OPTIONAL_KEYS})
    missing = [key for key in KEYS if key not in value]
    if unknown or missing:
        fault = f"the unknown key {unknown[0]!r}" if unknown else f"no {missing[0]!r}"
        raise UserError(
            f"zone {value.get('name')!r} has {fault}; its keys are {', '.join(KEYS)}, and optionally videos"
        )
    if not all(isinstance(value.get(key, ""), str) for key in ("name", "mode", "videos")):
        raise UserError(f"zone {value['name']!r}: name, mode and videos must be text")
    return Zone(value["name"], value["mode"], _parse_points(value["name"], value["points"]), value.get("videos", "*"))


def _parse_points(name: str, value: Any) -> tuple[Point, ...]:
    pairs = value if isinstance(value, list) else [value]
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(isinstance(number, int | float) and not isinstance(number, bool) for number in pair):
            raise UserError(f"zone {name!r}: points must be a list of [x, y], not {pair!r}")
    return tuple((float(x), float(y)) for x, y in pairs)


def _crosses_itself(points: Sequence[Point]) -> bool:
    """Whether two sides that are not neighbors meet."""
    count = len(points)
    sides = [(points[i], points[(i + 1) % count]) for i in range(count)]
    apart = ((i, j) for i, j in combinations(range(count), 2) if j - i not in (1, count - 1))
    return any(_meet(*sides[i], *sides[j]) for i, j in apart)


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the lines from a to b and from c to d have a point in common."""
    turns = [np.sign(_turn(*three)) for three in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))]
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    triples = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _lies_between(*three) for turn, three in zip(turns, triples, strict=True))


def _turn(a: Point, b: Point, c: Point) -> float:
    """Above 0 where the way from a to b to c turns one way, below where it turns the other."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _lies_between(a: Point, b: Point, c: Point) -> bool:
    return all(min(p, q) <= r <= max(p, q) for p, q, r in zip(a, b, c, strict=True))
