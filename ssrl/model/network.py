"""The SSRL network (Fig. 2): PSR → MPA → VTR → snippet classifier.

    scale 1 (B, T, C, D) ──────────────────────────────────┐
    scale 2 (B, T, 6, D) ── PSR ── MPA ── (B, T, D) ────────┤
    scale 3 (B, T, 15, D) ─ PSR ── MPA ── (B, T, D) ────────┼─ sum ── VTR ── classifier ──▶ scores (B, T)
    scale 4 (B, T, 28, D) ─ PSR ── MPA ── (B, T, D) ────────┘

Shapes: B videos, T snippets, C crops of the whole frame (1, or 10 in released features), N patches, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssrl.errors import UserError
from ssrl.model.aggregation import PatchAggregation
from ssrl.model.config import WHOLE_FRAME, ModelConfig
from ssrl.model.relation import RelationNetwork

CLASSIFIER_WIDTHS = (512, 128)


@dataclass(frozen=True)
class Output:
    """What the network says of B videos of T snippets."""

    scores: Tensor  # (B, T) in 0..1, mean over crops
    features: Tensor  # (B, C, T, D), the φ'' that eq. 7 measures; under dropout in training
    crop_scores: Tensor  # (B, C, T)

    @property
    def magnitudes(self) -> Tensor:
        """(B, T): L2 norm of the snippet features, mean over crops."""
        return self.features.norm(dim=-1).mean(dim=1)


class Standardize(nn.Module):
    """(x - mean) / std, with statistics of the training videos, one a feature and scale."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("std", torch.ones(feature_dim))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Classifier(nn.Module):
    """Snippet features → anomaly score: 512, 128, 1; ReLU, dropout, sigmoid (Sect. 4.2)."""

    def __init__(self, feature_dim: int, dropout: float) -> None:
        super().__init__()
        first, second = CLASSIFIER_WIDTHS
        self.fc1 = nn.Linear(feature_dim, first)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, 1)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sigmoid()

    def logits(self, x: Tensor) -> Tensor:
        """(..., D) → (...)."""
        hidden = self.dropout(self.fc1(x).relu())
        hidden = self.dropout(self.fc2(hidden).relu())
        return self.fc3(hidden).squeeze(-1)


def keep_scales(num_videos: int, num_scales: int, dropout: float) -> Tensor:
    """(num_videos, num_scales) booleans: which scales each video keeps; one at least.

    Without it, a new branch finds few training errors that the scales before it have left, and learns noise.
    """
    kept = torch.rand(num_videos, num_scales) >= dropout
    spared = torch.randint(num_scales, (num_videos,))
    return kept | (~kept.any(dim=1, keepdim=True) & (torch.arange(num_scales) == spared[:, None]))


class SSRL(nn.Module):
    """The whole network. `forward` takes one tensor a scale: (B, T, C, D) for scale 1, (B, T, N_r, D) beyond."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        D = config.feature_dim
        scales = config.patch_scales
        self.standardize = nn.ModuleDict({str(r): Standardize(D) for r in config.scales if config.standardize})
        self.psr = nn.ModuleDict(self._relation_networks())
        self.mpa = nn.ModuleDict({str(r): PatchAggregation(D, config.branches[r]) for r in scales})
        self.vtr = RelationNetwork(D, config.vtr)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifier(D, config.dropout)

    def _relation_networks(self) -> dict[str, nn.Module]:
        config = self.config
        if config.psr is None or not config.patch_scales:
            return {}
        if config.share_psr:
            return {"shared": RelationNetwork(config.feature_dim, config.psr)}
        return {str(r): RelationNetwork(config.feature_dim, config.psr) for r in config.patch_scales}

    def forward(self, scales: Mapping[int, Tensor]) -> Output:
        snippets = self.aggregate(scales)  # (B, C, T, D)
        B, C, T, D = snippets.shape
        related = self.vtr(snippets.reshape(B * C, T, D))
        features = self.dropout(related)
        crop_scores = self.classifier(features).view(B, C, T)
        return Output(crop_scores.mean(dim=1), features.view(B, C, T, D), crop_scores)

    def logits(self, scales: Mapping[int, Tensor]) -> Tensor:
        """(B, T): what the sigmoid makes scores of, mean over crops. It does not saturate, so that it has gradients."""
        snippets = self.aggregate(scales)
        B, C, T, D = snippets.shape
        related = self.vtr(snippets.reshape(B * C, T, D))
        return self.classifier.logits(related).view(B, C, T).mean(dim=1)

    def baseline(self, scale: int) -> Tensor:
        """The feature (D,) that says nothing: the mean of the training videos, or zero without standardization."""
        if not self.config.standardize:
            return torch.zeros(self.config.feature_dim)
        return self.standardize[str(scale)].get_buffer("mean")

    def aggregate(self, scales: Mapping[int, Tensor]) -> Tensor:
        """The sum over scales φ' of Sect. 3.3: (B, C, T, D). Patch branches are added to each crop."""
        kept = self._kept(len(scales[self.config.scales[0]]))
        terms = []
        for i, scale in enumerate(self.config.scales):
            x = self._standardized(scale, scales)
            terms.append(self._snippets(scale, x) if kept is None else self._snippets_of_some(scale, x, kept[:, i]))
        return torch.stack(torch.broadcast_tensors(*terms)).sum(dim=0)

    @property
    def has_attention(self) -> bool:
        """Whether there is attention over patches to look at."""
        return self.config.psr is not None and self.config.psr.non_local and bool(self.config.patch_scales)

    def attention(self, scale: int, x: Tensor) -> Tensor:
        """The attention map M of a scale's PSR (Sect. 4.5): (B, T, N, D) → (B, T, N, N)."""
        network = self._psr_of(scale)
        if network is None or not self.has_attention:
            raise UserError("this network was trained without attention over patches, so it cannot say where")
        B, T, N, D = x.shape
        standardized = self._standardized(scale, {scale: x})
        return network.attention(standardized.reshape(B * T, N, D)).view(B, T, N, N)

    def _kept(self, num_videos: int) -> Tensor | None:
        """(num_videos, number of scales) booleans under scale dropout; None: every video keeps all scales."""
        if not (self.training and self.config.scale_dropout):
            return None
        return keep_scales(num_videos, len(self.config.scales), self.config.scale_dropout)

    def _snippets(self, scale: int, x: Tensor) -> Tensor:
        """One scale's term of φ': (B, C, T, D), C = 1 for patches."""
        if scale == WHOLE_FRAME:
            return x.transpose(1, 2)
        B, T, N, D = x.shape
        patches = x.reshape(B * T, N, D)
        psr = self._psr_of(scale)
        if psr is not None:
            patches = psr(patches)
        return self.mpa[str(scale)](patches).view(B, 1, T, D)

    def _snippets_of_some(self, scale: int, x: Tensor, kept: Tensor) -> Tensor:
        """As `_snippets`, zero for the videos that do not keep this scale; those cost nothing."""
        B, T, N, D = x.shape
        rows = kept.nonzero().flatten().to(x.device)
        C = N if scale == WHOLE_FRAME else 1
        nothing = x.new_zeros(B, C, T, D)
        return nothing.index_copy(0, rows, self._snippets(scale, x[rows])) if len(rows) else nothing

    def _psr_of(self, scale: int) -> RelationNetwork | None:
        name = "shared" if self.config.share_psr else str(scale)
        if name not in self.psr:
            return None
        network = self.psr[name]
        assert isinstance(network, RelationNetwork)
        return network

    def _standardized(self, scale: int, scales: Mapping[int, Tensor]) -> Tensor:
        x = scales[scale]
        if x.shape[-1] != self.config.feature_dim:
            raise UserError(
                f"the features have D = {x.shape[-1]}, but the network takes D = {self.config.feature_dim}; "
                f"use features of the encoder that it was trained on"
            )
        return self.standardize[str(scale)](x) if self.config.standardize else x
