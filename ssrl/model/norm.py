"""Batch normalization and dropout, of a batch that several processes may hold parts of.

Divided or not, a batch gives the same result: statistics are those of all its rows, and dropout draws for all of its
videos, in the same order, and takes the mask of those at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Division:
    """The part of a batch that is at hand."""

    videos: Tensor  # (b,) their places in the batch
    total: int  # videos of the batch

    def take(self, whole: Tensor) -> Tensor:
        """(total * k, ...) → (b * k, ...): each video has k rows."""
        held: Tensor = whole.unflatten(0, (self.total, -1))[self.videos]
        return held.flatten(0, 1)


class Norm(nn.BatchNorm1d):
    """Batch normalization of (..., C) over all but the last dimension, and over processes, whose sum is `add_up`."""

    add_up: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        if self.add_up is None or not self.training:
            return super().forward(rows).view_as(x)
        return self._normalize(rows.float(), self.add_up).to(x.dtype).view_as(x)

    def _normalize(self, rows: Tensor, add_up: Callable[[Tensor], Tensor]) -> Tensor:
        count = add_up(rows.new_tensor(float(len(rows))))
        mean = add_up(rows.sum(dim=0)) / count
        centered = rows - mean
        variance = add_up(centered.square().sum(dim=0)) / count
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return centered * (variance + self.eps).rsqrt() * self.weight + self.bias


class VideoDropout(nn.Dropout):
    """Dropout of (b * k, ...), k rows per video."""

    division: Division | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.division is None or not self.training:
            return super().forward(x)
        rows = len(x) // len(self.division.videos) * self.division.total
        mask = F.dropout(x.new_ones(rows, *x.shape[1:]), self.p)
        return x * self.division.take(mask)
