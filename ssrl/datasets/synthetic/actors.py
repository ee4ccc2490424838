"""What moves in a scene: figures on foot, cyclists, vehicles and loose objects, each a set of solids per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin
from typing import Protocol

import numpy as np

from ssrl.datasets.synthetic.camera import Ball, Capsule, Color, Face, Point, Solid
from ssrl.datasets.synthetic.motion import RUNNING_SPEED, Track

SKIN = ((224, 182, 152), (198, 150, 118), (150, 104, 78), (104, 72, 56))
HAIR = ((36, 30, 28), (66, 48, 36), (110, 84, 56), (120, 118, 116))
TOPS = (
    (176, 54, 48),
    (46, 78, 140),
    (62, 108, 70),
    (206, 200, 190),
    (40, 42, 48),
    (190, 150, 60),
    (122, 92, 140),
    (104, 128, 150),
    (92, 74, 60),
    (220, 222, 226),
)
TROUSERS = ((44, 48, 66), (34, 34, 38), (92, 86, 76), (70, 84, 110), (122, 114, 100))
BAGS = ((140, 50, 44), (36, 38, 44), (60, 84, 110), (120, 96, 60))
PAINT_COLORS = ((198, 60, 52), (52, 86, 146), (214, 214, 212), (44, 46, 50), (170, 174, 178), (206, 160, 58))


class Actor(Protocol):
    """Anything that moves in a scene."""

    track: Track
    abnormal: np.ndarray  # (num_frames,) bool: frames in which this actor is the event
    present: np.ndarray  # (num_frames,) bool
    shadow_radius: float  # meters

    def make_solids(self, frame_index: int) -> Sequence[Solid]:
        """Make the solids to paint, in world coordinates."""


@dataclass(frozen=True)
class Body:
    """The pose of an actor in one frame: maps (forward, side, up) in meters to world points."""

    x: float
    z: float
    heading: float

    def at(self, forward: float, side: float, up: float) -> Point:
        c, s = cos(self.heading), sin(self.heading)
        return self.x + forward * c - side * s, up, self.z + forward * s + side * c


def locate_body(track: Track, frame_index: int) -> Body:
    return Body(float(track.x[frame_index]), float(track.z[frame_index]), float(track.heading[frame_index]))


def shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, int(channel * factor)) for channel in color)
    return red, green, blue


@dataclass(frozen=True)
class Looks:
    """A person's build and clothes."""

    height: float  # meters
    girth: float  # 1 is average
    skin: Color
    hair: Color
    top: Color
    trousers: Color
    short_sleeves: bool
    skirt: bool
    bag: str  # "", "backpack" or "handbag"
    bag_color: Color

    @classmethod
    def draw(cls, rng: np.random.Generator, bag_chance: float = 0.4) -> Looks:
        def one(colors: Sequence[Color]) -> Color:
            return shade(colors[int(rng.integers(len(colors)))], rng.uniform(0.8, 1.12))

        bag = str(rng.choice(["backpack", "handbag"])) if rng.random() < bag_chance else ""
        return cls(
            float(rng.uniform(1.55, 1.88)),
            float(rng.uniform(0.88, 1.2)),
            one(SKIN),
            one(HAIR),
            one(TOPS),
            one(TROUSERS),
            bool(rng.random() < 0.4),
            bool(rng.random() < 0.18),
            bag,
            one(BAGS),
        )


def mark_none(track: Track) -> np.ndarray:
    return np.zeros(track.num_frames, dtype=bool)


def mark_frames(track: Track, start: int, stop: int) -> np.ndarray:
    """(num_frames,) bool, true in [start, stop)."""
    frames = mark_none(track)
    frames[start:stop] = True
    return frames


@dataclass
class Figure:
    """A person on foot. `arms` (num_frames, 2) raises the left and right arm forward, in radians."""

    track: Track
    looks: Looks
    abnormal: np.ndarray
    arms: np.ndarray | None = None
    lean: np.ndarray | None = None  # (num_frames,) radians forward
    shadow_radius: float = 0.24

    def __post_init__(self) -> None:
        self.present = ~mark_none(self.track)

    def make_solids(self, frame_index: int) -> Sequence[Solid]:
        speed, stride = float(self.track.speed[frame_index]), float(self.track.stride[frame_index])
        effort = min(1.0, max(0.0, (speed - 1.9) / (RUNNING_SPEED - 1.9)))  # 0 walks, 1 runs
        swing = min(1.0, speed / 1.1) * (0.46 + 0.38 * effort)
        lean = 0.03 + 0.2 * effort + (float(self.lean[frame_index]) if self.lean is not None else 0.0)
        raised = self.arms[frame_index] if self.arms is not None else (0.0, 0.0)
        body, s, looks = locate_body(self.track, frame_index), self.looks.height / 1.75, self.looks
        hips = (0.92 - 0.03 * swing + (0.03 + 0.04 * effort) * abs(sin(stride))) * s
        parts: list[Solid] = []
        for side, phase, lift in ((-1, stride, raised[0]), (1, stride + pi, raised[1])):
            parts += self._make_leg(body, side, phase, swing, effort, hips, s)
            parts += self._make_arm(body, side, phase + pi, swing, effort, hips, lean, float(lift), s)
        return parts + self._make_trunk(body, hips, lean, s) + make_bag(looks, body, hips, s)

    def _make_leg(
        self, body: Body, side: int, phase: float, swing: float, effort: float, hips: float, s: float
    ) -> list[Solid]:
        thigh = swing * sin(phase) + 0.12 * effort
        bend = min(swing, 1) * (0.25 + max(0.0, cos(phase)) * (1.0 + 1.1 * effort)) * 0.75
        knee = (0.46 * s * sin(thigh), hips - 0.46 * s * cos(thigh))
        shin = thigh - bend
        foot = (knee[0] + 0.44 * s * sin(shin), max(0.04, knee[1] - 0.44 * s * cos(shin)))
        apart, girth, color = side * 0.09 * s, self.looks.girth, shade(self.looks.trousers, 0.9 + 0.1 * side)
        lower = self.looks.skin if self.looks.skirt else color
        return [
            Capsule(body.at(0, apart, hips), body.at(knee[0], apart, knee[1]), 0.085 * s * girth, color),
            Capsule(body.at(knee[0], apart, knee[1]), body.at(foot[0], apart, foot[1]), 0.058 * s * girth, lower),
            Capsule(
                body.at(foot[0], apart, foot[1]), body.at(foot[0] + 0.16 * s, apart, foot[1]), 0.045 * s, (40, 36, 34)
            ),
        ]

    def _make_arm(
        self,
        body: Body,
        side: int,
        phase: float,
        swing: float,
        effort: float,
        hips: float,
        lean: float,
        raised: float,
        s: float,
    ) -> list[Solid]:
        upper = swing * 0.85 * sin(phase) + raised
        fore = upper + 0.25 + 1.1 * effort + 0.25 * min(raised, 1.2)
        shoulder = (0.5 * s * sin(lean), hips + 0.5 * s * cos(lean))
        elbow = (shoulder[0] + 0.29 * s * sin(upper), shoulder[1] - 0.29 * s * cos(upper))
        hand = (elbow[0] + 0.27 * s * sin(fore), elbow[1] - 0.27 * s * cos(fore))
        apart, sleeve = side * 0.2 * s * self.looks.girth, shade(self.looks.top, 0.88 + 0.08 * side)
        return [
            Capsule(body.at(shoulder[0], apart, shoulder[1]), body.at(elbow[0], apart, elbow[1]), 0.052 * s, sleeve),
            Capsule(
                body.at(elbow[0], apart, elbow[1]),
                body.at(hand[0], apart, hand[1]),
                0.042 * s,
                self.looks.skin if self.looks.short_sleeves else sleeve,
            ),
            Ball(body.at(hand[0], apart, hand[1]), 0.05 * s, self.looks.skin),
        ]

    def _make_trunk(self, body: Body, hips: float, lean: float, s: float) -> list[Solid]:
        looks, forward, up = self.looks, sin(lean) * s, cos(lean) * s
        head = body.at(0.68 * forward + 0.02, 0, hips + 0.7 * up)
        parts: list[Solid] = [
            Capsule(
                body.at(0.1 * forward, side * 0.06 * s, hips + 0.08 * up),
                body.at(0.46 * forward, side * 0.09 * s * looks.girth, hips + 0.46 * up),
                0.105 * s * looks.girth,
                shade(looks.top, 0.96 + 0.06 * side),
            )
            for side in (-1, 1)
        ]
        if looks.skirt:
            parts.append(Capsule(body.at(0, 0, hips + 0.02), body.at(0, 0, hips - 0.34 * s), 0.16 * s, looks.trousers))
        parts.append(Ball(head, 0.115 * s, looks.skin))
        crown = body.at(0.68 * forward - 0.01, 0, hips + 0.7 * up + 0.045)
        parts.append(Ball(crown, 0.112 * s, looks.hair))
        return parts


def make_bag(looks: Looks, body: Body, hips: float, s: float) -> list[Solid]:
    if looks.bag == "backpack":
        return [Capsule(body.at(-0.17 * s, 0, hips + 0.14), body.at(-0.17 * s, 0, hips + 0.4), 0.13, looks.bag_color)]
    if looks.bag == "handbag":
        return [Capsule(body.at(-0.08, 0.27, hips - 0.14), body.at(0.14, 0.27, hips - 0.14), 0.12, looks.bag_color)]
    return []


@dataclass
class Cyclist:
    """A person riding a bicycle."""

    track: Track
    looks: Looks
    frame_color: Color
    abnormal: np.ndarray
    shadow_radius: float = 0.4

    def __post_init__(self) -> None:
        self.present = ~mark_none(self.track)

    def make_solids(self, frame_index: int) -> Sequence[Solid]:
        body, looks = locate_body(self.track, frame_index), self.looks
        turn = float(self.track.stride[frame_index]) * 0.9
        parts: list[Solid] = []
        for wheel in (-0.52, 0.52):
            around = [turn + pi / 6 * i for i in range(13)]
            rim = [body.at(wheel + 0.34 * cos(a), 0, 0.34 + 0.34 * sin(a)) for a in around]
            parts += [Capsule(p, q, 0.03, (30, 30, 32)) for p, q in pairwise(rim)]
            parts += [Capsule(rim[i], rim[i + 6], 0.008, (120, 120, 124)) for i in (0, 3)]
        crank, saddle, bars = (0.0, 0.3), (-0.18, 0.9), (0.42, 1.0)
        for p, q in (
            (crank, saddle),
            (saddle, (-0.52, 0.34)),
            (crank, (-0.52, 0.34)),
            (crank, (0.38, 0.78)),
            (saddle, (0.38, 0.78)),
            ((0.52, 0.34), bars),
        ):
            parts.append(Capsule(body.at(p[0], 0, p[1]), body.at(q[0], 0, q[1]), 0.03, self.frame_color))
        shoulder = (0.14, 1.42)
        for side, phase in ((-1, turn), (1, turn + pi)):
            foot = (crank[0] + 0.16 * cos(phase), crank[1] + 0.16 * sin(phase))
            knee = ((saddle[0] + foot[0]) / 2 + 0.3, (saddle[1] + foot[1]) / 2 + 0.12)
            for p, q, radius, color in (
                (saddle, knee, 0.085, looks.trousers),
                (knee, foot, 0.06, looks.trousers),
                (shoulder, bars, 0.05, looks.top),
            ):
                parts.append(
                    Capsule(
                        body.at(p[0], side * 0.11, p[1]),
                        body.at(q[0], side * 0.11, q[1]),
                        radius,
                        shade(color, 0.92 + 0.08 * side),
                    )
                )
        parts.append(Capsule(body.at(-0.15, 0, 1.0), body.at(0.12, 0, 1.4), 0.17, looks.top))
        parts.append(Ball(body.at(0.26, 0, 1.66), 0.115, looks.skin))
        parts.append(Ball(body.at(0.24, 0, 1.7), 0.115, looks.hair))
        return parts


@dataclass(frozen=True)
class VehicleShape:
    """A vehicle's outline and windows seen from its left side: (forward, up) in meters."""

    length: float
    width: float
    outline: tuple[tuple[float, float], ...]
    windows: tuple[tuple[tuple[float, float], ...], ...]
    wheels: tuple[float, ...]
    wheel_radius: float


CAR = VehicleShape(
    4.2,
    1.7,
    ((-2.1, 0.35), (-2.1, 0.9), (-1.8, 1.0), (-1.2, 1.45), (0.4, 1.45), (1.1, 0.98), (2.0, 0.85), (2.1, 0.35)),
    (((-1.5, 1.0), (-1.1, 1.36), (-0.3, 1.36), (-0.3, 1.0)), ((-0.2, 1.0), (-0.2, 1.36), (0.35, 1.36), (0.85, 1.0))),
    (-1.3, 1.3),
    0.33,
)
VAN = VehicleShape(
    5.2,
    2.0,
    ((-2.6, 0.4), (-2.6, 2.3), (1.5, 2.3), (2.2, 1.4), (2.6, 1.2), (2.6, 0.4)),
    (((0.9, 1.4), (0.9, 2.1), (1.5, 2.1), (2.0, 1.4)),),
    (-1.6, 1.7),
    0.36,
)
BUS = VehicleShape(
    9.0,
    2.5,
    ((-4.5, 0.4), (-4.5, 3.6), (4.3, 3.6), (4.5, 1.6), (4.5, 0.4)),
    tuple(((a, 1.7), (a, 2.9), (a + 1.3, 2.9), (a + 1.3, 1.7)) for a in (-4.2, -2.7, -1.2, 0.3, 1.8, 3.1)),
    (-2.8, 2.8),
    0.5,
)


@dataclass
class Vehicle:
    track: Track
    shape: VehicleShape
    color: Color
    abnormal: np.ndarray
    shadow_radius: float = 1.2

    def __post_init__(self) -> None:
        self.present = ~mark_none(self.track)
        self.shadow_radius = self.shape.width * 0.6

    def make_solids(self, frame_index: int) -> Sequence[Solid]:
        body, shape = locate_body(self.track, frame_index), self.shape
        half, closed = shape.width / 2, (*shape.outline, shape.outline[0])
        near = -1 if cos(body.heading) > 0 else 1  # the side that faces the camera
        parts: list[Solid] = [Face([body.at(f, -near * half, u) for f, u in shape.outline], shade(self.color, 0.5))]
        for (f, u), (g, v) in pairwise(closed):
            if max(u, v) > 0.5:
                light = 1.12 if abs(g - f) > abs(v - u) else 0.72
                corners = [body.at(f, -half, u), body.at(f, half, u), body.at(g, half, v), body.at(g, -half, v)]
                parts.append(Face(corners, shade(self.color, light)))
        parts.append(Face([body.at(f, near * half, u) for f, u in shape.outline], self.color, nudge=4.0))
        for window in shape.windows:
            parts.append(Face([body.at(f, near * half, u) for f, u in window], (52, 62, 72), nudge=8.0))
        for wheel in shape.wheels:
            for radius, color, nudge in (
                (shape.wheel_radius, (26, 26, 28), 9.0),
                (shape.wheel_radius * 0.5, (150, 150, 154), 10.0),
            ):
                rim = [
                    body.at(wheel + radius * cos(a), near * half, shape.wheel_radius + radius * sin(a))
                    for a in np.linspace(0, 2 * pi, 14).tolist()
                ]
                parts.append(Face(rim, color, nudge))
        return parts


@dataclass
class LooseObject:
    """A ball or a bag without a person: thrown, or left on the ground."""

    track: Track
    up: np.ndarray  # (num_frames,) meters above the ground
    radius: float
    color: Color
    abnormal: np.ndarray
    present: np.ndarray
    shadow_radius: float = 0.18

    def make_solids(self, frame_index: int) -> Sequence[Solid]:
        body, up = locate_body(self.track, frame_index), float(self.up[frame_index])
        if self.radius < 0.2:
            return [Ball(body.at(0, 0, up + self.radius), self.radius, self.color)]
        return [
            Capsule(
                body.at(side * self.radius * 0.6, 0, up + self.radius),
                body.at(side * self.radius * 0.6, 0, up + self.radius * 1.8),
                self.radius,
                self.color,
            )
            for side in (-1, 1)
        ]
