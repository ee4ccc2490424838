"""One step of training: a batch of bags, its loss, and the descent of the weights. The randomness of a step depends
only on seed, stage and step, so that an interrupted and resumed run is bit-exact with an undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ssrl.config import TrainConfig
from ssrl.model.blend import Blend, CompactNetwork
from ssrl.model.network import SSRL, Output
from ssrl.train.blend import PreparedFeatures
from ssrl.train.data import Bags, draw_halves
from ssrl.train.features import Batch, Features, read_ahead
from ssrl.train.finite import TrainedBatch, check_losses, check_scores, check_weights
from ssrl.train.losses import Losses, compute_balanced_loss, compute_losses


class Stepper(Protocol):
    """Trains a network step by step."""

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]: ...

    def run(self, steps: range) -> Iterator[Losses]:
        """Take some steps, and yield the loss of each. Raises a UserError for one that is not finite."""

    def check_weights(self) -> None:
        """Raise a UserError if the last step left weights that are not finite."""


@dataclass(frozen=True)
class Part:
    """A part of a step's batch: all of it without `accumulate`."""

    step: int
    index: int


@dataclass(frozen=True)
class Halves:
    """A part of a batch: equally many abnormal and normal videos."""

    videos: Batch
    num_abnormal: int
    share: float  # of the whole batch
    seed: int  # of the step's dropout
    trained: TrainedBatch


class NetworkStepper:
    """Trains the network of the paper on equally many abnormal and normal videos."""

    def __init__(self, network: SSRL, features: Features, bags: Bags, config: TrainConfig, stage: int) -> None:
        self.network = network
        self.features = features
        self.bags = bags
        self.config = config
        self.stage = stage
        self.optimizers = [make_optimizer(network, config)]
        half = min(config.videos_per_half, max(len(bags.abnormal), len(bags.normal)))
        self.num_parts = min(config.accumulate, half)

    def run(self, steps: range) -> Iterator[Losses]:
        parts = (Part(step, index) for step in steps for index in range(self.num_parts))
        sums: list[Losses] = []
        for part, halves in read_ahead(self._read, parts):
            if part.index == 0:
                self.network.train()
                torch.manual_seed(halves.seed)
                self.optimizers[0].zero_grad(set_to_none=True)
            self.trained = halves.trained
            losses = self._compute_losses(halves).scale(halves.share)
            losses.total.backward()
            sums.append(losses.detach())
            if part.index == self.num_parts - 1:
                descend(self.optimizers[0], self.config, part.step)
                total = sum(sums[1:], sums[0])
                check_losses(total, self.trained)
                yield total
                sums = []

    def check_weights(self) -> None:
        check_weights(self.network, self.optimizers[0], self.trained)

    def _read(self, part: Part) -> Halves:
        generator = np.random.default_rng([self.config.seed, 2, self.stage, part.step])
        seed = int(generator.integers(2**31))
        halves = draw_halves(self.bags.abnormal, self.bags.normal, self.config.videos_per_half, generator)
        abnormal, normal = (np.array_split(half, self.num_parts)[part.index] for half in halves)
        videos = np.concatenate([abnormal, normal])
        trained = describe_batch(self.bags, self.config, self.stage, part.step, videos)
        return Halves(self.features.load(videos), len(abnormal), len(abnormal) / len(halves[0]), seed, trained)

    def _compute_losses(self, halves: Halves) -> Losses:
        output = halves.videos.run(self.network, autocast=self.config.precision == "bfloat16")
        check_scores(output.scores, halves.trained)
        abnormal, normal = slice(halves.num_abnormal), slice(halves.num_abnormal, None)
        return compute_losses(_take(output, abnormal), _take(output, normal), self.config.loss)


class BlendStepper:
    """Trains the networks of a blend. They are independent: each has batches of its own, from the videos that it sees,
    and a thread, since their operations are too small to divide among threads.
    """

    def __init__(
        self,
        network: Blend,
        features: PreparedFeatures,
        bags: Bags,
        folds: np.ndarray,
        config: TrainConfig,
        stage: int,
    ) -> None:
        self.network = network
        self.features = features
        self.bags = bags
        self.folds = folds
        self.config = config
        self.stage = stage
        self.optimizers = [make_optimizer(each, config) for each in network.networks]  # none in a linear model
        self.trained: dict[int, TrainedBatch] = {}  # the last batch of each network

    def run(self, steps: range) -> Iterator[Losses]:
        members = range(len(self.network.networks))
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for step in steps:
                self.network.train()
                losses = pool.map(lambda index, step=step: self._step_member(step, index), members)
                yield Losses(sum(losses, torch.zeros(())))

    def _step_member(self, step: int, index: int) -> Tensor:
        network, model = self.network.networks[index], self.network.config
        assert isinstance(network, CompactNetwork)
        generator = np.random.default_rng([self.config.seed, 2, self.stage, step, index])
        network.seed_dropout(int(generator.integers(2**31)))
        hidden = self.bags.training[self.folds == model.held_out_folds[index]]
        seen = [np.setdiff1d(kind, hidden) for kind in (self.bags.abnormal, self.bags.normal)]
        abnormal, normal = draw_halves(seen[0], seen[1], self.config.videos_per_half, generator)
        labels = torch.tensor([1.0] * len(abnormal) + [0.0] * len(normal), device=self.features.device)
        top = self.config.loss.top_segments if model.losses[index] == "top" else None
        videos = np.concatenate([abnormal, normal])
        name = f"network {index + 1} of {len(model.losses)} ({model.losses[index]})"
        self.trained[index] = describe_batch(self.bags, self.config, self.stage, step, videos, name)
        logits = network(self.features.select_for(index, videos))
        loss = compute_balanced_loss(logits, labels, top)
        self.optimizers[index].zero_grad(set_to_none=True)
        loss.backward()
        descend(self.optimizers[index], self.config, step)
        loss = loss.detach().cpu()
        check_losses(Losses(loss), self.trained[index])
        return loss

    def check_weights(self) -> None:
        for index, (network, optimizer) in enumerate(zip(self.network.networks, self.optimizers, strict=True)):
            check_weights(network, optimizer, self.trained[index])


def describe_batch(
    bags: Bags, config: TrainConfig, stage: int, step: int, videos: np.ndarray, network: str = ""
) -> TrainedBatch:
    ids = tuple(dict.fromkeys(bags.view.ids[video] for video in videos))
    return TrainedBatch(stage, step + 1, ids, network, config.learning_rate)


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    return kind(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def descend(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    if config.schedule == "cosine":
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 + math.cos(math.pi * step / config.steps)) / 2
    optimizer.step()


def _take(output: Output, videos: slice) -> Output:
    return Output(output.scores[videos], output.features[videos], output.crop_scores[videos])
