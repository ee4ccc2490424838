"""One step of training: a batch of bags, its loss, and the descent of the weights. The randomness of a step depends
only on seed, stage and step, so that an interrupted and resumed run is bit-exact with an undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssrl.config import TrainConfig
from ssrl.errors import UserError
from ssrl.model.blend import Blend, CompactNetwork
from ssrl.model.network import SSRL, Output
from ssrl.model.norm import Division, Norm
from ssrl.train.blend import PreparedFeatures
from ssrl.train.data import Bags, draw_halves
from ssrl.train.features import Batch, Features, read_ahead
from ssrl.train.finite import TrainedBatch, check_losses, check_scores, check_weights
from ssrl.train.losses import Losses, compute_balanced_loss, compute_losses
from ssrl.train.team import ALONE, Team

Weights = Mapping[str, Tensor]
OptimizerState = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What is trained on, and how, in one stage."""

    bags: Bags
    config: TrainConfig
    stage: int
    team: Team = ALONE

    def make_generator(self, step: int, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, 2, self.stage, step, *more])

    def describe_batch(self, step: int, videos: np.ndarray, network: str = "") -> TrainedBatch:
        ids = tuple(dict.fromkeys(self.bags.view.ids[video] for video in videos))
        return TrainedBatch(self.stage, step + 1, ids, network, self.config.learning_rate)


class Stepper(Protocol):
    """Trains a network step by step."""

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]: ...

    def run(self, steps: range) -> Iterator[Losses]:
        """Take some steps, and yield the loss of each. Raises a UserError for one that is not finite."""

    def check_weights(self) -> None:
        """Raise a UserError if the last step left weights that are not finite."""

    def collect(self, average: Weights) -> tuple[OptimizerState, ...]:
        """Bring the weights of all processes together, and those of their average; return the optimizers' states."""


@dataclass(frozen=True)
class Part:
    """A part of a step's batch: all of it without `accumulate`."""

    step: int
    index: int


@dataclass(frozen=True)
class Halves:
    """A part of a batch: equally many abnormal and normal videos."""

    videos: Batch  # those at hand
    division: Division
    share: float  # of the whole batch
    seed: int  # of the step's dropout
    trained: TrainedBatch


class NetworkStepper:
    """Trains the network of the paper on equally many abnormal and normal videos."""

    def __init__(self, network: SSRL, features: Features, task: Task) -> None:
        self.network = network
        self.features = features
        self.task = task
        self.optimizers = [make_optimizer(network, task.config)]
        half = min(task.config.videos_per_half, max(len(task.bags.abnormal), len(task.bags.normal)))
        size = task.team.size
        if half < size:
            raise UserError(f"{size} processes cannot divide a batch of {half} videos of each kind; start fewer")
        self.num_parts = min(task.config.accumulate, half // size)
        self.run_network = self._divide_network() if size > 1 else self._run

    def run(self, steps: range) -> Iterator[Losses]:
        parts = (Part(step, index) for step in steps for index in range(self.num_parts))
        sums: list[Losses] = []
        for part, halves in read_ahead(self._read, parts):
            if part.index == 0:
                if not self.network.training:
                    self.network.train()
                torch.manual_seed(halves.seed)
                self.optimizers[0].zero_grad(set_to_none=True)
            self.trained = halves.trained
            losses = self._compute_losses(halves).scale(halves.share)
            (self.task.team.size * losses.total).backward()  # of whose gradients the ranks take the mean
            sums.append(losses.detach())
            if part.index == self.num_parts - 1:
                descend(self.optimizers[0], self.task.config, part.step)
                total = sum(sums[1:], sums[0])
                check_losses(total, self.trained)
                yield total
                sums = []

    def check_weights(self) -> None:
        check_weights(self.network, self.optimizers[0], self.trained)

    def collect(self, average: Weights) -> tuple[OptimizerState, ...]:
        return (self.optimizers[0].state_dict(),)

    def _read(self, part: Part) -> Halves:
        generator = self.task.make_generator(part.step)
        seed = int(generator.integers(2**31))
        whole = draw_halves(self.task.bags.abnormal, self.task.bags.normal, self.task.config.videos_per_half, generator)
        halves = [np.array_split(half, self.num_parts)[part.index] for half in whole]
        videos = np.concatenate(halves)
        count = len(halves[0])
        held = np.array_split(np.arange(count), self.task.team.size)[self.task.team.rank]
        places = np.concatenate([held, count + held])
        return Halves(
            self.features.load(videos[places]),
            Division(torch.from_numpy(places).to(self.features.device), len(videos)),
            count / len(whole[0]),
            seed,
            self.task.describe_batch(part.step, videos),
        )

    def _compute_losses(self, halves: Halves) -> Losses:
        if self.task.team.size > 1:
            self.network.divide(halves.division)
        output = Output(*self.run_network(halves.videos))
        if self.task.team.size > 1:
            output = Output(*(self.task.team.gather(part, halves.division) for part in vars(output).values()))
        check_scores(output.scores, halves.trained)
        count = halves.division.total // 2
        return compute_losses(_take(output, slice(count)), _take(output, slice(count, None)), self.task.config.loss)

    def _run(self, videos: Batch) -> tuple[Tensor, ...]:
        output = videos.run(self.network, autocast=self.task.config.precision == "bfloat16")
        return output.scores, output.features, output.crop_scores

    def _divide_network(self) -> Callable[[Batch], tuple[Tensor, ...]]:
        """The network with gradients and batch norms over the videos of all ranks."""
        for module in self.network.modules():
            if isinstance(module, Norm):
                module.add_up = self.task.team.add_up
        wrapper = Wrapper(self.network, self._run)
        return DistributedDataParallel(wrapper, find_unused_parameters=self.network.config.scale_dropout > 0)


class Wrapper(nn.Module):
    """A network whose forward is a function, as DistributedDataParallel takes it."""

    def __init__(self, network: SSRL, run: Callable[[Batch], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.network = network
        self.run = run

    def forward(self, videos: Batch) -> tuple[Tensor, ...]:
        return self.run(videos)


class BlendStepper:
    """Trains the networks of a blend. They are independent: each has batches of its own, from the videos that it sees,
    and a thread, since their operations are too small to divide among threads. Ranks divide the networks.
    """

    def __init__(self, network: Blend, features: PreparedFeatures, folds: np.ndarray, task: Task) -> None:
        self.network = network
        self.features = features
        self.folds = folds
        self.task = task
        self.members = task.team.deal(len(network.networks))
        self.optimizers = [make_optimizer(each, task.config) for each in network.networks]  # none in a linear model
        self.trained: dict[int, TrainedBatch] = {}  # the last batch of each network

    def run(self, steps: range) -> Iterator[Losses]:
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for step in steps:
                if not self.network.training:
                    self.network.train()
                losses = pool.map(lambda index, step=step: self._step_member(step, index), self.members)
                every = self.task.team.merge(dict(zip(self.members, losses, strict=True)))
                yield Losses(sum((every[index] for index in sorted(every)), torch.zeros(())))

    def check_weights(self) -> None:
        for index in self.members:
            check_weights(self.network.networks[index], self.optimizers[index], self.trained[index])

    def collect(self, average: Weights) -> tuple[OptimizerState, ...]:
        for values in (self.network.state_dict(), average):
            dealt = {name: value for name, value in values.items() if name.startswith("networks.")}
            self.task.team.share_dealt((int(name.split(".")[1]), value) for name, value in dealt.items())
        states = self.task.team.merge({index: self.optimizers[index].state_dict() for index in self.members})
        return tuple(states[index] for index in sorted(states))

    def _step_member(self, step: int, index: int) -> Tensor:
        network, model = self.network.networks[index], self.network.config
        assert isinstance(network, CompactNetwork)
        generator = self.task.make_generator(step, index)
        network.seed_dropout(int(generator.integers(2**31)))
        hidden = self.task.bags.training[self.folds == model.held_out_folds[index]]
        seen = [np.setdiff1d(kind, hidden) for kind in (self.task.bags.abnormal, self.task.bags.normal)]
        abnormal, normal = draw_halves(seen[0], seen[1], self.task.config.videos_per_half, generator)
        videos = np.concatenate([abnormal, normal])
        name = f"network {index + 1} of {len(model.losses)} ({model.losses[index]})"
        self.trained[index] = self.task.describe_batch(step, videos, name)
        labels = torch.tensor([1.0] * len(abnormal) + [0.0] * len(normal), device=self.features.device)
        top = self.task.config.loss.top_segments if model.losses[index] == "top" else None
        logits = network(self.features.select_for(index, videos))
        loss = compute_balanced_loss(logits, labels, top)
        self.optimizers[index].zero_grad(set_to_none=True)
        loss.backward()
        descend(self.optimizers[index], self.task.config, step)
        loss = loss.detach().cpu()
        check_losses(Losses(loss), self.trained[index])
        return loss


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
