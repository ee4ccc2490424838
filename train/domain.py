"""The domain of the training videos: fitted to all of them, its limit measured on videos held out in turn.

Shapes: V videos, S segments, R rows, F pooled features of all scales, K components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssrl.model.blend import Blend, Preparation
from ssrl.model.domain import Domain, join_coordinates, measure_distance
from ssrl.train.blend import EPSILON, PreparedFeatures, find_components
from ssrl.train.data import Bags

MAX_ROWS = 1024  # segments that the components are computed from, evenly from all videos
MAX_COMPONENTS = 64
KEPT_VARIANCE = 0.99
WITHIN = 0.9  # share of the training videos within the limit


@dataclass(frozen=True)
class Surroundings:
    """Of standardized pooled features."""

    mean: Tensor  # (F,)
    components: Tensor  # (F, K)
    variances: Tensor  # (K,)
    rest: float

    @property
    def projection(self) -> Tensor:
        return self.components / self.variances.sqrt()

    def measure(self, rows: Tensor) -> float:
        """The distance of a video's segments (R, F)."""
        centered = rows - self.mean
        squares = centered.square().sum(dim=1)
        return measure_distance(join_coordinates(centered @ self.projection, squares, self.variances, self.rest))


@torch.no_grad()
def fit_domain(reference: Blend, features: PreparedFeatures, bags: Bags, folds: np.ndarray) -> Domain | None:
    """Fit the domain of the training videos, in folds (V,). None if nothing can be held out, or nothing varies."""
    if folds.max() < 1:
        return None
    distances: list[float] = []
    for fold in range(folds.max() + 1):
        without = _fit(features, bags.training[folds != fold])
        if without is None:
            return None
        for index in bags.training[folds == fold]:
            distances.append(without.measure(_gather(features, np.array([index]))))
    whole = _fit(features, bags.training)
    if whole is None:
        return None
    rank = min(math.ceil(WITHIN * (len(distances) + 1)), len(distances))  # of conformal prediction
    limit = float(np.sort(distances)[rank - 1])
    if limit == 0:
        return None
    means, stds, projections, start = {}, {}, {}, 0
    for preparation in reference.preparation.values():
        assert isinstance(preparation, Preparation)
        part = slice(start, start + len(preparation.mean))
        means[preparation.scale] = (preparation.mean + whole.mean[part] * preparation.std).cpu()
        stds[preparation.scale] = preparation.std.cpu()
        projections[preparation.scale] = (whole.projection[part] / preparation.std[:, None]).cpu()
        start = part.stop
    return Domain(means, stds, projections, whole.variances.cpu(), whole.rest, limit)


def _fit(features: PreparedFeatures, indices: np.ndarray) -> Surroundings | None:
    """None if the features do not vary."""
    rows = _gather(features, np.sort(indices), MAX_ROWS)
    mean = rows.mean(dim=0)
    centered = rows - mean
    total = float(centered.square().sum() / len(rows))
    if total < EPSILON * rows.shape[1]:
        return None
    components, variances = find_components(centered, min(MAX_COMPONENTS, max(1, len(rows) - 1)))
    count = int((variances.cumsum(0) < KEPT_VARIANCE * total).sum()) + 1
    kept = variances[:count].clamp(min=EPSILON)
    rest = max(total - float(kept.sum()), (1 - KEPT_VARIANCE) * total)
    return Surroundings(mean, components[:, :count], kept, rest)


def _gather(features: PreparedFeatures, indices: np.ndarray, count: int | None = None) -> Tensor:
    """The pooled features (R, F) of all scales, of the distinct segments of some videos, at most `count` of them."""
    rows = features.find_rows(indices)
    if count is not None and len(rows) > count:
        rows = rows[torch.linspace(0, len(rows) - 1, count, device=rows.device).long()]
    return torch.cat([pooled[rows] for pooled, _ in features.prepared.scales.values()], dim=1)
