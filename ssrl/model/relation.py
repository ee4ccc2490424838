"""The relation network (Fig. 4), used across patches as PSR (Sect. 3.2) and over time as VTR (Sect. 3.4).

    x (B, N, D) ─┬─ dilated convolutions d = 1, 2, 4 ──── 3 x (D/4) ─┐
                 └─ 1x1 convolution ── non-local block ──── (D/4) ───┴─ fusing convolution ── + x ──▶ (B, N, D)

Shapes: B sequences, N elements (patches, or snippets), D features, C and O input and output channels. Convolutions run
on (B, N, C) as matrix products, which is faster than PyTorch's convolutions over so few elements. Long sequences, as in
scoring, are related a block at a time, so that no N x N map is ever held.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssrl.model.config import Attention, RelationConfig
from ssrl.model.norm import Norm

DILATIONS = (1, 2, 4)
REACH = max(DILATIONS) + 1  # elements to each side that the convolutions see
BLOCK = 1024  # elements related at once, of sequences longer than LONG
LONG = 4 * BLOCK


class Convolution(nn.Conv1d):
    """A convolution of odd kernel size that keeps the number of elements: (B, N, C) → (B, N, O)."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        padding = size // 2 * dilation
        super().__init__(in_channels, out_channels, size, dilation=dilation, padding=padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        (size,), (dilation,) = self.kernel_size, self.dilation
        if size == 1:
            return F.linear(x, self.weight.squeeze(2), self.bias)
        taps = F.linear(x, self.weight.permute(2, 0, 1).flatten(0, 1)).chunk(size, dim=2)
        middle = size // 2
        terms = [_shift(tap, (middle - i) * dilation) for i, tap in enumerate(taps)]
        total = sum(terms[1:], terms[0])
        return total if self.bias is None else total + self.bias


def _shift(x: Tensor, places: int) -> Tensor:
    """Move the elements (B, N, C) up by so many places, or down if negative; zeros take their place."""
    N = x.shape[1]
    if places > 0:
        return F.pad(x, (0, 0, places, 0))[:, :N]
    return F.pad(x, (0, 0, 0, -places))[:, -places:] if places else x


class NonLocalBlock(nn.Module):
    """Embedded dot-product attention with a residual connection (eq. 1 and 2).

    The last batch norm starts at zero, so that the block starts as the identity (Wang et al., 2018).
    """

    def __init__(self, channels: int, attention: Attention) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.attention = attention
        self.g = Convolution(channels, inner)
        self.theta = Convolution(channels, inner)
        self.phi = Convolution(channels, inner)
        norm = Norm(channels)
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
        self.W = nn.Sequential(Convolution(inner, channels), norm)

    def weights(self, x: Tensor) -> Tensor:
        """The attention map M of eq. 1: (B, N, C) → (B, N, N); M[m, n] weighs what element m takes from n."""
        return self._weigh(x, self.phi(x))

    def _weigh(self, x: Tensor, keys: Tensor) -> Tensor:
        """(B, n, C), (B, N, C/2) → (B, n, N)"""
        logits: Tensor = self.theta(x) @ keys.transpose(1, 2)
        if self.attention == "softmax":
            return logits.softmax(dim=-1)
        return logits / logits.shape[-1]

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What others take from the elements, and by which keys they find it: (B, N, C/2) each."""
        return self.phi(x), self.g(x)

    def relate(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Some elements (B, n, C) of a sequence, whose `project` gives (B, N, C/2)."""
        related: Tensor = self.W(self._weigh(x, keys) @ values)
        return related + x

    def forward(self, x: Tensor) -> Tensor:
        return self.relate(x, *self.project(x))


class RelationNetwork(nn.Module):
    """Dilated convolutions and a non-local block side by side, fused, with a residual connection (eq. 3 and 6).

    If the configuration leaves out a sub-network (Table 5), the fusing convolution takes only the other's channels.
    Module names follow the authors' release, so that its state dicts load unchanged.
    """

    def __init__(self, feature_dim: int, config: RelationConfig) -> None:
        super().__init__()
        if not (config.dilated or config.non_local):
            raise ValueError("a relation network needs its dilated convolutions, its non-local block, or both")
        branch = feature_dim // 4
        self.config = config
        if config.dilated:
            self.conv_1, self.conv_2, self.conv_3 = (
                _conv_relu_norm(feature_dim, branch, dilation) for dilation in DILATIONS
            )
        if config.non_local:
            self.conv_4 = nn.Sequential(Convolution(feature_dim, branch, bias=False), nn.ReLU())
            self.non_local = NonLocalBlock(branch, config.attention)
        fused = branch * (len(DILATIONS) * config.dilated + config.non_local)
        self.conv_5 = nn.Sequential(Convolution(fused, feature_dim, 3, bias=False), nn.ReLU(), Norm(feature_dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.training or x.shape[1] <= LONG:
            return self._relate(x, self._project(x), slice(None))
        projected = [self._project(part) for part in x.split(BLOCK, dim=1)]
        joined = tuple(torch.cat(parts, dim=1) for parts in zip(*projected, strict=True))
        blocks = []
        for start in range(0, x.shape[1], BLOCK):
            first = max(0, start - REACH)
            related = self._relate(x, joined, slice(first, start + BLOCK + REACH))
            blocks.append(related[:, start - first :][:, :BLOCK])
        return torch.cat(blocks, dim=1)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """The input of the non-local block, its keys and its values; nothing without the block."""
        if not self.config.non_local:
            return ()
        inner = self.conv_4(x)
        return inner, *self.non_local.project(inner)

    def _relate(self, x: Tensor, projected: tuple[Tensor, ...], rows: slice) -> Tensor:
        """Adjacent elements of sequences (B, N, D), to each other and, by what was projected, to all: (B, n, D)."""
        part = x[:, rows]
        branches = []
        if self.config.dilated:
            branches += [conv(part) for conv in (self.conv_1, self.conv_2, self.conv_3)]
        if self.config.non_local:
            inner, keys, values = projected
            branches.append(self.non_local.relate(inner[:, rows], keys, values))
        fused: Tensor = self.conv_5(torch.cat(branches, dim=2))
        return fused + part

    def attention(self, x: Tensor) -> Tensor:
        """The attention map of the non-local block, which must exist: (B, N, D) → (B, N, N)."""
        return self.non_local.weights(self.conv_4(x))


def _conv_relu_norm(in_channels: int, out_channels: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(Convolution(in_channels, out_channels, 3, dilation), nn.ReLU(), Norm(out_channels))
