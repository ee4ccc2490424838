"""The pretraining objective: classify, per cell, the kind, speed, height and pace of what moves there.

Legend: N clips, F frames, S pixels per side; f, s cells (see `clips`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssrl.extract.encoders.micro3d import HEIGHT_EDGES, PACE_EDGES, READOUT, SPEED_EDGES
from ssrl.extract.micro3d_pretraining.clips import STILL, Clip

STILL_WEIGHT = 0.3  # of a static cell, relative to a moving one: most cells are static
NAMES = ("kind", "speed", "height", "pace")


@dataclass(frozen=True)
class Batch:
    """`frames` (N, F, S, S) uint8; `targets` (N, 4, f, s, s) int64 classes in the order of NAMES."""

    frames: Tensor
    targets: Tensor

    @classmethod
    def from_clips(cls, clips: list[Clip]) -> Batch:
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        return cls(frames, torch.from_numpy(np.stack([_classify(clip) for clip in clips])))

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, chosen: Tensor) -> Batch:
        return Batch(self.frames[chosen], self.targets[chosen])

    def augment(self, generator: torch.Generator) -> Batch:
        """Mirror and invert (swap dark and bright) the clips, each with probability 0.5."""
        frames, targets = self.frames, self.targets
        mirror, invert = (torch.rand(2, generator=generator) < 0.5).tolist()
        if mirror:
            frames, targets = frames.flip(-1), targets.flip(-1)
        return Batch(255 - frames if invert else frames, targets)


def _classify(clip: Clip) -> np.ndarray:
    """(4, f, s, s): the class of each cell in the order of NAMES."""
    pace = clip.speed / np.maximum(clip.height, 1)
    measured = ((clip.speed, SPEED_EDGES), (clip.height, HEIGHT_EDGES), (pace, PACE_EDGES))
    return np.stack([clip.kind.astype(np.int64), *(np.digitize(value, edges) for value, edges in measured)])


def compute_losses(logits: tuple[Tensor, ...], targets: Tensor) -> dict[str, Tensor]:
    """Cross-entropies by name: of the kind over all cells, of the others over moving cells.

    The more moving cells a clip has, the less each weighs, so large figures do not dominate small ones.
    """
    kind = functional.cross_entropy(logits[0], targets[:, 0], _make_kind_weights().to(logits[0]))
    moves = (targets[:, 0] != STILL).to(logits[0])
    weights = moves / moves.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1).sqrt()
    weights = weights / weights.sum().clamp(min=1)
    losses = {"kind": kind}
    for index, name in enumerate(NAMES[1:], start=1):
        entropies = functional.cross_entropy(logits[index], targets[:, index], reduction="none")
        losses[name] = (entropies * weights).sum()
    return losses


def compute_accuracies(logits: tuple[Tensor, ...], targets: Tensor) -> dict[str, float]:
    """Accuracy by name over moving cells, and of moving versus static ("moves") over all cells."""
    moves = targets[:, 0] != STILL
    accuracies = {"moves": ((logits[0].argmax(dim=1) != STILL) == moves).float().mean().item()}
    for index, name in enumerate(NAMES):
        accuracies[name] = (logits[index].argmax(dim=1) == targets[:, index])[moves].float().mean().item()
    return accuracies


def _make_kind_weights() -> Tensor:
    return torch.tensor([STILL_WEIGHT] + [1.0] * (READOUT[0] - 1))
