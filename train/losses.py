"""The losses of Sect. 3.5, equations 7 to 10.

Shapes: B abnormal (or normal) videos, C crops, T segments, k selected segments, D features.
Video i of the abnormal half and video i of the normal half are a pair of eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ssrl.config import LossConfig
from ssrl.model.network import Output

SCORE_FLOOR = 1e-6  # keeps the logarithms of eq. 9 finite


@dataclass(frozen=True)
class Losses:
    """The terms of eq. 10, weighted; `total` is their sum. A blend has the first alone."""

    classification: Tensor
    magnitude: Tensor | None = None
    sparsity: Tensor | None = None
    smoothness: Tensor | None = None

    @property
    def terms(self) -> dict[str, Tensor]:
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: term for name, term in every.items() if term is not None}

    @property
    def total(self) -> Tensor:
        first, *rest = self.terms.values()
        return sum(rest, first)

    @cached_property
    def floats(self) -> dict[str, float]:
        """The terms and their total, in one transfer from a GPU."""
        terms = {**self.terms, "total": self.total}
        return dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))

    def __add__(self, other: Losses) -> Losses:
        """Of parts of a batch, which have the same terms."""
        return Losses(**{name: term + other.terms[name] for name, term in self.terms.items()})

    def scale(self, share: float) -> Losses:
        return Losses(**{name: share * term for name, term in self.terms.items()})

    def detach(self) -> Losses:
        return Losses(**{name: term.detach() for name, term in self.terms.items()})

    def to_json(self) -> dict[str, float]:
        """To six digits."""
        return {name: float(f"{value:.6g}") for name, value in self.floats.items()}


def compute_losses(abnormal: Output, normal: Output, config: LossConfig, training: bool = True) -> Losses:
    """Eq. 10 for equally many abnormal and normal videos."""
    top_abnormal = select_top_k(abnormal.magnitudes, config, training)  # (B, k)
    top_normal = select_top_k(normal.magnitudes, config, training)
    abnormal_features, normal_features = _gather(abnormal, top_abnormal), _gather(normal, top_normal)
    return Losses(
        _compute_classification(abnormal.scores.gather(1, top_abnormal), normal.scores.gather(1, top_normal), config),
        config.magnitude_weight * _compute_magnitude(abnormal_features, normal_features, config),
        config.sparsity_weight * _compute_sparsity(abnormal.scores, config),
        config.smoothness_weight * _compute_smoothness(abnormal.scores, config),
    )


def compute_balanced_loss(
    logits: Tensor, labels: Tensor, top: int | None = None, weights: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy of the segments' logits (B, T) against their videos' labels (B,), over all segments or the
    `top` highest; abnormal and normal videos weigh the same. `weights` (B,) of 0 leave out videos.
    """
    if top is not None:
        logits = logits.topk(min(top, logits.shape[1]), dim=1).values
    losses = F.binary_cross_entropy_with_logits(logits, labels[:, None].expand_as(logits), reduction="none").mean(dim=1)
    weights = torch.ones_like(labels) if weights is None else weights
    each = [(losses * kind).sum() / kind.sum().clamp(min=1) for kind in (labels * weights, (1 - labels) * weights)]
    return (each[0] + each[1]) / 2


def select_top_k(magnitudes: Tensor, config: LossConfig, training: bool = True) -> Tensor:
    """The indices Ω_k of eq. 7: (B, T) magnitudes → (B, k)."""
    T = magnitudes.shape[1]
    k = config.num_selected if config.num_selected is not None else max(1, T // 10)
    mask = F.dropout(torch.ones_like(magnitudes), config.selection_dropout, training)
    return (magnitudes * mask).topk(min(k, T), dim=1).indices


def _gather(output: Output, selected: Tensor) -> Tensor:
    """Gather the features of the selected segments: (B, C, k, D)."""
    B, C, T, D = output.features.shape
    index = selected[:, None, :, None].expand(-1, C, -1, D)
    return output.features.gather(2, index)


def _compute_classification(abnormal: Tensor, normal: Tensor, config: LossConfig) -> Tensor:
    """Eq. 9 for the selected scores (B, k) of each half, averaged over the videos."""
    scores = torch.cat([normal, abnormal])
    labels = torch.cat([torch.zeros_like(normal), torch.ones_like(abnormal)])
    if config.classification == "mean score":
        return F.binary_cross_entropy(scores.mean(dim=1), labels[:, 0])
    clamped = scores.clamp(SCORE_FLOOR, 1 - SCORE_FLOOR)
    return F.binary_cross_entropy(clamped, labels, reduction="none").sum(dim=1).mean()


def _compute_magnitude(abnormal: Tensor, normal: Tensor, config: LossConfig) -> Tensor:
    """Eq. 8 for the selected features (B, C, k, D) of each half."""
    if config.magnitude == "hinge":
        gap: Tensor = normal.norm(dim=-1).mean(dim=(1, 2)) - abnormal.norm(dim=-1).mean(dim=(1, 2))  # (B,)
        return (config.margin + gap).clamp(min=0).mean()
    far: Tensor = (config.margin - abnormal.mean(dim=2).norm(dim=-1)).abs()  # (B, C)
    near: Tensor = normal.mean(dim=2).norm(dim=-1)  # (B, C)
    return (far + near).square().mean()


def _compute_sparsity(scores: Tensor, config: LossConfig) -> Tensor:
    """The first constraint of eq. 10 on the scores (B, T) of abnormal videos.

    The release flattens them into one sequence of B * T scores and takes its L2 norm.
    """
    if config.regularizers == "flat batch":
        norm: Tensor = scores.norm()
        return norm
    return scores.abs().sum(dim=1).mean()


def _compute_smoothness(scores: Tensor, config: LossConfig) -> Tensor:
    """The second constraint of eq. 10 on the scores (B, T) of abnormal videos.

    In the release's flat sequence, steps between consecutive videos count too.
    """
    if config.regularizers == "flat batch":
        return scores.flatten().diff().square().sum()
    return scores.diff(dim=1).square().sum(dim=1).mean()
