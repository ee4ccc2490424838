"""The blend: a linear model and compact SSRL networks, on the same features, whose logits are averaged.

    scale r (B, T, N_r, D) ─┬─ mean and max over patches ── standardize ──────────────────┬── linear model ── logit
                            │                                                             └── W ─┐
                            └─ standardize ── P principal components ── PSR ── mean and max ─ W ─┤
                                                                     └─ 3x3 convolution ───── W ─┴─ sum over scales
                                                                           ── VTR ── classifier ── logit

The bottlenecks (W, P) and the shortcut beside PSR and MPA keep the networks from overfitting a few videos; what PSR and
the convolution add starts at zero. Whatever precedes the first learned weight is computed once per video (`prepare`).
Each network is trained on all segments of a video, which suits long anomalies, or on its top k, which suits short ones.

Shapes: B videos, T snippets, R distinct snippets, N patches (crops at scale 1), D features, F pooled features,
M networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssrl.errors import UserError
from ssrl.model.config import WHOLE_FRAME, BlendConfig
from ssrl.model.relation import RelationNetwork


@dataclass(frozen=True)
class Prepared:
    """Some videos after `Blend.prepare`. A snippet that is repeated, as in short videos, is kept once."""

    scales: Mapping[int, tuple[Tensor, Tensor]]  # scale → pooled (R, F), patches (R, N, P)
    snippets: Tensor  # (B, T) rows of the above
    previous: Tensor | None = None  # (R, W), the sum over scales that are left out


@dataclass(frozen=True)
class LinearModel:
    """Logistic regression on pooled features."""

    weights: Mapping[int, Tensor]  # scale → (F,)
    bias: Tensor

    def logits(self, prepared: Prepared) -> Tensor:
        """(B, T)"""
        terms = [prepared.scales[scale][0] @ weight for scale, weight in self.weights.items()]
        return torch.stack(terms).sum(dim=0)[prepared.snippets] + self.bias


@dataclass(frozen=True)
class BlendOutput:
    """The outputs for B videos of T snippets."""

    scores: Tensor  # (B, T) in 0..1
    logits: Tensor  # (B, T)


def pool(x: Tensor, scale: int) -> Tensor:
    """(R, N, D) → (R, F): mean over crops, or mean and max over patches."""
    return x.mean(dim=1) if scale == WHOLE_FRAME else torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=-1)


class Preparation(nn.Module):
    """The fixed part of one scale: statistics and principal components of the training videos."""

    def __init__(self, scale: int, config: BlendConfig) -> None:
        super().__init__()
        D, F = config.feature_dim, config.pooled_dim(scale)
        self.scale = scale
        self.register_buffer("mean", torch.zeros(F))
        self.register_buffer("std", torch.ones(F))
        self.register_buffer("patch_mean", torch.zeros(D))
        self.register_buffer("projection", torch.zeros(D, config.patch_dim))
        self.mean: Tensor
        self.std: Tensor
        self.patch_mean: Tensor
        self.projection: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = (pool(x, self.scale) - self.mean) / self.std
        if self.scale == WHOLE_FRAME:
            return pooled, pooled.new_empty(len(pooled), 0, self.projection.shape[1])
        return pooled, (x - self.patch_mean) @ self.projection


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own where it is given one, so that networks can train side by side."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return x
        kept = 1 - self.probability
        mask = torch.rand(x.shape, generator=self.generator, device=x.device) < kept
        return x * mask / kept


class Branch(nn.Module):
    """One scale's term of the snippet feature: (R, F), (R, N, P) → (R, W)."""

    def __init__(self, scale: int, config: BlendConfig, psr: RelationNetwork | None) -> None:
        super().__init__()
        W, P = config.width, config.patch_dim
        self.grid = config.grids[scale]
        self.input_dropout = Dropout(config.input_dropout)
        self.shortcut = nn.Linear(config.pooled_dim(scale), W, bias=False)
        self.psr = psr
        self.has_patches = scale != WHOLE_FRAME
        if not self.has_patches:
            return
        if psr is not None:
            self.related = _zero_linear(2 * P, W)
        self.has_convolution = config.convolution
        if config.convolution:
            self.conv = nn.Conv2d(P, P, 3, stride=2, padding=1)
            rows, cols = ((n + 1) // 2 for n in self.grid)
            self.convolved = _zero_linear(P * rows * cols, W)

    def forward(self, pooled: Tensor, patches: Tensor) -> Tensor:
        features: Tensor = self.shortcut(self.input_dropout(pooled))
        if not self.has_patches:
            return features
        x = patches
        if self.psr is not None:
            x = self.psr(x)
            pooled_patches = torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=-1)
            features = features + self.related(self.input_dropout(pooled_patches))
        if self.has_convolution:
            convolved = self.conv(x.transpose(1, 2).unflatten(2, self.grid)).relu()
            features = features + self.convolved(self.input_dropout(convolved.flatten(1)))
        return features


class CompactNetwork(nn.Module):
    """PSR → MPA → VTR → classifier at width W: prepared features → logits (B, T)."""

    def __init__(self, config: BlendConfig) -> None:
        super().__init__()
        shared = self._make_psr(config) if config.share_psr else None
        self.branches = nn.ModuleDict(
            {
                str(r): Branch(r, config, None if r == WHOLE_FRAME else shared or self._make_psr(config))
                for r in config.scales
            }
        )
        self.vtr = nn.Identity() if config.vtr is None else RelationNetwork(config.width, config.vtr)
        self.dropout = Dropout(config.dropout)
        self.fc1 = nn.Linear(config.width, config.head_width)
        self.fc2 = nn.Linear(config.head_width, 1)
        nn.init.zeros_(self.fc2.bias)

    @staticmethod
    def _make_psr(config: BlendConfig) -> RelationNetwork | None:
        """PSR starts as the identity."""
        if config.psr is None:
            return None
        network = RelationNetwork(config.patch_dim, config.psr)
        norm = network.conv_5[2]
        assert isinstance(norm, nn.BatchNorm1d)
        nn.init.zeros_(norm.weight)
        return network

    def seed_dropout(self, seed: int) -> None:
        generator = torch.Generator(self.fc1.weight.device).manual_seed(seed)
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    def forward(self, prepared: Prepared) -> Tensor:
        return self.relate(self.embed(prepared))

    def embed(self, prepared: Prepared) -> Tensor:
        """What each snippet is by itself: (B, T, W)."""
        features = self.aggregate(prepared)
        return features[prepared.snippets]

    def aggregate(self, prepared: Prepared) -> Tensor:
        """Sum over the given scales and what precedes them: (R, W)."""
        terms = [] if prepared.previous is None else [prepared.previous]
        terms += [self.branches[str(scale)](*each) for scale, each in prepared.scales.items()]
        return sum(terms[1:], terms[0])

    def relate(self, features: Tensor) -> Tensor:
        """(B, T, W) → logits (B, T)"""
        hidden = self.dropout(self.vtr(features))
        logits: Tensor = self.fc2(self.dropout(self.fc1(hidden).relu())).squeeze(-1)
        return logits


class Blend(nn.Module):
    """The linear model and the networks. `forward` takes one tensor (B, T, N_r, D) per scale."""

    def __init__(self, config: BlendConfig) -> None:
        super().__init__()
        self.config = config
        self.preparation = nn.ModuleDict({str(r): Preparation(r, config) for r in config.scales})
        self.networks = nn.ModuleList(CompactNetwork(config) for _ in config.losses)
        self.linear = nn.ParameterDict(
            {str(r): nn.Parameter(torch.zeros(config.pooled_dim(r)), requires_grad=False) for r in config.scales}
        )
        self.linear_bias = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.register_buffer("spread", torch.ones(1 + len(config.losses)))  # std of each logit over the training videos
        self.register_buffer("blend_weights", torch.tensor(config.equal_weights))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))  # slope and offset of the blended logits
        self.calibration: Tensor
        self.spread: Tensor
        self.blend_weights: Tensor

    def prepare(self, scales: Mapping[int, Tensor]) -> Prepared:
        """Compute what no learned weight precedes: the same for every step of training."""
        x = {scale: scales[scale] for scale in self.config.scales}
        B, T = next(iter(x.values())).shape[:2]
        rows = torch.arange(B * T, device=self.spread.device).view(B, T)
        return Prepared({scale: self.prepare_snippets(scale, each.flatten(0, 1)) for scale, each in x.items()}, rows)

    def forward(self, scales: Mapping[int, Tensor]) -> BlendOutput:
        return self.forward_prepared(self.prepare(scales))

    def forward_prepared(self, prepared: Prepared) -> BlendOutput:
        return self.relate(self._embed(prepared))

    def embed(self, scales: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """What each snippet is by itself to each member that has weight: (B, T) or (B, T, W). Long videos can be
        embedded in parts.
        """
        return self._embed(self.prepare(scales))

    def _embed(self, prepared: Prepared) -> tuple[Tensor, ...]:
        return tuple(self.networks[i - 1].embed(prepared) if i else self.linear_logits(prepared) for i in self._used)  # type: ignore[operator]

    def relate(self, embedded: Sequence[Tensor]) -> BlendOutput:
        """Relate the snippets of whole videos. Add up the members' logits, each in units of its spread over the
        training videos, and calibrate the sum.
        """
        weights = self.blend_weights / self.spread
        logits = [self.networks[i - 1].relate(x) if i else x for i, x in zip(self._used, embedded, strict=True)]  # type: ignore[operator]
        total = torch.stack([weights[i] * each for i, each in zip(self._used, logits, strict=True)]).sum(dim=0)
        calibrated = self.calibration[0] * total + self.calibration[1]
        return BlendOutput(calibrated.sigmoid(), calibrated)

    @property
    def _used(self) -> Sequence[int]:
        """The members with weight: 0 is the linear model. Others do not run."""
        weights = self.blend_weights
        return range(len(weights)) if weights.is_meta else weights.nonzero().flatten().tolist()

    def linear_logits(self, prepared: Prepared) -> Tensor:
        """(B, T)"""
        weights = {scale: self.linear[str(scale)] for scale in self.config.scales}
        return LinearModel(weights, self.linear_bias).logits(prepared)

    def set_linear(self, model: LinearModel) -> None:
        for scale, weight in model.weights.items():
            self.linear[str(scale)].data.copy_(weight)
        self.linear_bias.data.copy_(model.bias)

    def freeze(self, scales: Sequence[int]) -> None:
        """Leave the branches of some scales out of training."""
        for network in self.networks:
            assert isinstance(network, CompactNetwork)
            for scale in scales:
                network.branches[str(scale)].requires_grad_(False)

    def logits(self, scales: Mapping[int, Tensor]) -> Tensor:
        """(B, T): the scores before the sigmoid."""
        return self.forward(scales).logits

    def relate_logits(self, embedded: Sequence[Tensor]) -> Tensor:
        """Like `logits`, of what `embed` gave."""
        return self.relate(embedded).logits

    def baseline(self, scale: int) -> Tensor:
        """The uninformative feature (D,): the mean of the training videos."""
        preparation = self.preparation[str(scale)]
        assert isinstance(preparation, Preparation)
        return preparation.mean if scale == WHOLE_FRAME else preparation.patch_mean

    @property
    def has_attention(self) -> bool:
        """Whether PSR has attention over patches."""
        psr = self.config.psr
        return bool(psr and psr.non_local and self.config.losses and self.config.patch_scales)

    def attention(self, scale: int, x: Tensor) -> Tensor:
        """The attention map of a scale's PSR, mean over the networks: (B, T, N, D) → (B, T, N, N)."""
        if not self.has_attention:
            raise UserError("this model has no attention over patches; use --where contribution")
        B, T, N, _ = x.shape
        patches = self.prepare_snippets(scale, x.flatten(0, 1))[1]
        maps = [network.branches[str(scale)].psr.attention(patches) for network in self.networks]  # type: ignore[union-attr, index]
        return torch.stack(maps).mean(dim=0).view(B, T, N, N)

    def prepare_snippets(self, scale: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, N, D) → pooled (R, F), patches (R, N, P)."""
        if x.shape[-1] != self.config.feature_dim:
            raise UserError(
                f"the features have D = {x.shape[-1]}, but the network takes D = {self.config.feature_dim}; "
                f"use features from the encoder that it was trained on"
            )
        pooled, patches = self.preparation[str(scale)](x)
        return pooled, patches


def _zero_linear(in_features: int, out_features: int) -> nn.Linear:
    linear = nn.Linear(in_features, out_features, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
