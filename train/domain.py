"""The domain of the training videos: fitted to all of them, its limit measured on videos held out in turn.

Shapes: V videos, S segments, R rows, F pooled features of all scales, K components.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ssrl.model.blend import Blend, Preparation
from ssrl.model.domain import Domain, measure_distance
from ssrl.train.blend import EPSILON, PreparedFeatures, find_components
from ssrl.train.data import Bags

MAX_ROWS = 1024  # segments that the components are computed from, evenly from all videos
MAX_COMPONENTS = 64
KEPT_VARIANCE = 0.99
WITHIN = 0.9  # share of the training videos within the limit


@torch.no_grad()
def fit_domain(reference: Blend, features: PreparedFeatures, bags: Bags, folds: np.ndarray) -> Domain | None:
    """Fit the domain of the training videos, in folds (V,). None if nothing can be held out."""
    if folds.max() < 1:
        return None
    distances: list[float] = []
    for fold in range(folds.max() + 1):
        mean, projection = _fit(features, bags.training[folds != fold])
        for index in bags.training[folds == fold]:
            distances.append(measure_distance((_gather(features, np.array([index])) - mean) @ projection))
    mean, projection = _fit(features, bags.training)
    means, projections, start = {}, {}, 0
    for preparation in reference.preparation.values():
        assert isinstance(preparation, Preparation)
        part = slice(start, start + len(preparation.mean))
        means[preparation.scale] = (preparation.mean + mean[part] * preparation.std).cpu()
        projections[preparation.scale] = (projection[part] / preparation.std[:, None]).cpu()
        start = part.stop
    rank = min(math.ceil(WITHIN * (len(distances) + 1)), len(distances))  # of conformal prediction
    return Domain(means, projections, float(np.sort(distances)[rank - 1]))


def _fit(features: PreparedFeatures, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean (F,) and projection (F, K) of standardized pooled features."""
    rows = _gather(features, np.sort(indices), MAX_ROWS)
    mean = rows.mean(dim=0)
    centered = rows - mean
    components, variances = find_components(centered, min(MAX_COMPONENTS, max(1, len(rows) - 1)))
    total = centered.square().sum() / len(rows)
    count = int((variances.cumsum(0) < KEPT_VARIANCE * total).sum()) + 1
    return mean, components[:, :count] / variances[:count].clamp(min=EPSILON).sqrt()


def _gather(features: PreparedFeatures, indices: np.ndarray, count: int | None = None) -> Tensor:
    """The pooled features (R, F) of all scales, of the distinct segments of some videos, at most `count` of them."""
    rows = features.find_rows(indices)
    if count is not None and len(rows) > count:
        rows = rows[torch.linspace(0, len(rows) - 1, count, device=rows.device).long()]
    return torch.cat([pooled[rows] for pooled, _ in features.prepared.scales.values()], dim=1)
