"""The videos of a dataset. Each abnormal video has a normal twin made under the same conditions.

Twins share the scene, the length, the exposure, the noise, the compression and the number of figures, so only the
event gives away the label, however small the dataset; their people, paths and noise differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssrl.datasets.synthetic.config import SynthConfig
from ssrl.datasets.synthetic.events import EVENTS, MAX_FIGURES, Event
from ssrl.datasets.synthetic.scene import PLACES
from ssrl.datasets.synthetic.video import Recording
from ssrl.datasets.video import LABELS, SPLITS, Split

SHORTEST, LONGEST = 96, 208  # frames


@dataclass(frozen=True)
class Conditions:
    """What twins have in common."""

    scene: int  # from 1
    event: Event  # played by the abnormal twin; the normal one plays its harmless counterpart
    num_figures: int
    recording: Recording

    @classmethod
    def draw(cls, scene: int, event: Event, rng: np.random.Generator) -> Conditions:
        recording = Recording(
            num_frames=int(rng.integers(SHORTEST, LONGEST + 1)),
            brightness=float(rng.uniform(0.72, 1.15)),
            noise=float(rng.uniform(1.0, 4.5)),
            quantizer=int(rng.integers(2, 6)),
        )
        num_figures = max(event.num_people, int(rng.integers(1, MAX_FIGURES + 1)))
        return cls(scene, event, num_figures, recording)


@dataclass(frozen=True)
class VideoPlan:
    """One video to make."""

    number: int  # from 1 among the videos of its label
    label: int
    split: Split
    conditions: Conditions

    @property
    def scene(self) -> int:
        return self.conditions.scene

    @property
    def id(self) -> str:
        """An id like ShanghaiTech's: 01_001 for a normal video, 01_0014 for an abnormal one."""
        return f"{self.scene:02d}_{self.number:0{4 if self.label else 3}d}"

    def path(self, out: Path) -> Path:
        """The file or folder that exists when the video is complete."""
        return out / "testing" / "frames" / self.id if self.label else out / "training" / "videos" / f"{self.id}.avi"


def plan_videos(config: SynthConfig) -> tuple[VideoPlan, ...]:
    """Plan all videos of a dataset, sorted by id. Both labels and splits share the same scenes and events."""
    rng = np.random.default_rng([config.seed, 1])
    plans: list[VideoPlan] = []
    numbers = {label: iter((rng.permutation(config.num_labeled(label)) + 1).tolist()) for label in LABELS}
    for split in SPLITS:
        counts = {1: config.num_abnormal(split), 0: config.num_videos(split) - config.num_abnormal(split)}
        scenes = rng.permutation(max(counts.values())) % len(PLACES) + 1
        for index, scene in enumerate(scenes.tolist()):
            conditions = Conditions.draw(scene, EVENTS[index % len(EVENTS)], rng)
            plans += [
                VideoPlan(next(numbers[label]), label, split, conditions) for label in LABELS if index < counts[label]
            ]
    return tuple(sorted(plans, key=lambda plan: plan.id))
