"""What of a blend is fitted rather than trained: its fixed preparation, its linear model, the spread of its logits.

Shapes: V videos, S segments, F pooled features, D features, P principal components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ssrl.model.blend import Blend, BlendOutput, CompactNetwork, LinearModel, Preparation, Prepared, pool
from ssrl.model.build import Network
from ssrl.store.segments import SegmentView
from ssrl.train.data import Bags
from ssrl.train.features import Features
from ssrl.train.losses import compute_balanced_loss

MAX_PCA_PATCHES = 50_000
EPSILON = 1e-12  # of a variance
MAX_VARIANCE = 1000  # times the median, counted in a mean: one wild feature does not flatten all others
CHUNK_VIDEOS = 32  # prepared, or scored, at once
CHUNK_ROWS = 32 * CHUNK_VIDEOS
LBFGS_ITERATIONS = 60


class PreparedFeatures:
    """The videos of some bags as a blend prepares them, in memory: what precedes its learned weights runs once."""

    def __init__(self, network: Blend, bags: Bags, device: torch.device) -> None:
        self.device = device
        self.indices = np.sort(np.concatenate([bags.training, bags.held_out]))  # of the view, one per place
        raw = Features(bags.view, network.config.scales, device)
        segments = bags.view.scales[network.config.scales[0]].shape[1]
        rows = np.zeros((len(self.indices), segments), dtype=np.int64)
        whole: dict[int, tuple[Tensor, Tensor]] = {}
        count = 0
        for start in range(0, len(self.indices), CHUNK_VIDEOS):
            chunk = raw.load(self.indices[start : start + CHUNK_VIDEOS]).scales
            distinct = _find_distinct(chunk)  # (B, S)
            numbers = count - 1 + distinct.flatten().cumsum(0)
            rows[start : start + len(distinct)] = numbers.view_as(distinct).cpu().numpy()
            with torch.no_grad():
                prepared = {scale: network.prepare_snippets(scale, x[distinct]) for scale, x in chunk.items()}
            for scale, each in prepared.items():
                if scale not in whole:
                    sizes = (part.new_empty(rows.size, *part.shape[1:]) for part in each)
                    whole[scale] = next(sizes), next(sizes)
                for target, part in zip(whole[scale], each, strict=True):
                    target[count : count + len(part)] = part
            count += int(distinct.sum())
        self.num_segments = segments
        self.summed: tuple[int, ...] = ()  # scales whose branches stay as they are
        self.sums: Tensor | None = None  # (M, R, W), what they add up to
        self.prepared = Prepared(
            {scale: (pooled[:count], patches[:count]) for scale, (pooled, patches) in whole.items()},
            torch.from_numpy(rows).to(device),
        )

    def select(self, indices: np.ndarray) -> Prepared:
        """Of some videos of the view; without a copy where they are all there are, in their order."""
        if np.array_equal(indices, self.indices):
            return self.prepared
        rows, places = self._find_segments(indices).unique(return_inverse=True)
        scales = {scale: (pooled[rows], patches[rows]) for scale, (pooled, patches) in self.prepared.scales.items()}
        return Prepared(scales, places)

    def select_for(self, member: int, indices: np.ndarray) -> Prepared:
        """What one network of the blend trains on: without the scales that were frozen, but with their sum."""
        if self.sums is None:
            return self.select(indices)
        rows, places = self._find_segments(indices).unique(return_inverse=True)
        scales = {
            scale: (pooled[rows], patches[rows])
            for scale, (pooled, patches) in self.prepared.scales.items()
            if scale not in self.summed
        }
        return Prepared(scales, places, self.sums[member, rows])

    @torch.no_grad()
    def sum_scales(self, network: Blend, scales: Sequence[int]) -> None:
        """Compute once what the branches of some scales add up to, for each network of the blend."""
        count = len(next(iter(self.prepared.scales.values()))[0])
        self.summed = tuple(scales)
        self.sums = torch.empty(len(network.networks), count, network.config.width, device=self.device)
        for start in range(0, count, CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            whole = {scale: self.prepared.scales[scale] for scale in scales}
            parts = {scale: (pooled[rows], patches[rows]) for scale, (pooled, patches) in whole.items()}
            for sums, member in zip(self.sums, network.eval().networks, strict=True):
                assert isinstance(member, CompactNetwork)
                sums[rows] = member.aggregate(Prepared(parts, self.prepared.snippets))

    def find_rows(self, indices: np.ndarray) -> Tensor:
        """The rows of the distinct segments of some videos."""
        rows: Tensor = self._find_segments(indices).unique()
        return rows

    def _find_segments(self, indices: np.ndarray) -> Tensor:
        """(V, S)"""
        places = torch.from_numpy(np.searchsorted(self.indices, indices)).to(self.device)
        segments: Tensor = self.prepared.snippets[places]
        return segments

    def run(self, network: Network, indices: np.ndarray) -> BlendOutput:
        assert isinstance(network, Blend)
        return network.forward_prepared(self.select(indices))


def _find_distinct(scales: Mapping[int, Tensor]) -> Tensor:
    """(B, S): whether a segment differs from the one before; those of videos with fewer snippets repeat."""
    changes = [(x[:, 1:] != x[:, :-1]).flatten(2).any(dim=2) for x in scales.values()]
    changed = torch.stack(changes).any(dim=0)
    return torch.cat([torch.ones_like(changed[:, :1]), changed], dim=1)


def fit_preparation(network: Blend, bags: Bags) -> None:
    """Statistics and principal components of the training videos, scale by scale."""
    for preparation in network.preparation.values():
        assert isinstance(preparation, Preparation)
        _fit_scale(preparation, bags.view, bags.training, network.config.shrinkage)


def fit_linear(network: Blend, features: PreparedFeatures, bags: Bags) -> None:
    """Fit the blend's linear model to all training videos."""
    indices = np.sort(bags.training)
    labels = torch.from_numpy(np.isin(indices, bags.abnormal)).float().to(features.device)
    network.set_linear(fit_logistic(features.select(indices), labels, network.config.linear_l2))


def fit_logistic(prepared: Prepared, labels: Tensor, l2: float, seen: Tensor | None = None) -> LinearModel:
    """Logistic regression of the video's label (V,) on every segment, both kinds of videos weighing the same, with an
    L2 penalty (L-BFGS). `seen` (V,) of 0 leaves out videos.
    """
    weights = {
        scale: torch.zeros(pooled.shape[1], device=pooled.device, requires_grad=True)
        for scale, (pooled, _) in prepared.scales.items()
    }
    bias = torch.zeros((), device=labels.device, requires_grad=True)
    model = LinearModel(weights, bias)
    optimizer = torch.optim.LBFGS(
        [*weights.values(), bias],
        max_iter=LBFGS_ITERATIONS,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=1e-7,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = torch.stack([weight.square().sum() for weight in weights.values()]).sum()
        loss = compute_balanced_loss(model.logits(prepared), labels, weights=seen) + l2 / 2 * penalty
        loss.backward()
        return loss

    optimizer.step(closure)
    return LinearModel({scale: weight.detach() for scale, weight in weights.items()}, bias.detach())


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
        values = torch.from_numpy(np.array(view.scales[preparation.scale][index], dtype=np.float32))
        pooled.add(pool(values, preparation.scale))
        flat = values.flatten(0, 1)  # (S * N, D)
        patches.add(flat)
        sample.append(flat[int(index) % stride :: stride].clone())  # a view would keep the whole video
    preparation.mean.copy_(pooled.mean)
    preparation.std.copy_(pooled.shrunken_std(shrinkage))
    preparation.patch_mean.copy_(patches.mean)
    preparation.projection.copy_(_project(torch.cat(sample), patches, shrinkage, preparation.projection.shape[1]))


def find_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The principal components (F, K) of most variance of centered rows (R, F), and their variances (K,); K is `count`,
    or fewer if the rows span less. Solved in the smaller of the two dimensions.
    """
    by_rows = len(rows) < rows.shape[1]
    products = rows @ rows.T if by_rows else rows.T @ rows
    values, vectors = torch.linalg.eigh(products / len(rows))  # rising
    values, vectors = values.flip(0)[:count].clamp(min=0), vectors.flip(1)[:, :count]
    if not by_rows:
        return vectors, values
    spanned = values > 1e-6 * values[0]
    values, vectors = values[spanned], vectors[:, spanned]
    return rows.T @ vectors / (len(rows) * values).sqrt(), values


def _project(sample: Tensor, patches: Moments, shrinkage: float, count: int) -> Tensor:
    """(D, P): standardize, project on the principal components of most variance, scale to unit variance over all."""
    std = patches.shrunken_std(shrinkage)
    standardized = (sample - patches.mean) / std
    components = torch.zeros(len(std), count, device=std.device)
    found, _ = find_components(standardized, count)
    components[:, : found.shape[1]] = found
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
        varying = variance[variance > 0]
        usual = variance.clamp(max=MAX_VARIANCE * varying.median()) if len(varying) else variance
        return (variance + shrinkage * usual.mean() + EPSILON).sqrt().float()
