"""Filming: actors in a scene are rendered to frames and masks, and the frames pass through a sensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ssrl.datasets.synthetic.actors import Actor
from ssrl.datasets.synthetic.camera import Canvas
from ssrl.datasets.synthetic.motion import FPS
from ssrl.datasets.synthetic.scene import Scene

NOISE_FIELDS = 6
SEEN_SHARE = 0.2  # of the event's usual area in the frame; less does not count as visible
SHADOW_STRENGTH = 0.3


@dataclass(frozen=True)
class Shot:
    """One rendered frame (H, W, 3) uint8 and its abnormal pixels (H, W) bool."""

    frame: np.ndarray
    abnormal_pixels: np.ndarray


def film(scene: Scene, actors: list[Actor], num_frames: int) -> Iterator[Shot]:
    """Render a video frame by frame, before sensor and compression."""
    for frame_index in range(num_frames):
        canvas = Canvas(scene.background, scene.camera)
        present = [actor for actor in actors if actor.present[frame_index]]
        for actor in present:
            center = float(actor.track.x[frame_index]), 0.0, float(actor.track.z[frame_index])
            if is_in_view(scene, *center):
                canvas.shade(center, actor.shadow_radius, scene.place.sun, SHADOW_STRENGTH)
        for item in sort_far_to_near(scene, present, frame_index):
            if isinstance(item, int):
                occluder = scene.occluders[item]
                canvas.paste(occluder.sprite, occluder.column, occluder.row)
            elif is_in_view(scene, float(item.track.x[frame_index]), 0.0, float(item.track.z[frame_index])):
                canvas.add(item.make_solids(frame_index), bool(item.abnormal[frame_index]))
        frame = canvas.frame()
        yield Shot(to_gray(frame) if scene.place.gray else frame, canvas.abnormal_pixels())


def sort_far_to_near(scene: Scene, actors: list[Actor], frame_index: int) -> list[Actor | int]:
    """Sort actors and the indices of occluders in painting order."""
    depths: list[tuple[float, Actor | int]] = [(float(a.track.z[frame_index]), a) for a in actors]
    depths += [(occluder.depth, index) for index, occluder in enumerate(scene.occluders)]
    return [item for _, item in sorted(depths, key=lambda pair: -pair[0])]


def is_in_view(scene: Scene, x: float, _y: float, z: float) -> bool:
    """Whether an actor at this point may extend into the frame."""
    return z > 1.0 and abs(x) < scene.camera.half_view(z) + 6.0


def to_gray(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).convert("L").convert("RGB"))


@dataclass(frozen=True)
class Recording:
    """The settings of one recording."""

    num_frames: int
    brightness: float  # 1: as painted
    noise: float  # standard deviation in gray values
    quantizer: int  # of the camera's MPEG-4 encoder


@dataclass(frozen=True)
class Sensor:
    """The sensor effects of one recording: exposure with drift and flicker, and noise."""

    gain: np.ndarray  # (num_frames,)
    noise: np.ndarray  # (NOISE_FIELDS, H, W, 3) int16
    order: np.ndarray  # (num_frames, 3): the field, and how far it is shifted down and right

    @classmethod
    def draw(cls, recording: Recording, scene: Scene, rng: np.random.Generator) -> Sensor:
        num_frames, height, width = recording.num_frames, scene.camera.height, scene.camera.width
        time = np.arange(num_frames) / FPS
        drift = rng.uniform(0, 0.05) * np.sin(2 * np.pi * (time / rng.uniform(4, 20) + rng.random()))
        flicker = rng.uniform(0, 0.012) * np.sin(2 * np.pi * (time * rng.uniform(2, 11) + rng.random()))
        luma = rng.standard_normal((NOISE_FIELDS, height, width, 1), dtype=np.float32)
        chroma = rng.standard_normal((NOISE_FIELDS, height, width, 3), dtype=np.float32)
        noise = recording.noise * (luma + (0.0 if scene.place.gray else 0.5) * chroma)
        shifts = [rng.integers(0, limit, num_frames) for limit in (NOISE_FIELDS, height, width)]
        gain = recording.brightness * (1 + drift + flicker)
        return cls(gain, np.rint(noise).astype(np.int16), np.stack(shifts, axis=1))

    def expose(self, frame: np.ndarray, frame_index: int) -> np.ndarray:
        """Apply the sensor to a frame: (H, W, 3) uint8."""
        field, down, right = self.order[frame_index].tolist()
        table = np.arange(256) * self.gain[frame_index]
        lit: np.ndarray = np.minimum(table, 255).astype(np.int16)[frame]
        lit += np.roll(self.noise[field], (down, right), axis=(0, 1))
        return lit.clip(0, 255).astype(np.uint8)


def compute_frame_labels(visible: np.ndarray, frame_area: int) -> np.ndarray:
    """Compute (num_frames,) uint8 labels from the number of abnormal pixels per frame, (num_frames,).

    A frame is anomalous if a fifth of the event's usual area is visible, or a twentieth of the frame.
    """
    if not visible.any():
        return np.zeros(len(visible), dtype=np.uint8)
    usual = np.median(visible[visible > 0])
    return np.asarray(visible >= max(1.0, min(SEEN_SHARE * usual, frame_area / 20)), dtype=np.uint8)
