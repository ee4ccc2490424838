"""Where the training videos lie in the space of pooled features, to notice footage that is unlike them.

A video's distance is that of its typical snippet (the median) from the mean of all training snippets, in units of their
deviation along the principal components of most variance (Mahalanobis). Anomalies are short, so the median hardly
moves with them.

Shapes: T snippets, N patches, D features, F pooled features, K components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrl.model.blend import pool


@dataclass(frozen=True)
class Domain:
    """The training videos as a point and its surroundings."""

    mean: Mapping[int, Tensor]  # scale → (F,)
    projection: Mapping[int, Tensor]  # scale → (F, K), to components of unit variance
    limit: float  # the distance within which 90 % of the training videos lie, each measured without its fold

    def project(self, features: Mapping[int, Tensor]) -> Tensor:
        """Snippets, one tensor (T, N, D) per scale, as (T, K) coordinates."""
        parts = [(pool(features[scale], scale) - mean) @ self.projection[scale] for scale, mean in self.mean.items()]
        return torch.stack(parts).sum(dim=0)

    def measure(self, coordinates: Tensor) -> float:
        """The distance of a video's snippets (T, K), as a multiple of the limit: above 1 is outside."""
        return measure_distance(coordinates) / self.limit


def measure_distance(coordinates: Tensor) -> float:
    """Of snippets (T, K) in components of unit variance."""
    return float(coordinates.median(dim=0).values.square().mean().sqrt())
