"""What of a blend is fitted rather than trained: its fixed preparation, its linear model, the spread of its logits.

Shapes: V videos, S segments, F pooled features, D features, P principal components.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ssrl.model.blend import Blend, BlendOutput, Preparation, Prepared
from ssrl.model.build import Network
from ssrl.model.recipes import linear_model
from ssrl.store.segments import SegmentView
from ssrl.train.data import Bags, Features
from ssrl.train.losses import compute_balanced_loss

MAX_PCA_PATCHES = 50_000
EPSILON = 1e-12  # of a variance
CHUNK_VIDEOS = 32  # prepared, or scored, at once
LBFGS_ITERATIONS = 60
FITTED = ("preparation.", "linear")  # what a blend's linear model consists of


class PreparedFeatures:
    """The videos of some bags as a blend prepares them, in memory: what precedes its learned weights runs once."""

    def __init__(self, network: Blend, bags: Bags, device: torch.device) -> None:
        self.device = device
        self.indices = np.sort(np.concatenate([bags.training, bags.held_out]))  # of the view, one per place
        raw = Features(bags.view, network.config.scales, device)
        self.prepared: Prepared = {}
        for start in range(0, len(self.indices), CHUNK_VIDEOS):
            with torch.no_grad():
                self._fill(start, network.prepare(raw.load(self.indices[start : start + CHUNK_VIDEOS])))

    def _fill(self, start: int, chunk: Prepared) -> None:
        for scale, parts in chunk.items():
            if scale not in self.prepared:
                pooled, patches = (part.new_empty(len(self.indices), *part.shape[1:]) for part in parts)
                self.prepared[scale] = pooled, patches
            for whole, part in zip(self.prepared[scale], parts, strict=True):
                whole[start : start + len(part)] = part

    def select(self, indices: np.ndarray) -> Prepared:
        """Of some videos of the view; without a copy where they are all there are, in their order."""
        if np.array_equal(indices, self.indices):
            return self.prepared
        places = torch.from_numpy(np.searchsorted(self.indices, indices)).to(self.device)
        return {scale: (pooled[places], patches[places]) for scale, (pooled, patches) in self.prepared.items()}

    def run(self, network: Network, indices: np.ndarray) -> BlendOutput:
        assert isinstance(network, Blend)
        return network.forward_prepared(self.select(indices))


def fit_preparation(network: Blend, bags: Bags) -> None:
    """Statistics and principal components of the training videos, scale by scale."""
    for preparation in network.preparation.values():
        assert isinstance(preparation, Preparation)
        _fit_scale(preparation, bags.view, bags.training, network.config.shrinkage)


def fit_linear(network: Blend, features: PreparedFeatures, bags: Bags) -> None:
    """Logistic regression of the video's label on every segment, both kinds of videos weighing the same, with an L2
    penalty (L-BFGS).
    """
    indices = np.sort(bags.training)
    labels = torch.from_numpy(np.isin(indices, bags.abnormal)).float().to(features.device)
    prepared = features.select(indices)
    weights = [network.linear[str(scale)] for scale in network.config.scales]
    parameters = [*weights, network.linear_bias]
    for parameter in parameters:
        parameter.data.zero_()
        parameter.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=LBFGS_ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-6, tolerance_change=1e-7
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = torch.stack([weight.square().sum() for weight in weights]).sum()
        loss = compute_balanced_loss(network.linear_logits(prepared), labels) + network.config.linear_l2 / 2 * penalty
        loss.backward()
        return loss

    optimizer.step(closure)
    for parameter in parameters:
        parameter.requires_grad_(False)


def fit_reference(network: Network, grids: Mapping[int, tuple[int, int]], bags: Bags, device: torch.device) -> Blend:
    """The linear model on the features that `network` is trained on: what a network should beat."""
    config = network.config
    reference = Blend(linear_model(config.feature_dim, config.scales, grids)).to(device)
    if isinstance(network, Blend):
        fitted = {name: value for name, value in network.state_dict().items() if name.startswith(FITTED)}
        reference.load_state_dict(fitted, strict=False)
    else:
        fit_preparation(reference, bags)
        fit_linear(reference, PreparedFeatures(reference, bags, device), bags)
    return reference.eval()


@torch.no_grad()
def measure_spread(network: Blend, features: PreparedFeatures, bags: Bags) -> Tensor:
    """(1 + M,): the standard deviation of each logit over the segments of the training videos."""
    logits = []
    for start in range(0, len(bags.training), CHUNK_VIDEOS):
        prepared = features.select(bags.training[start : start + CHUNK_VIDEOS])
        each = [network.linear_logits(prepared), *(compact(prepared) for compact in network.networks)]
        logits.append(torch.stack(each).flatten(1))
    return torch.cat(logits, dim=1).std(dim=1).clamp(min=1e-6)


def _fit_scale(preparation: Preparation, view: SegmentView, indices: np.ndarray, shrinkage: float) -> None:
    stride = max(1, len(indices) * int(np.prod(view.scales[preparation.scale].shape[1:3])) // MAX_PCA_PATCHES)
    pooled, patches, sample = Moments(), Moments(), []
    for index in indices:
        values = torch.from_numpy(np.array(view.scales[preparation.scale][index], dtype=np.float32))[None]
        pooled.add(preparation.pool(values)[0])
        flat = values.flatten(0, 2)  # (S * N, D)
        patches.add(flat)
        sample.append(flat[int(index) % stride :: stride].clone())  # a view would keep the whole video
    preparation.mean.copy_(pooled.mean)
    preparation.std.copy_(pooled.shrunken_std(shrinkage))
    preparation.patch_mean.copy_(patches.mean)
    preparation.projection.copy_(
        _find_components(torch.cat(sample), patches, shrinkage, preparation.projection.shape[1])
    )


def _find_components(sample: Tensor, patches: Moments, shrinkage: float, count: int) -> Tensor:
    """(D, P): standardize, project on the principal components of most variance, scale to unit variance over all."""
    std = patches.shrunken_std(shrinkage)
    standardized = (sample - patches.mean) / std
    _, vectors = torch.linalg.eigh(standardized.T @ standardized / len(standardized))  # rising eigenvalues
    components = vectors.flip(1)[:, :count]
    scale: Tensor = (standardized @ components).std().clamp(min=1e-6)
    projection: Tensor = components / std[:, None] / scale
    return projection


class Moments:
    """Mean and variance (F,) of features that come in parts, in double precision."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """(n, F)"""
        values = values.double()
        self._count += len(values)
        self._sum = self._sum + values.sum(dim=0)
        self._squares = self._squares + values.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self._sum / self._count).float()

    def shrunken_std(self, shrinkage: float) -> Tensor:
        """sqrt(variance + shrinkage * mean variance), so that features that hardly vary are not amplified."""
        mean = torch.as_tensor(self._sum / self._count)
        variance = (torch.as_tensor(self._squares / self._count) - mean.square()).clamp(min=0)
        return (variance + shrinkage * variance.mean() + EPSILON).sqrt().float()
