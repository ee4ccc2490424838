"""Abnormal events, each with a normal counterpart.

Every video, normal or abnormal, draws an event. An abnormal video plays it; a normal one plays its counterpart with
the same people at the same distance (a walker for the runner, a chat for the fight), so neither the number of figures
nor their position gives away the label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssrl.datasets.synthetic.actors import (
    BAGS,
    BUS,
    CAR,
    PAINT_COLORS,
    VAN,
    Actor,
    Cyclist,
    Figure,
    Looks,
    LooseObject,
    Vehicle,
    VehicleShape,
    mark_frames,
    mark_none,
)
from ssrl.datasets.synthetic.motion import FPS, Track, draw_stroll, follow, join, make_burst, smooth, stand
from ssrl.datasets.synthetic.scene import Scene

MARGIN = 12  # frames before and after an event
MAX_SHARE = 0.6  # of a video's frames, for an event
MAX_FIGURES = 8
ATTEMPTS = 800


@dataclass(frozen=True)
class Event:
    """A kind of event, and its range of depth as fractions of the scene's walkable depth."""

    kind: str
    nearest: float
    farthest: float

    @property
    def num_people(self) -> int:
        return {"fighting": 2, "object": 2, "dispersing": 5}.get(self.kind, 1)


DISTANT = (0.82, 1.0)
FAR = (0.66, 0.98)
MIDDLE = (0.18, 0.5)
EVENTS = (
    Event("running", *DISTANT),
    Event("cycling", *FAR),
    Event("vehicle", 0.0, 0.0),
    Event("fighting", *MIDDLE),
    Event("running", *FAR),
    Event("object", 0.12, 0.4),
    Event("cycling", *FAR),
    Event("dispersing", 0.3, 0.6),
    Event("running", *DISTANT),
    Event("vehicle", *FAR),
    Event("cycling", *FAR),
    Event("fighting", *FAR),
)


def populate(
    event: Event, abnormal: bool, scene: Scene, num_frames: int, num_figures: int, rng: np.random.Generator
) -> list[Actor]:
    """Make all actors of one video: those of the event or its counterpart, and passers-by up to `num_figures`."""
    actors = STAGE[event.kind](event, abnormal, scene, num_frames, rng)
    others = num_figures - event.num_people
    while others > 0:
        together = min(others, 1 + int(rng.random() < 0.3))
        actors += make_passers_by(scene, num_frames, together, rng)
        others -= together
    return actors


def find_depth_range(scene: Scene) -> tuple[float, float]:
    """Find where people walk, in meters from the camera: from just inside the frame to short of the backdrop."""
    return scene.camera.nearest_ground * 1.08, scene.place.backdrop_depth - 1.5


def draw_depth(event: Event, scene: Scene, rng: np.random.Generator) -> float:
    nearest, farthest = find_depth_range(scene)
    return float(nearest + (farthest - nearest) * rng.uniform(event.nearest, event.farthest))


def draw_pace(rng: np.random.Generator) -> float:
    """Draw a walking speed in meters per second: most about 1.35, some brisk, none running."""
    return float(np.clip(rng.normal(1.35, 0.28), 0.8, 2.0))


def make_passers_by(scene: Scene, num_frames: int, together: int, rng: np.random.Generator) -> list[Actor]:
    """Make people who walk from point to point through the view, alone or side by side."""
    nearest, farthest = find_depth_range(scene)
    depths = nearest + (farthest - nearest) * rng.beta(1.1, 1.6, size=6)
    sides = rng.uniform(-1.15, 1.15, size=6)
    route = np.stack([sides * [scene.camera.half_view(depth) for depth in depths], depths], axis=1)
    speed = draw_stroll(num_frames, draw_pace(rng), rng)
    people: list[Actor] = []
    for place in range(together):
        beside = follow(route + np.array([0.0, 0.75 * place]), speed, round_corners=17)
        phase = rng.uniform(0, 2 * np.pi)
        track = Track(beside.x + 0.3 * place, beside.z, beside.heading, beside.speed, beside.stride + phase)
        people.append(Figure(track, Looks.draw(rng), mark_none(track)))
    return people


def find_visible_spot(event: Event, scene: Scene, rng: np.random.Generator, reach: float = 1.0) -> tuple[float, float]:
    """Find a spot (X, Z), in meters, that is visible with `reach` meters on both sides."""
    for _ in range(ATTEMPTS):
        z = draw_depth(event, scene, rng)
        x = rng.uniform(-0.9, 0.9) * scene.camera.half_view(z)
        around = np.linspace(x - reach, x + reach, 9)
        if scene.sees(around, np.full(9, z)).all():
            return float(x), z
    raise AssertionError(f"no visible spot for {event}")


def draw_interval(num_frames: int, rng: np.random.Generator, shortest: int = 28) -> tuple[int, int]:
    """Draw the frames [start, stop) of an event, inside the video."""
    length = int(rng.integers(shortest, max(shortest + 1, int(num_frames * 0.5))))
    start = int(rng.integers(MARGIN, num_frames - MARGIN - length + 1))
    return start, start + length


def make_line(x: float, z: float, heading: float) -> np.ndarray:
    """Make a straight route of 120 m centered at (X, Z)."""
    right, away = 60 * np.cos(heading), 60 * np.sin(heading)
    return np.array([[x - right, z - away], [x + right, z + away]])


def draw_heading(rng: np.random.Generator, spread: float) -> float:
    """Draw a heading to the left or right, up to `spread` radians off."""
    return float(rng.choice([0.0, np.pi]) + rng.uniform(-spread, spread))


def play_running(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """Someone walks, breaks into a run, and walks on."""
    nearest, farthest = find_depth_range(scene)
    for _ in range(ATTEMPTS):
        start, stop = draw_interval(num_frames, rng)
        x, z = find_visible_spot(event, scene, rng, reach=0.3)
        burst = rng.uniform(3.3, 5.0)
        before, after = draw_pace(rng) * 0.9, draw_pace(rng) * 0.9
        speed = make_burst(num_frames, start, stop, before, burst if abnormal else min(2.0, before * 1.4), after)
        middle = np.sum(speed[: (start + stop) // 2]) / FPS
        track = follow(make_line(x, z, draw_heading(rng, 0.6)), speed, 60 - middle)
        seen = scene.sees(track.x, track.z) & (track.z > nearest) & (track.z < farthest)
        if seen[start:stop].mean() > 0.92:
            break
    return [Figure(track, Looks.draw(rng), mark_frames(track, start, stop) if abnormal else mark_none(track))]


def play_cycling(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """A cyclist crosses the view."""
    speed = rng.uniform(4.2, 6.5) if abnormal else draw_pace(rng)
    track = find_crossing(event, scene, num_frames, speed, 1.75, 0.35, rng, inside=abnormal)
    if not abnormal:
        return [Figure(track, Looks.draw(rng), mark_none(track))]
    color = PAINT_COLORS[int(rng.integers(len(PAINT_COLORS)))]
    return [Cyclist(track, Looks.draw(rng), color, ~mark_none(track))]


def play_vehicle(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """A car, van or bus crosses the view, far away or so near that it fills the frame."""
    close = event.farthest == 0.0
    shape: VehicleShape = (BUS if rng.random() < 0.7 else VAN) if close else (CAR if rng.random() < 0.6 else VAN)
    speed = (rng.uniform(4.0, 7.5) if close else rng.uniform(5.5, 8.5)) if abnormal else draw_pace(rng)
    length = shape.length if abnormal else 0.5
    at = rng.uniform(3.6, 5.2) + (shape.width / 2 if abnormal else 1.5) if close else None
    track = find_crossing(event, scene, num_frames, speed, length, 0.08, rng, inside=abnormal, at=at)
    if not abnormal:
        return [Figure(track, Looks.draw(rng), mark_none(track))]
    return [Vehicle(track, shape, PAINT_COLORS[int(rng.integers(len(PAINT_COLORS)))], ~mark_none(track))]


def find_crossing(
    event: Event,
    scene: Scene,
    num_frames: int,
    speed: float,
    length: float,
    spread: float,
    rng: np.random.Generator,
    inside: bool,
    at: float | None = None,
) -> Track:
    """Find a straight line through the view; `inside`: enter and leave between the first and the last frame.

    If the way is too long for a short video, later attempts are faster and nearer.
    """
    steady = np.full(num_frames, speed)
    for attempt in range(ATTEMPTS):
        relaxation = 2 * attempt / ATTEMPTS if inside else 0.0
        z = draw_depth(event, scene, rng) * (1 - 0.3 * relaxation) if at is None else at
        x = rng.uniform(-0.5, 0.5) * scene.camera.half_view(z)
        passing = int(rng.integers(MARGIN, num_frames - MARGIN))
        boost = 1 + 0.8 * relaxation
        track = follow(make_line(x, z, draw_heading(rng, spread)), steady * boost, 60 - speed * boost * passing / FPS)
        ahead = [scene.sees(track.x + offset, track.z) for offset in np.linspace(-length / 2, length / 2, 15)]
        seen = np.flatnonzero(np.any(ahead, axis=0))
        if len(seen) < 14:
            continue
        enough = len(seen) < MAX_SHARE * num_frames
        if not inside or (enough and seen[0] >= MARGIN and seen[-1] < num_frames - MARGIN):
            return track
    raise AssertionError(f"no crossing found for {event}")


def play_fighting(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """Two people stand close and fight for a while, striking, lunging and reeling. Otherwise they chat."""
    start, stop = draw_interval(num_frames, rng, shortest=32)
    x, z = find_visible_spot(event, scene, rng, reach=1.2)
    actors: list[Actor] = []
    for side in (-1, 1):
        facing = 0.0 if side < 0 else np.pi
        apart = np.full(num_frames, rng.uniform(0.38, 0.5))
        arms = draw_gestures(num_frames, rng, 0.35)
        lean = np.zeros(num_frames)
        at = stand(x, z, facing + rng.uniform(-0.3, 0.3), num_frames, rng)
        speed = np.zeros(num_frames)
        if abnormal:
            time = np.arange(stop - start) / FPS
            rate = rng.uniform(1.6, 2.4) * 2 * np.pi
            blows = np.maximum(0, np.sin(rate * time + side))
            apart[start:stop] = 0.62 - 0.42 * np.sin(rate * 0.5 * time + 2 * side)
            lean[start:stop] = 0.5 * np.sin(rate * 0.5 * time + side)
            arms[start:stop, 0] = 0.5 + 1.5 * blows
            arms[start:stop, 1] = 0.5 + 1.5 * np.maximum(0, np.sin(rate * time + side + np.pi))
            speed[start:stop] = 0.9
        shove = smooth(rng.standard_normal(num_frames), 9) * (2.4 if abnormal else 0.0)
        shove *= mark_frames(at, start, stop)
        across = at.x + side * smooth(apart, 3) + smooth(shove, 3)
        track = Track(across, at.z, at.heading, speed, np.cumsum(speed) * 0.5)
        frames = mark_frames(track, start, stop) if abnormal else mark_none(track)
        actors.append(Figure(track, Looks.draw(rng, 0.15), frames, arms, smooth(lean, 3)))
    return actors


def draw_gestures(num_frames: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Draw the gestures of someone talking: (num_frames, 2) radians."""
    waves = [np.maximum(0, smooth(rng.standard_normal(num_frames), 13) * 3) for _ in range(2)]
    return np.stack(waves, axis=1) * strength


def play_object(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """Something is thrown back and forth between two people, or a bag is left behind for a while."""
    return (play_throwing if rng.random() < 0.65 else play_leaving)(event, abnormal, scene, num_frames, rng)


def play_throwing(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    start, stop = draw_interval(num_frames, rng, shortest=34)
    gap = rng.uniform(2.6, 4.0)
    x, z = find_visible_spot(event, scene, rng, reach=gap / 2 + 0.4)
    flight = int(rng.integers(17, 24))  # frames
    frames = np.arange(num_frames) - start
    share = (frames % flight) / flight
    outward = (frames // flight) % 2 == 0
    ball_x = x + gap * (np.where(outward, share, 1 - share) - 0.5)
    up = 1.25 + 4.9 * (flight / FPS) ** 2 * share * (1 - share)
    actors: list[Actor] = []
    for side in (-1, 1):
        at = stand(x + side * gap / 2 * 1.1, z, 0.0 if side < 0 else np.pi, num_frames, rng)
        arms = draw_gestures(num_frames, rng, 0.3)
        if abnormal:
            reach = np.clip(1 - np.abs(ball_x - at.x) / 1.6, 0, 1)[start:stop]
            arms[start:stop] = (0.5 + 1.4 * reach)[:, None]
        marked = mark_frames(at, start, stop) if abnormal else mark_none(at)
        actors.append(Figure(at, Looks.draw(rng, 0.1), marked, arms))
    if abnormal:
        still = np.zeros(num_frames)
        way = Track(ball_x, np.full(num_frames, z), still, still, still)
        color = PAINT_COLORS[int(rng.choice([0, 2, 5]))]
        flying = mark_frames(way, start, stop)
        actors.append(LooseObject(way, up, float(rng.uniform(0.24, 0.32)), color, flying, flying))
    return actors


def play_leaving(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """Two people walk; one puts down a bag, walks away, turns around and picks it up again."""
    start, stop = draw_interval(num_frames, rng, shortest=40)
    x, z = find_visible_spot(event, scene, rng, reach=1.5)
    heading, stride = draw_heading(rng, 0.4), draw_pace(rng)
    turn = (start + stop) // 2
    outbound = follow(make_line(x, z, heading), np.full(num_frames, stride), 60 - stride * start / FPS)
    back = follow(make_line(x, z, heading + np.pi), np.full(num_frames, stride), 60.0)
    looks = Looks.draw(rng, 0.0)
    track = join(outbound, back, turn) if abnormal else outbound
    actors: list[Actor] = [Figure(track, looks, mark_none(track)), *make_passers_by(scene, num_frames, 1, rng)]
    still = np.zeros(num_frames)
    carried = Track(track.x, track.z - 0.3, track.heading, still, still)
    color = BAGS[int(rng.integers(len(BAGS)))]
    left = mark_frames(track, start, stop) if abnormal else mark_none(track)
    down = Track(
        np.where(left, track.x[start], track.x),
        np.where(left, track.z[start] - 0.3, carried.z),
        np.where(left, track.heading[start], track.heading),
        still,
        still,
    )
    actors.append(LooseObject(down, np.where(left, 0.0, 0.12), 0.22, color, left, ~mark_none(track)))
    return actors


def play_scatter(event: Event, abnormal: bool, scene: Scene, num_frames: int, rng: np.random.Generator) -> list[Actor]:
    """A group stands together and scatters at a run; otherwise it walks away."""
    start = int(rng.integers(MARGIN + 6, max(MARGIN + 7, int(num_frames * 0.55))))
    stop = min(num_frames - MARGIN, start + int(rng.integers(32, 60)))
    x, z = find_visible_spot(event, scene, rng, reach=1.6)
    nearest, farthest = find_depth_range(scene)
    actors: list[Actor] = []
    for member in range(event.num_people):
        angle = 2 * np.pi * member / event.num_people + rng.uniform(-0.4, 0.4)
        at = stand(x + 1.0 * np.cos(angle), z + 0.8 * np.sin(angle), angle + np.pi, num_frames, rng)
        away = np.arctan2(np.sin(angle) * 0.5, np.cos(angle) + 0.01)
        speed = make_burst(num_frames, start, stop, 0.0, rng.uniform(3.2, 4.6), draw_pace(rng) * 0.8)
        if not abnormal:
            speed = make_burst(num_frames, start + int(rng.integers(0, 10)), stop, 0.0, draw_pace(rng), draw_pace(rng))
        off = follow(make_line(x, z, away), speed, 60.0)
        track = join(at, off, start - 4)
        track = Track(track.x, np.clip(track.z, nearest, farthest), track.heading, track.speed, track.stride)
        marked = mark_frames(track, start, stop) if abnormal else mark_none(track)
        actors.append(Figure(track, Looks.draw(rng), marked, draw_gestures(num_frames, rng, 0.2)))
    return actors


STAGE: dict[str, Callable[[Event, bool, Scene, int, np.random.Generator], list[Actor]]] = {
    "running": play_running,
    "cycling": play_cycling,
    "vehicle": play_vehicle,
    "fighting": play_fighting,
    "object": play_object,
    "dispersing": play_scatter,
}
