"""What the encoder learns: to name, cell by cell, the kind, speed, height and pace of what moves there.

Legend: N clips, F frames, S pixels a side; f, s cells (see `clips`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssrl.extract.encoders.micro3d import HEIGHT_EDGES, PACE_EDGES, READOUT, SPEED_EDGES
from ssrl.extract.micro3d_pretraining.clips import STILL, Clip

STILL_WEIGHT = 0.3  # of a cell where nothing moves, against 1: most cells are still
NAMES = ("kind", "speed", "height", "pace")


@dataclass(frozen=True)
class Batch:
    """`frames` (N, F, S, S) uint8; `targets` (N, 4, f, s, s) int64 classes in the order of NAMES."""

    frames: Tensor
    targets: Tensor

    @classmethod
    def of(cls, clips: list[Clip]) -> Batch:
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        return cls(frames, torch.from_numpy(np.stack([_classes(clip) for clip in clips])))

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, chosen: Tensor) -> Batch:
        return Batch(self.frames[chosen], self.targets[chosen])

    def varied(self, generator: torch.Generator) -> Batch:
        """The same clips, mirrored or with dark and bright exchanged, half of the time each."""
        frames, targets = self.frames, self.targets
        mirror, invert = (torch.rand(2, generator=generator) < 0.5).tolist()
        if mirror:
            frames, targets = frames.flip(-1), targets.flip(-1)
        return Batch(255 - frames if invert else frames, targets)


def _classes(clip: Clip) -> np.ndarray:
    """(4, f, s, s): the class of each cell in the order of NAMES."""
    pace = clip.speed / np.maximum(clip.height, 1)
    measured = ((clip.speed, SPEED_EDGES), (clip.height, HEIGHT_EDGES), (pace, PACE_EDGES))
    return np.stack([clip.kind.astype(np.int64), *(np.digitize(value, edges) for value, edges in measured)])


def losses(logits: tuple[Tensor, ...], targets: Tensor) -> dict[str, Tensor]:
    """Cross-entropies by name: of the kind over all cells, of the others over the cells in which something moves.

    A clip's moving cells weigh less the more there are, so that large figures do not drown small ones.
    """
    kind = functional.cross_entropy(logits[0], targets[:, 0], _kind_weights().to(logits[0]))
    moves = (targets[:, 0] != STILL).to(logits[0])
    weights = moves / moves.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1).sqrt()
    weights = weights / weights.sum().clamp(min=1)
    named = {"kind": kind}
    for index, name in enumerate(NAMES[1:], start=1):
        entropies = functional.cross_entropy(logits[index], targets[:, index], reduction="none")
        named[name] = (entropies * weights).sum()
    return named


def accuracies(logits: tuple[Tensor, ...], targets: Tensor) -> dict[str, float]:
    """Share of the moving cells whose class is named rightly, and of all cells rightly said to move or not."""
    moves = targets[:, 0] != STILL
    found = {"moves": ((logits[0].argmax(dim=1) != STILL) == moves).float().mean().item()}
    for index, name in enumerate(NAMES):
        found[name] = (logits[index].argmax(dim=1) == targets[:, index])[moves].float().mean().item()
    return found


def _kind_weights() -> Tensor:
    return torch.tensor([STILL_WEIGHT] + [1.0] * (READOUT[0] - 1))
