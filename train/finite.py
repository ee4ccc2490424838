"""Losses and weights that are not finite: training stops before they are saved, and says where they arose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssrl.errors import UserError
from ssrl.train.losses import Losses


@dataclass(frozen=True)
class TrainedBatch:
    """What a network was trained on in a step, for messages."""

    stage: int
    step: int  # from 1
    videos: tuple[str, ...]  # ids
    network: str  # "" if there is but one
    learning_rate: float  # as configured

    def __str__(self) -> str:
        network = f", {self.network}" if self.network else ""
        return f"stage {self.stage}, step {self.step}{network}"


def check_scores(scores: Tensor, batch: TrainedBatch) -> None:
    """Raise a UserError for scores that are not finite, which the cross-entropy of eq. 9 does not take."""
    if not scores.isfinite().all():
        raise _make_error(batch, "the scores, and so the loss (classification), are not finite")


def check_losses(losses: Losses, batch: TrainedBatch) -> None:
    """Raise a UserError for a term that is not finite."""
    for term, value in losses.floats.items():
        if not math.isfinite(value):
            raise _make_error(batch, f"the loss ({term}) is {value}")


def check_weights(network: nn.Module, optimizer: torch.optim.Optimizer, batch: TrainedBatch) -> None:
    """Raise a UserError if a step left weights, buffers or the optimizer's moments that are not finite."""
    finite = [value.isfinite().all() for value in _list_values(network, optimizer)]
    if not torch.stack(finite).all():  # one transfer from a GPU
        raise _make_error(batch, "a gradient is not finite")


def _list_values(network: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    yield from network.state_dict().values()
    for moments in optimizer.state.values():
        yield from moments.values()


def _make_error(batch: TrainedBatch, problem: str) -> UserError:
    return UserError(
        f"{batch}: {problem}; the batch was {', '.join(batch.videos)}. Train with a --learning-rate below "
        f"{batch.learning_rate:g} and another --out, or check the features with ssrl-store verify; what was saved "
        f"before is intact, and --resume continues from it"
    )
