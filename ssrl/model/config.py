"""The configuration of the SSRL network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ssrl.errors import UserError

Attention = Literal["softmax", "mean"]
WHOLE_FRAME = 1  # the scale without a patch branch
PAPER_GRIDS = {1: (1, 1), 2: (2, 3), 3: (3, 5), 4: (4, 7)}


@dataclass(frozen=True)
class RelationConfig:
    """The sub-networks of a relation network (Table 5), and how its attention is normalized."""

    attention: Attention = "softmax"  # eq. 1; "mean" is the release's f / N
    dilated: bool = True
    non_local: bool = True


@dataclass(frozen=True)
class AggregationConfig:
    """One branch: (rows, cols, D) → 3x3 convolution → fully connected D."""

    rows: int
    cols: int
    stride: int = 2
    padding: int = 1
    dropout: float = 0.0  # after the fully connected layer

    @property
    def conv_shape(self) -> tuple[int, int]:
        """Rows and columns after the 3x3 convolution."""
        rows, cols = ((n + 2 * self.padding - 3) // self.stride + 1 for n in (self.rows, self.cols))
        return rows, cols


@dataclass(frozen=True)
class ModelConfig:
    """The network's architecture. The defaults are the `paper` recipe at D = 2048."""

    feature_dim: int = 2048
    scales: tuple[int, ...] = (1, 2, 3, 4)
    branches: Mapping[int, AggregationConfig] = field(
        default_factory=lambda: {r: AggregationConfig(*grid) for r, grid in PAPER_GRIDS.items() if r != WHOLE_FRAME}
    )  # one per scale >= 2; those not in `scales` are ignored
    vtr: RelationConfig = RelationConfig()
    psr: RelationConfig | None = RelationConfig()  # None: without the PSR module (Table 4)
    share_psr: bool = False  # one PSR for all scales (Table 1)
    dropout: float = 0.7
    scale_dropout: float = 0.0  # probability of dropping a scale of a training video; at least one stays
    standardize: bool = True  # features to zero mean and unit variance over the training videos
    spread_to: int = 32  # shorter videos are spread over this many segments for scoring, as in training; 0: off
    segment_length: float = 1.0  # snippets per segment that longer videos are scored in; 1: each snippet by itself

    def __post_init__(self) -> None:
        if self.feature_dim % 8:
            raise UserError(f"the feature dimension must be a multiple of 8, not {self.feature_dim}")
        if not self.scales or len(set(self.scales)) < len(self.scales):
            raise UserError(f"scales must be a non-empty list without duplicates, not {list(self.scales)}")
        for scale in self.patch_scales:
            if scale not in self.branches:
                raise UserError(f"scale {scale} has no grid; allowed are {sorted(self.branches)}")
            if min(self.branches[scale].conv_shape) < 1:
                branch = self.branches[scale]
                raise UserError(f"the grid {branch.rows}x{branch.cols} of scale {scale} is too small for MPA's 3x3")

    @property
    def patch_scales(self) -> tuple[int, ...]:
        return tuple(scale for scale in self.scales if scale != WHOLE_FRAME)

    @property
    def grids(self) -> dict[int, tuple[int, int]]:
        """Rows and columns of each patch scale."""
        return {scale: (branch.rows, branch.cols) for scale, branch in self.branches.items()}

    def with_scales(self, scales: tuple[int, ...]) -> ModelConfig:
        return replace(self, scales=scales)


LINEAR_FOLDS = 5  # of a linear model's cross-validation
MemberLoss = Literal["all", "top"]  # binary cross-entropy on all segments of a video, or on those of the highest logits


@dataclass(frozen=True)
class BlendConfig:
    """A linear model, and one compact network per entry of `losses` (see `ssrl.model.blend`)."""

    feature_dim: int
    scales: tuple[int, ...] = (1, 2, 3, 4)
    grids: Mapping[int, tuple[int, int]] = field(default_factory=lambda: dict(PAPER_GRIDS))
    losses: tuple[MemberLoss, ...] = ("all", "top")  # (): the linear model alone
    width: int = 128  # W, of the snippet feature
    patch_width: int = 32  # P, of the patches that PSR sees; D where that is smaller
    head_width: int = 32
    psr: RelationConfig | None = RelationConfig()  # None: without the PSR module (Table 4)
    vtr: RelationConfig | None = RelationConfig()  # None: segments are scored apart
    share_psr: bool = False  # one PSR for all scales (Table 1)
    convolution: bool = False  # beside the mean and maximum over patches, the 3x3 convolution of MPA
    input_dropout: float = 0.5
    dropout: float = 0.5
    shrinkage: float = 1.0  # a feature is divided by sqrt(variance + shrinkage * mean variance)
    cross_fit: bool = True  # network i of a kind is trained without fold i of the videos, which calibrate its scores
    linear_l2: float = 1.0  # penalty of the linear model: l2 / 2 times the squared length of its weights
    spread_to: int = 32  # as of ModelConfig
    segment_length: float = 1.0  # of a typical training video

    def __post_init__(self) -> None:
        if self.feature_dim < 4:  # a relation network divides its channels by four
            raise UserError(f"the feature dimension must be at least 4, not {self.feature_dim}")
        if not self.scales or len(set(self.scales)) < len(self.scales):
            raise UserError(f"each scale must be named once, not {list(self.scales)}")
        unknown = [scale for scale in self.scales if scale not in self.grids]
        if unknown:
            raise UserError(f"scale {unknown[0]} has no grid; there are grids for {sorted(self.grids)}")

    @property
    def patch_scales(self) -> tuple[int, ...]:
        return tuple(scale for scale in self.scales if scale != WHOLE_FRAME)

    @property
    def patch_dim(self) -> int:
        return min(self.patch_width, self.feature_dim)

    def pooled_dim(self, scale: int) -> int:
        """F: mean over crops, or mean and max over patches."""
        return self.feature_dim if scale == WHOLE_FRAME else 2 * self.feature_dim

    @property
    def members(self) -> int:
        """Networks of each kind; as many folds are held out in turn."""
        return len(self.losses) // max(1, len(set(self.losses)))

    @property
    def num_folds(self) -> int:
        """1: nothing is held out."""
        return self.members if self.cross_fit and self.losses else LINEAR_FOLDS

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """(M,): the fold that each network does not see."""
        kinds = len(set(self.losses))
        return tuple(i // kinds if self.cross_fit else -2 for i in range(len(self.losses)))

    def divide_weights(self, shares: Mapping[str, float]) -> tuple[float, ...]:
        """Divide each kind's share among its networks: for the linear model and each network."""
        return (shares["linear"], *(shares[loss] / self.losses.count(loss) for loss in self.losses))

    @property
    def equal_weights(self) -> tuple[float, ...]:
        """The same share for the linear model and for the networks of each loss."""
        kinds = {"linear", *self.losses}
        return self.divide_weights(dict.fromkeys(kinds, 1 / len(kinds)))

    def with_scales(self, scales: tuple[int, ...]) -> BlendConfig:
        return replace(self, scales=scales)


AnyModelConfig = ModelConfig | BlendConfig
