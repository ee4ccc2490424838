"""Motion over the ground: a route in meters, followed at a speed per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FPS = 24
RUNNING_SPEED = 2.6  # meters per second; from here on, the gait is running


@dataclass(frozen=True)
class Track:
    """The motion of one actor; all arrays are (num_frames,), in meters, radians and seconds."""

    x: np.ndarray
    z: np.ndarray
    heading: np.ndarray  # 0 along X, pi/2 away from the camera
    speed: np.ndarray  # meters per second
    stride: np.ndarray  # radians; 2 pi is two steps

    @property
    def num_frames(self) -> int:
        return len(self.x)


def smooth(values: np.ndarray, frames: int) -> np.ndarray:
    """Apply a moving average over `frames` frames, twice, with edge padding."""
    kernel = np.ones(frames) / frames
    for _ in range(2):
        padded = np.pad(values, (frames // 2, frames - 1 - frames // 2), mode="edge")
        values = np.convolve(padded, kernel, mode="valid")
    return values


def follow(route: np.ndarray, speed: np.ndarray, start_distance: float = 0.0, round_corners: int = 11) -> Track:
    """Follow `route` (K, 2), in meters, at `speed` (num_frames,); it extends straight beyond both ends."""
    distance = start_distance + np.concatenate([[0.0], np.cumsum(speed[:-1])]) / FPS
    legs = np.diff(route, axis=0)
    lengths = np.maximum(np.hypot(legs[:, 0], legs[:, 1]), 1e-6)
    reached = np.concatenate([[0.0], np.cumsum(lengths)])
    leg = np.clip(np.searchsorted(reached, distance, side="right") - 1, 0, len(legs) - 1)
    position = route[leg] + ((distance - reached[leg]) / lengths[leg])[:, None] * legs[leg]
    x, z = smooth(position[:, 0], round_corners), smooth(position[:, 1], round_corners)
    dx, dz = np.cos(np.arctan2(legs[leg, 1], legs[leg, 0])), np.sin(np.arctan2(legs[leg, 1], legs[leg, 0]))
    heading = np.arctan2(smooth(dz, round_corners), smooth(dx, round_corners))
    return Track(x, z, heading, speed, compute_strides(speed))


def compute_strides(speed: np.ndarray) -> np.ndarray:
    """Compute the phase of the gait: faster steps at higher speed, none when standing."""
    walking = 0.92 * np.sqrt(np.clip(speed, 0, RUNNING_SPEED) / 1.4)
    running = np.clip(speed - RUNNING_SPEED, 0, None) * 0.12
    return np.cumsum(2 * np.pi * (walking + running) / FPS)


def draw_stroll(num_frames: int, pace: float, rng: np.random.Generator, pause_chance: float = 0.35) -> np.ndarray:
    """Draw a speed around `pace` with an occasional pause: (num_frames,) meters per second."""
    speed = np.full(num_frames, pace) * (1 + 0.06 * smooth(rng.standard_normal(num_frames), 15) * 4)
    if rng.random() < pause_chance:
        length = int(rng.integers(18, 70))
        start = int(rng.integers(0, max(1, num_frames - length)))
        speed[start : start + length] = 0.0
    return smooth(speed, 9).clip(min=0.0)


def make_burst(num_frames: int, start: int, stop: int, before: float, burst: float, after: float) -> np.ndarray:
    """Make a speed: `before`, `burst` in the frames [start, stop), `after`; (num_frames,) meters per second."""
    speed = np.full(num_frames, before)
    speed[start:stop] = burst
    speed[stop:] = after
    return smooth(speed, 5)


def stand(x: float, z: float, heading: float, num_frames: int, rng: np.random.Generator) -> Track:
    """Stay in one place, swaying slightly."""
    sway = [smooth(rng.standard_normal(num_frames), 25) * 0.12 for _ in range(3)]
    still = np.zeros(num_frames)
    return Track(x + sway[0], z + sway[1], heading + 2 * sway[2], still, still)


def join(first: Track, second: Track, at: int) -> Track:
    """Join `first` before frame `at` and `second` from there on, shifted to continue where `first` stopped."""
    x = np.concatenate([first.x[:at], second.x[at:] - second.x[at] + first.x[at]])
    z = np.concatenate([first.z[:at], second.z[at:] - second.z[at] + first.z[at]])
    heading = np.unwrap(np.concatenate([first.heading[:at], second.heading[at:]]))
    speed = np.concatenate([first.speed[:at], second.speed[at:]])
    return Track(x, z, smooth(heading, 7), speed, compute_strides(speed))
