"""The SSRL network (Fig. 2): PSR → MPA → VTR → snippet classifier.

    scale 1 (B, T, C, D) ──────────────────────────────────┐
    scale 2 (B, T, 6, D) ── PSR ── MPA ── (B, T, D) ────────┤
    scale 3 (B, T, 15, D) ─ PSR ── MPA ── (B, T, D) ────────┼─ sum ── VTR ── classifier ──▶ scores (B, T)
    scale 4 (B, T, 28, D) ─ PSR ── MPA ── (B, T, D) ────────┘

Shapes: B videos, T snippets, C crops of the whole frame (1, or 10 in released features), N patches, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssrl.errors import UserError
from ssrl.model.aggregation import PatchAggregation
from ssrl.model.config import WHOLE_FRAME, ModelConfig
from ssrl.model.norm import Division, VideoDropout
from ssrl.model.relation import RelationNetwork

CLASSIFIER_WIDTHS = (512, 128)


@dataclass(frozen=True)
class Output:
    """The network's output for B videos of T snippets."""

    scores: Tensor  # (B, T) in 0..1, mean over crops
    features: Tensor  # (B, C, T, D), φ'' of eq. 7; with dropout in training
    crop_scores: Tensor  # (B, C, T)

    @property
    def magnitudes(self) -> Tensor:
        """(B, T): L2 norm of the snippet features, mean over crops."""
        norms: Tensor = self.features.norm(dim=-1)  # (B, C, T)
        return norms.mean(dim=1)


class Standardize(nn.Module):
    """(x - mean) / std, with statistics of the training videos per feature and scale."""

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
        self.dropout = VideoDropout(dropout)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sigmoid()

    def logits(self, x: Tensor) -> Tensor:
        """(..., D) → (...)."""
        hidden = self.dropout(self.fc1(x).relu())
        hidden = self.dropout(self.fc2(hidden).relu())
        logits: Tensor = self.fc3(hidden)
        return logits.squeeze(-1)


def _cast_at_once(x: Tensor) -> Tensor:
    """Under autocast, cast to its type here rather than in every layer."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if kind != "meta" and torch.is_autocast_enabled(kind) else x


def draw_kept_scales(num_videos: int, num_scales: int, dropout: float) -> Tensor:
    """Draw which scales each video keeps, at least one: (num_videos, num_scales) booleans.

    Without scale dropout, the earlier scales leave a new branch few training errors, and it learns noise.
    """
    kept = torch.rand(num_videos, num_scales) >= dropout
    fallback = torch.randint(num_scales, (num_videos,))
    return kept | (~kept.any(dim=1, keepdim=True) & (torch.arange(num_scales) == fallback[:, None]))


class SSRL(nn.Module):
    """The whole network. `forward` takes one tensor per scale: (B, T, C, D) for scale 1, (B, T, N_r, D) for others."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.division: Division | None = None  # None: all videos of a batch are at hand
        D = config.feature_dim
        scales = config.patch_scales
        self.standardize = nn.ModuleDict({str(r): Standardize(D) for r in config.scales if config.standardize})
        self.psr = nn.ModuleDict(self._make_psr())
        self.mpa = nn.ModuleDict({str(r): PatchAggregation(D, config.branches[r]) for r in scales})
        self.vtr = RelationNetwork(D, config.vtr)
        self.dropout = VideoDropout(config.dropout)
        self.classifier = Classifier(D, config.dropout)

    def _make_psr(self) -> dict[str, nn.Module]:
        config = self.config
        if config.psr is None or not config.patch_scales:
            return {}
        if config.share_psr:
            return {"shared": RelationNetwork(config.feature_dim, config.psr)}
        return {str(r): RelationNetwork(config.feature_dim, config.psr) for r in config.patch_scales}

    def forward(self, scales: Mapping[int, Tensor]) -> Output:
        return self.relate(self.embed(scales))

    def embed(self, scales: Mapping[int, Tensor], previous: Tensor | None = None) -> tuple[Tensor]:
        """What each snippet is by itself: (B, T, C, D). Long videos can be embedded in parts. With `previous`, the sum
        over some scales (B, C, T, D), `scales` holds the others.
        """
        given = {scale: scales[scale] for scale in self.config.scales} if previous is None else scales
        return (self.aggregate(given, previous).transpose(1, 2),)

    def relate(self, embedded: Sequence[Tensor]) -> Output:
        """Relate and classify the snippets of whole videos."""
        snippets = embedded[0].transpose(1, 2)
        B, C, T, D = snippets.shape
        related = self.vtr(snippets.reshape(B * C, T, D))
        features = self.dropout(related)
        crop_scores = self.classifier(features).view(B, C, T)
        return Output(crop_scores.mean(dim=1), features.view(B, C, T, D), crop_scores)

    def logits(self, scales: Mapping[int, Tensor]) -> Tensor:
        """(B, T): the scores before the sigmoid, mean over crops. They do not saturate, so gradients do not vanish."""
        return self.relate_logits(self.embed(scales))

    def relate_logits(self, embedded: Sequence[Tensor]) -> Tensor:
        """Like `logits`, of what `embed` gave."""
        snippets = embedded[0].transpose(1, 2)
        B, C, T, D = snippets.shape
        related = self.vtr(snippets.reshape(B * C, T, D))
        return self.classifier.logits(related).view(B, C, T).mean(dim=1)

    def baseline(self, scale: int) -> Tensor:
        """The uninformative feature (D,): the mean of the training videos, or zero without standardization."""
        if not self.config.standardize:
            return torch.zeros(self.config.feature_dim)
        return self.standardize[str(scale)].get_buffer("mean")

    def aggregate(self, scales: Mapping[int, Tensor], previous: Tensor | None = None) -> Tensor:
        """Sum over the given scales and `previous`, φ' of Sect. 3.3: (B, C, T, D). Patch branches are added to each
        crop.
        """
        given = [scale for scale in self.config.scales if scale in scales]
        earlier = [] if previous is None else [previous]
        kept = self._draw_kept_scales(len(scales[given[0]]), len(earlier) + len(given))
        terms = [x if kept is None else x * self._take(kept)[:, :1, None, None].to(x) for x in earlier]
        for i, scale in enumerate(given, len(earlier)):
            x = self._standardize(scale, scales)
            terms.append(self._reduce(scale, x) if kept is None else self._reduce_kept(scale, x, kept[:, i]))
        return torch.stack(torch.broadcast_tensors(*terms)).sum(dim=0)

    def divide(self, division: Division) -> None:
        """Take the videos of the next forward for this part of a batch."""
        self.division = division
        for module in self.modules():
            if isinstance(module, VideoDropout):
                module.division = division

    def freeze(self, scales: Sequence[int]) -> None:
        """Leave the branches of some scales out of training."""
        for modules in (self.psr, self.mpa):
            for scale in scales:
                if str(scale) in modules:
                    modules[str(scale)].requires_grad_(False)

    @property
    def has_attention(self) -> bool:
        """Whether PSR has attention over patches."""
        return self.config.psr is not None and self.config.psr.non_local and bool(self.config.patch_scales)

    def attention(self, scale: int, x: Tensor) -> Tensor:
        """The attention map M of a scale's PSR (Sect. 4.5): (B, T, N, D) → (B, T, N, N)."""
        network = self._find_psr(scale)
        if network is None or not self.has_attention:
            raise UserError("this network has no attention over patches; use --where contribution")
        B, T, N, D = x.shape
        standardized = self._standardize(scale, {scale: x})
        return network.attention(standardized.reshape(B * T, N, D)).view(B, T, N, N)

    def _draw_kept_scales(self, num_videos: int, num_scales: int) -> Tensor | None:
        """Draw the scales that each video of the whole batch keeps under scale dropout; None: all scales."""
        if not (self.training and self.config.scale_dropout):
            return None
        total = num_videos if self.division is None else self.division.total
        return draw_kept_scales(total, num_scales, self.config.scale_dropout)

    def _take(self, whole: Tensor) -> Tensor:
        """Of a value per video of the batch, those of the videos at hand."""
        return whole if self.division is None else self.division.take(whole)

    def _reduce(self, scale: int, x: Tensor) -> Tensor:
        """Compute one scale's term of φ': (B, C, T, D), C = 1 for patches."""
        if scale == WHOLE_FRAME:
            return x.transpose(1, 2)
        B, T, N, D = x.shape
        patches = _cast_at_once(x.reshape(B * T, N, D))
        psr = self._find_psr(scale)
        if psr is not None:
            patches = psr(patches)
        reduced: Tensor = self.mpa[str(scale)](patches)
        return reduced.view(B, 1, T, D)

    def _reduce_kept(self, scale: int, x: Tensor, kept: Tensor) -> Tensor:
        """Like `_reduce`, but only for videos that keep this scale; zero for others. Processes that share a batch take
        part, with no video at least, where any of them does.
        """
        B, T, N, D = x.shape
        indices = self._take(kept).nonzero().flatten().to(x.device)
        C = N if scale == WHOLE_FRAME else 1
        zeros = x.new_zeros(B, C, T, D)
        return zeros.index_copy(0, indices, self._reduce(scale, x[indices]).to(x)) if kept.any() else zeros

    def _find_psr(self, scale: int) -> RelationNetwork | None:
        name = "shared" if self.config.share_psr else str(scale)
        if name not in self.psr:
            return None
        network = self.psr[name]
        assert isinstance(network, RelationNetwork)
        return network

    def _standardize(self, scale: int, scales: Mapping[int, Tensor]) -> Tensor:
        x = scales[scale]
        if x.shape[-1] != self.config.feature_dim:
            raise UserError(
                f"the features have D = {x.shape[-1]}, but the network takes D = {self.config.feature_dim}; "
                f"use features from the encoder that it was trained on"
            )
        return self.standardize[str(scale)](x) if self.config.standardize else x
