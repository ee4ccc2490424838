"""Where the training videos lie in the space of pooled features, to notice footage that is unlike them.

A video's distance is that of its typical segment (the median) from the mean of all training segments, in units of their
deviation along the principal components of most variance (Mahalanobis), and of what these leave over. Anomalies are
short, so the median hardly moves with them.

Shapes: T segments, N patches, D features, F pooled features, K components.
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
    std: Mapping[int, Tensor]  # scale → (F,), of the standardized features
    projection: Mapping[int, Tensor]  # scale → (F, K), to components of unit variance
    variances: Tensor  # (K,), of the components
    rest: float  # the variance that they leave over
    limit: float  # the distance within which 90 % of the training videos lie, each measured without its fold

    def project(self, features: Mapping[int, Tensor]) -> Tensor:
        """Segments, one tensor (T, N, D) per scale, as (T, K + 1) coordinates."""
        centered = {scale: pool(features[scale], scale) - mean for scale, mean in self.mean.items()}
        components = torch.stack([each @ self.projection[scale] for scale, each in centered.items()]).sum(dim=0)
        squares = torch.stack([(each / self.std[scale]).square().sum(dim=1) for scale, each in centered.items()])
        return join_coordinates(components, squares.sum(dim=0), self.variances, self.rest)

    def measure(self, coordinates: Tensor) -> float:
        """The distance of a video's segments (T, K + 1), as a multiple of the limit: above 1 is outside."""
        return measure_distance(coordinates) / self.limit


def join_coordinates(components: Tensor, squares: Tensor, variances: Tensor, rest: float) -> Tensor:
    """Components (T, K) of unit variance, and how far the rest of the standardized features, whose squares (T,) add up
    to `squares`, lies from the mean: (T, K + 1).
    """
    left_over = (squares - components.square() @ variances).clamp(min=0) / rest
    return torch.cat([components, left_over.sqrt()[:, None]], dim=1)


def measure_distance(coordinates: Tensor) -> float:
    """Of segments (T, K + 1)."""
    return float(coordinates.median(dim=0).values.square().mean().sqrt())
