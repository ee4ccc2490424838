"""A fixed camera above level ground, and the drawing of solids in front of it.

World coordinates are meters: X to the right, Y up from the ground, Z away from the camera. The optical axis is level
and the lens shifted, so verticals stay vertical:

    column = width / 2 + focal * X / Z          row = horizon + focal * (camera_height - Y) / Z
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

NEAREST_DEPTH = 0.8  # meters; nearer points are drawn at this depth
SUPERSAMPLING = 2  # canvas pixels per frame pixel, along each axis

Point = tuple[float, float, float]  # X, Y, Z in meters
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Camera:
    """The pose and optics of a camera; pixels are frame pixels."""

    height: int
    width: int
    focal: float  # pixels
    horizon: float  # pixels from the top
    camera_height: float  # meters above the ground

    def project(self, point: Point) -> tuple[float, float]:
        """Project to (column, row) in pixels."""
        x, y, z = point
        pixels_per_meter = self.pixels_per_meter(z)
        return self.width / 2 + x * pixels_per_meter, self.horizon + (self.camera_height - y) * pixels_per_meter

    def pixels_per_meter(self, depth: float) -> float:
        return self.focal / max(depth, NEAREST_DEPTH)

    @property
    def nearest_ground(self) -> float:
        """The depth in meters of the ground at the frame's lower edge."""
        return self.focal * self.camera_height / (self.height - self.horizon)

    def half_view(self, depth: float) -> float:
        """Half the width of the view at a depth, in meters."""
        return self.width / 2 / self.pixels_per_meter(depth)


class Capsule(NamedTuple):
    """A limb: a rod with round ends."""

    start: Point
    end: Point
    radius: float
    color: Color

    @property
    def depth(self) -> float:
        return (self.start[2] + self.end[2]) / 2


class Ball(NamedTuple):
    center: Point
    radius: float
    color: Color

    @property
    def depth(self) -> float:
        return self.center[2]


class Face(NamedTuple):
    """A flat polygon, drawn as if `nudge` meters nearer than its center."""

    points: Sequence[Point]
    color: Color
    nudge: float = 0.0

    @property
    def depth(self) -> float:
        return sum(point[2] for point in self.points) / len(self.points) - self.nudge


Solid = Capsule | Ball | Face


class Canvas:
    """A frame being drawn: solids are painted from far to near, abnormal ones also into a mask."""

    def __init__(self, background: Image.Image, camera: Camera) -> None:
        self.camera = camera
        self.image = background.copy()  # SUPERSAMPLING times the frame
        self.mask: Image.Image | None = None  # the frame's size, created with the first abnormal solid
        self._paint = ImageDraw.Draw(self.image, "RGBA")

    def shade(self, center: Point, radius: float, offset: tuple[float, float], strength: float) -> None:
        """Draw a shadow on the ground: an ellipse from `center`, stretched by `offset` meters in X and Z."""
        x, _, z = center
        around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        along = (np.cos(around) + 1) / 2
        length = max(float(np.hypot(*offset)), 1e-6)
        side = np.sin(around) * radius
        xs = x + offset[0] * along - offset[1] / length * side
        zs = z + offset[1] * along + offset[0] / length * side
        points = [self.camera.project((px, 0.0, pz)) for px, pz in zip(xs.tolist(), zs.tolist(), strict=True)]
        scaled = [(column * SUPERSAMPLING, row * SUPERSAMPLING) for column, row in points]
        self._paint.polygon(scaled, fill=(0, 0, 0, int(255 * strength)))

    def add(self, solids: Sequence[Solid], abnormal: bool) -> None:
        """Paint one actor; the mask is cleared where it hides an abnormal one."""
        ordered = sorted(solids, key=lambda solid: -solid.depth)
        for solid in ordered:
            draw_solid(self._paint, self.camera, SUPERSAMPLING, solid, solid.color)
        if abnormal and self.mask is None:
            self.mask = Image.new("L", (self.camera.width, self.camera.height))
        if self.mask is not None:
            paint = ImageDraw.Draw(self.mask)
            for solid in ordered:
                draw_solid(paint, self.camera, 1, solid, 255 if abnormal else 0)

    def paste(self, sprite: Image.Image, column: int, row: int) -> None:
        """Paste an RGBA sprite of canvas pixels over everything painted so far."""
        self.image.paste(sprite, (column, row), sprite)
        if self.mask is not None:
            alpha = sprite.getchannel("A").reduce(SUPERSAMPLING)
            self.mask.paste(0, (column // SUPERSAMPLING, row // SUPERSAMPLING), alpha)

    def frame(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return np.asarray(self.image.reduce(SUPERSAMPLING))

    def abnormal_pixels(self) -> np.ndarray:
        """(H, W) bool."""
        if self.mask is None:
            return np.zeros((self.camera.height, self.camera.width), dtype=bool)
        return np.asarray(self.mask) > 127


def draw_solid(paint: ImageDraw.ImageDraw, camera: Camera, scale: int, solid: Solid, color: Color | int) -> None:
    """Draw one solid on an image of `scale` times the frame's size."""
    if isinstance(solid, Face):
        points = [camera.project(point) for point in solid.points]
        paint.polygon([(column * scale, row * scale) for column, row in points], fill=color)
    elif isinstance(solid, Ball):
        draw_disc(paint, camera, scale, solid.center, solid.radius, color)
    else:
        start, end = camera.project(solid.start), camera.project(solid.end)
        diameter = 2 * solid.radius * camera.pixels_per_meter(solid.depth) * scale
        paint.line(
            [(start[0] * scale, start[1] * scale), (end[0] * scale, end[1] * scale)],
            fill=color,
            width=max(1, round(diameter)),
        )
        if diameter > 3:
            draw_disc(paint, camera, scale, solid.start, solid.radius, color)
            draw_disc(paint, camera, scale, solid.end, solid.radius, color)


def draw_disc(
    paint: ImageDraw.ImageDraw, camera: Camera, scale: int, center: Point, radius: float, color: Color | int
) -> None:
    column, row = camera.project(center)
    size = radius * camera.pixels_per_meter(center[2])
    box = [(column - size) * scale, (row - size) * scale, (column + size) * scale, (row + size) * scale]
    paint.ellipse(box, fill=color)
