"""The figures that move through a synthetic clip: their kind, their speed and their shape in each frame.

A figure is a height, a path and a kind; `make_parts` returns the shapes to draw in one frame, far ones first. Lengths
are in pixels of the clip, y points down, and a figure stands on the point that moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

KIND_SHARES = {"walker": 0.45, "rider": 0.17, "glider": 0.10, "vehicle": 0.12, "blob": 0.16}
# speed in heights per frame: median and spread (log normal)
KIND_SPEEDS = {
    "walker": (0.045, 0.4),
    "rider": (0.12, 0.45),
    "glider": (0.10, 0.45),
    "vehicle": (0.12, 0.7),
    "blob": (0.08, 0.9),
}
TOP_SPEED = 7.0  # pixels per frame: as fast as the first layers can follow

Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One drawn shape: a "line" with round ends, an "ellipse", a "ring" (two corners each) or a "polygon"."""

    shape: str
    points: tuple[Point, ...]
    tone: int  # gray level 0..255
    width: float = 1.0


@dataclass(frozen=True)
class Figure:
    kind: str
    height: float  # pixels
    speed: float  # pixels per frame
    angle: float  # radians, direction of travel
    start: Point  # where it stands at frame 0
    phase: float  # radians, of its gait or wheels
    tones: tuple[int, ...]
    build: tuple[float, ...]  # proportions, each 0..1

    def compute_position(self, frame: int) -> Point:
        step = self.speed * frame
        return self.start[0] + step * math.cos(self.angle), self.start[1] + step * math.sin(self.angle)

    def make_parts(self, frame: int) -> list[Part]:
        x, y = self.compute_position(frame)
        facing = 1.0 if math.cos(self.angle) >= 0 else -1.0
        parts = _MAKERS[self.kind](self, frame)
        h = self.height

        def place(point: Point) -> Point:  # from (forward, up) in heights to pixels
            return x + facing * point[0] * h, y - point[1] * h

        return [Part(p.shape, tuple(place(q) for q in p.points), p.tone, p.width * h) for p in parts]


def draw_figure(rng: np.random.Generator, size: int, num_frames: int, backdrop: int) -> Figure:
    """Draw a random figure that crosses a clip of `size` x `size` pixels within its `num_frames` frames."""
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    height = math.exp(rng.uniform(math.log(6.5), math.log(42.0)))
    median, spread = KIND_SPEEDS[kind]
    speed = min(height * median * math.exp(spread * rng.standard_normal()), TOP_SPEED)
    level = rng.random() < 0.75  # most motion in surveillance video is sideways
    angle = (rng.normal(0, 0.2) + math.pi * rng.integers(2)) if level else rng.uniform(0, 2 * math.pi)
    seen_at = rng.uniform(1, num_frames - 2)
    x = rng.uniform(-0.05, 1.05) * size - speed * seen_at * math.cos(angle)
    y = rng.uniform(0.0, 1.05) * size + height * 0.4 - speed * seen_at * math.sin(angle)
    tones = tuple(_draw_tone(rng, backdrop) for _ in range(4))
    return Figure(kind, height, speed, angle, (x, y), rng.uniform(0, 2 * math.pi), tones, tuple(rng.random(6)))


def _draw_tone(rng: np.random.Generator, backdrop: int) -> int:
    """Draw a gray level that differs from the backdrop's, more often darker than brighter."""
    contrast = rng.uniform(12, 130) * (-1 if rng.random() < 0.65 else 1)
    return int(np.clip(backdrop + contrast, 0, 255))


def _make_limb(hip: Point, length: float, swing: float, bend: float, tone: int, width: float) -> list[Part]:
    """Two segments from `hip`, the lower one bent back."""
    knee = (hip[0] + math.sin(swing) * length / 2, hip[1] - math.cos(swing) * length / 2)
    lower = swing - bend
    foot = (knee[0] + math.sin(lower) * length / 2, knee[1] - math.cos(lower) * length / 2)
    return [Part("line", (hip, knee), tone, width), Part("line", (knee, foot), tone, width * 0.85)]


def _make_body(figure: Figure, hip: Point, lean: float, top: float) -> list[Part]:
    """Torso and head from `hip` up to the height `top`, leaning forward by `lean` radians."""
    reach = top - hip[1]
    neck = (hip[0] + math.sin(lean) * reach * 0.65, hip[1] + math.cos(lean) * reach * 0.65)
    head = (hip[0] + math.sin(lean) * reach * 0.85, hip[1] + math.cos(lean) * reach * 0.85)
    stout = 0.13 + 0.09 * figure.build[0]
    parts = [Part("line", (hip, neck), figure.tones[0], stout), _make_disc("ellipse", head, 0.065, figure.tones[1])]
    if figure.build[1] < 0.4:  # a backpack
        back = (neck[0] - 0.1, (neck[1] + hip[1]) / 2 + 0.04)
        parts.insert(0, _make_disc("ellipse", back, 0.05 + 0.05 * figure.build[2], figure.tones[3]))
    return parts


def _make_disc(shape: str, center: Point, radius: float, tone: int, width: float = 0.0) -> Part:
    (x, y), r = center, radius
    return Part(shape, ((x - r, y - r), (x + r, y + r)), tone, width)


def _make_walker(figure: Figure, frame: int) -> list[Part]:
    """Two legs and two arms in opposite phase; one gait cycle covers 0.85 heights, as in humans."""
    pace = figure.speed / figure.height
    phase = figure.phase + 2 * math.pi * frame * pace / (0.85 + 2 * max(0.0, pace - 0.06))
    sideways = abs(math.cos(figure.angle))
    reach = (0.25 + 0.3 * figure.build[3]) * min(1.0, 0.3 + pace / 0.04) * (0.35 + 0.65 * sideways)
    hip = (0.0, 0.48)
    parts: list[Part] = []
    for side in (0.0, math.pi):
        swing = reach * math.sin(phase + side)
        bend = reach * max(0.0, math.cos(phase + side)) * 1.2
        offset = 0.05 * (1 - sideways) * (1 if side else -1)
        width = 0.07 + 0.04 * figure.build[4]
        parts += _make_limb((hip[0] + offset, hip[1]), 0.48, swing, bend, figure.tones[2], width)
        arm_swing = -0.8 * swing
        parts += _make_limb((offset * 1.5, 0.8), 0.38, arm_swing, -0.3, figure.tones[0], 0.05)
    return parts + _make_body(figure, hip, 0.05 + pace, 1.0)


def _make_glider(figure: Figure, frame: int) -> list[Part]:
    """A person standing on a board: legs apart and still."""
    stance = 0.05 + 0.25 * figure.build[3]
    hip = (0.0, 0.48)
    board = Part("line", ((-0.25, 0.02), (0.25, 0.02)), figure.tones[3], 0.03)
    legs = [part for side in (-1, 1) for part in _make_limb(hip, 0.46, side * stance, 0.0, figure.tones[2], 0.08)]
    arms = [
        part
        for side in (-1, 1)
        for part in _make_limb((0.0, 0.8), 0.38, side * 0.9 * figure.build[4], 0.0, figure.tones[0], 0.05)
    ]
    return [board, *legs, *arms, *_make_body(figure, hip, 0.1, 1.0)]


def _make_rider(figure: Figure, frame: int) -> list[Part]:
    """A bicycle with a pedaling rider; the height is the rider's, the wheels' radius is 0.2 heights."""
    radius, axle = 0.17 + 0.05 * figure.build[3], 0.29 + 0.05 * figure.build[4]
    sideways = max(0.15, abs(math.cos(figure.angle)))
    metal, width = figure.tones[3], 0.022 + 0.02 * figure.build[5]
    crank, seat, bar = (-0.02, radius), (-0.12 * sideways, 0.52), (0.22 * sideways, 0.55)
    parts: list[Part] = []
    for x in (-axle * sideways, axle * sideways):
        corners = ((x - radius * sideways, 0.0), (x + radius * sideways, 2 * radius))
        parts.append(Part("ring", corners, metal, width))
        parts.append(Part("line", ((x, radius), seat if x < 0 else bar), metal, width))
    parts += [Part("line", (crank, seat), metal, width), Part("line", (crank, bar), metal, width)]
    turn = figure.phase + frame * figure.speed / figure.height / radius / 2.5
    for side in (0.0, math.pi):
        pedal = (crank[0] + 0.08 * math.cos(turn + side), crank[1] + 0.08 * math.sin(turn + side))
        knee = ((seat[0] + pedal[0]) / 2 + 0.13 * sideways, (seat[1] + pedal[1]) / 2 + 0.06)
        parts += [Part("line", (seat, knee), figure.tones[2], 0.09), Part("line", (knee, pedal), figure.tones[2], 0.07)]
    lean = 0.15 + 0.5 * figure.build[2]
    shoulder = (seat[0] + math.sin(lean) * 0.3, seat[1] + math.cos(lean) * 0.3)
    parts.append(Part("line", (shoulder, bar), figure.tones[0], 0.05))
    return parts + _make_body(figure, seat, lean, 1.0)


def _make_vehicle(figure: Figure, frame: int) -> list[Part]:
    """A box on wheels with a cabin: from a cart to a car."""
    length = 0.6 + 1.2 * figure.build[0]
    half, floor, deck = length / 2, 0.12, 0.45 + 0.35 * figure.build[1]
    cabin = half * (0.3 + 0.6 * figure.build[2])
    shift = (figure.build[3] - 0.5) * (half - cabin) * 2
    box = Part("polygon", ((-half, floor), (half, floor), (half, deck), (-half, deck)), figure.tones[0])
    top = Part(
        "polygon",
        ((shift - cabin, deck), (shift + cabin, deck), (shift + cabin * 0.8, 1.0), (shift - cabin * 0.8, 1.0)),
        figure.tones[1],
    )
    wheels = [_make_disc("ellipse", (x, floor + 0.02), 0.13, figure.tones[2]) for x in (-half * 0.65, half * 0.65)]
    window = _make_disc("ellipse", (shift, (deck + 1) / 2), 0.12, figure.tones[3])
    return [top, window, box, *wheels]


def _make_blob(figure: Figure, frame: int) -> list[Part]:
    """A round or cornered shape that may turn."""
    corners = 3 + int(figure.build[0] * 4)
    turn = figure.phase + (figure.build[1] - 0.5) * 0.4 * frame * (figure.build[2] < 0.5)
    squeeze = 0.4 + 0.6 * figure.build[3]
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    outline = tuple((0.5 * math.cos(a), 0.5 + 0.5 * squeeze * math.sin(a)) for a in angles)
    if figure.build[4] < 0.35:
        return [Part("ellipse", ((-0.5, 0.5 - squeeze / 2), (0.5, 0.5 + squeeze / 2)), figure.tones[0])]
    spot = _make_disc("ellipse", (0.15 * math.cos(turn), 0.5 + 0.15 * math.sin(turn)), 0.15, figure.tones[1])
    return [Part("polygon", outline, figure.tones[0]), spot]


_MAKERS = {
    "walker": _make_walker,
    "glider": _make_glider,
    "rider": _make_rider,
    "vehicle": _make_vehicle,
    "blob": _make_blob,
}
