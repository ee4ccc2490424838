"""Synthetic clips: figures that move over a static, noisy, compressed backdrop, with labels of what moves where.

    draw figures at 3x size, frame by frame ──▶ shrink 3x ──▶ shake, flicker, noise, compression ──▶ (F, S, S) uint8
    draw their numbers the same way         ──▶ one number per pixel ──▶ majority in 4x4x4 cells ──▶ cell targets

Legend: F frames, S pixels per side, f = F/4, s = S/4 cells.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ssrl.extract.encoders.micro3d import CELL_STRIDE, KINDS, SHORT_SIDE
from ssrl.extract.micro3d_pretraining.figures import Figure, Part, draw_figure

NUM_FRAMES = 16
OVERSAMPLING = 3
MIN_COVERAGE = 0.15  # fraction of a cell's pixels that its figure must cover
MIN_SPEED = 0.05  # pixels per frame; slower figures blend into the backdrop
STILL = 0  # the kind of a cell without a figure; kind k of KINDS is k + 1


@dataclass(frozen=True)
class Clip:
    """`frames` (F, S, S) uint8; per cell, each (f, s, s): kind, speed in pixels per frame, height in pixels."""

    frames: np.ndarray
    kind: np.ndarray
    speed: np.ndarray
    height: np.ndarray


def draw_clip(seed: int, index: int) -> Clip:
    """Draw clip number `index` of the infinite series given by `seed`."""
    rng = np.random.default_rng([seed, index])
    backdrop = _draw_backdrop(rng)
    figures = [draw_figure(rng, SHORT_SIDE, NUM_FRAMES, int(backdrop.mean())) for _ in range(_draw_num_figures(rng))]
    figures.sort(key=lambda figure: figure.start[1])  # nearer ones stand lower and occlude those behind
    shake = _draw_shake(rng)
    images, owners = zip(*(_draw_frame(backdrop, figures, t, shake[t]) for t in range(NUM_FRAMES)), strict=True)
    frames = _degrade(rng, np.stack(images).astype(np.float32))
    return Clip(frames, *_compute_cell_targets(np.stack(owners), figures))


def _draw_num_figures(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 1, 2, 3, 4, 6], p=[0.1, 0.3, 0.25, 0.15, 0.1, 0.1]))


def _draw_backdrop(rng: np.random.Generator) -> np.ndarray:
    """(3S, 3S) uint8: a base tone, noise at several scales, and edges."""
    side = SHORT_SIDE * OVERSAMPLING
    picture = np.full((side, side), rng.uniform(40, 200), dtype=np.float32)
    for grain in (2, 6, 20, 60):
        clouds = Image.fromarray(rng.standard_normal((grain, grain)).astype(np.float32))
        picture += np.asarray(clouds.resize((side, side), Image.Resampling.BICUBIC)) * rng.exponential(9)
    canvas = Image.fromarray(np.clip(picture, 5, 250).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 6)):
        corners = [tuple(rng.uniform(-0.2, 1.2, 2) * side) for _ in range(int(rng.integers(2, 5)))]
        tone = int(np.clip(picture.mean() + rng.normal(0, 40), 0, 255))
        if len(corners) > 2:
            pen.polygon(corners, fill=tone)
        else:
            pen.line(corners, fill=tone, width=int(rng.integers(1, 12)))
    return np.asarray(canvas)


def _draw_shake(rng: np.random.Generator) -> np.ndarray:
    """(F, 2) integer offsets of the backdrop in oversampled pixels: none, or the jitter of a camera on a mast."""
    if rng.random() < 0.85:
        return np.zeros((NUM_FRAMES, 2), dtype=int)
    return np.rint(rng.normal(0, rng.uniform(0.2, 0.8), (NUM_FRAMES, 2))).astype(int)


def _draw_frame(
    backdrop: np.ndarray, figures: list[Figure], frame: int, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one frame (S, S) and, per pixel, the number (from 1) of the figure on top, or 0."""
    picture = Image.fromarray(np.roll(backdrop, tuple(offset), axis=(0, 1)))
    owner = Image.new("L", picture.size, 0)
    pens = ImageDraw.Draw(picture), ImageDraw.Draw(owner)
    for number, figure in enumerate(figures, start=1):
        for part in figure.make_parts(frame):
            _draw_part(pens[0], part, part.tone)
            _draw_part(pens[1], part, number)
    return np.asarray(picture.reduce(OVERSAMPLING)), np.asarray(owner)[1::OVERSAMPLING, 1::OVERSAMPLING]


def _draw_part(pen: ImageDraw.ImageDraw, part: Part, fill: int) -> None:
    points = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in part.points]
    width = max(1, round(part.width * OVERSAMPLING))
    if part.shape == "polygon":
        pen.polygon(points, fill=fill)
    elif part.shape == "line":
        pen.line(points, fill=fill, width=width)
        if width > 3:
            for x, y in points:
                pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=fill)
    else:
        (x0, y0), (x1, y1) = points
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        if part.shape == "ring":
            pen.ellipse(box, outline=fill, width=width)
        else:
            pen.ellipse(box, fill=fill)


def _degrade(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Add what a camera and a codec do: contrast, flicker, noise, and one of two kinds of compression."""
    frames = (frames - 128) * rng.uniform(0.5, 1.2) + 128 + rng.uniform(-20, 20)
    if rng.random() < 0.2:
        frames = frames + rng.normal(0, rng.uniform(0.5, 5), (len(frames), 1, 1))
    frames = frames + rng.standard_normal(frames.shape, dtype=np.float32) * math.exp(rng.uniform(-1.5, 1.6))
    choice = rng.random()
    if choice < 0.35:
        return np.stack([_compress_jpeg(frame, int(rng.integers(35, 95))) for frame in _to_bytes(frames)])
    if choice < 0.7:
        return _to_bytes(_hold_pixels(frames, rng.uniform(1, 8)))
    return _to_bytes(frames)


def _to_bytes(frames: np.ndarray) -> np.ndarray:
    return frames.round().clip(0, 255).astype(np.uint8)


def _compress_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _hold_pixels(frames: np.ndarray, threshold: float) -> np.ndarray:
    """Hold each pixel until it has changed by more than `threshold`, as predictive codecs do."""
    held = [frames[0]]
    for frame in frames[1:]:
        held.append(np.where(np.abs(frame - held[-1]) > threshold, frame, held[-1]))
    return np.stack(held)


def _compute_cell_targets(owners: np.ndarray, figures: list[Figure]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(F, S, S) figure numbers to the kind, speed and height of the figure that covers most of each cell."""
    (cf, cy, cx), (num_frames, size, _) = CELL_STRIDE, owners.shape
    cells = owners.reshape(num_frames // cf, cf, size // cy, cy, size // cx, cx)
    numbers = np.arange(1, len(figures) + 1)
    coverage = np.stack([np.zeros(cells.shape[::2]), *((cells == n).mean(axis=(1, 3, 5)) for n in numbers)])
    moving = [True, *(figure.speed >= MIN_SPEED for figure in figures)]
    coverage *= np.reshape(moving, (-1, 1, 1, 1))
    best = np.where(coverage.max(axis=0) >= MIN_COVERAGE, coverage.argmax(axis=0), 0)
    kinds = np.array([STILL, *(1 + KINDS.index(figure.kind) for figure in figures)], dtype=np.uint8)
    speeds = np.array([0.0, *(figure.speed for figure in figures)], dtype=np.float32)
    heights = np.array([0.0, *(figure.height for figure in figures)], dtype=np.float32)
    return kinds[best], speeds[best], heights[best]
