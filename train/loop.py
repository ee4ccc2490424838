"""One stage of training: batches of bags, Adam, and regular checks of the selection metric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.optim.swa_utils import get_swa_multi_avg_fn

from ssrl.config import Calibration, TrainConfig
from ssrl.model.blend import Blend, BlendOutput, CompactNetwork
from ssrl.model.build import Network
from ssrl.model.network import Output
from ssrl.train.blend import PreparedFeatures, fit_linear, fit_preparation, measure_spread
from ssrl.train.data import Bags, Features, TrainingFeatures, draw_halves
from ssrl.train.finite import TrainedBatch, check_losses, check_scores, check_weights
from ssrl.train.held_out import Reference, score_held_out
from ssrl.train.losses import Losses, compute_balanced_loss, compute_losses

Weights = Mapping[str, Tensor]
Measure = Callable[[Network], float | None]


@dataclass
class StageState:
    """The progress of a stage: everything needed to resume it exactly."""

    step: int = 0
    optimizers: tuple[dict[str, Any], ...] = ()
    weights: Weights = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)  # of the weights after each step since `average_from`
    num_averaged: int = 0
    best_step: int = 0
    best_value: float | None = None
    best_weights: Weights = field(default_factory=dict)

    @property
    def result(self) -> Weights:
        """The weights to use: the average where there is one, else those of the last step."""
        return self.average or self.weights


@dataclass(frozen=True)
class Calibrated:
    """The weights of a stage, with the calibration of their scores."""

    weights: Weights
    calibration: Calibration | None = None
    held_out_auc: float | None = None


class StageTrainer:
    """Trains one network on the bags of one store. The randomness of a step depends only on seed, stage and step,
    so an interrupted and resumed run is bit-exact with an uninterrupted one.
    """

    def __init__(self, network: Network, bags: Bags, config: TrainConfig, stage: int, device: torch.device) -> None:
        self.network = network.to(device)
        self.bags = bags
        self.config = config
        self.stage = stage
        self.device = device
        self.features = make_features(self.network, bags, device)
        self.folds = np.full(len(bags.training), -1)
        if isinstance(network, Blend):
            self.folds = bags.assign_folds(network.config.num_folds, config.seed)
        # A network's operations are too small to divide among threads.
        self.pool = ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))
        self.trained = list(network.networks) if isinstance(network, Blend) else [network]  # none in a linear model
        self.optimizers = [self._make_optimizer(each) for each in self.trained]
        self.batches: dict[int, TrainedBatch] = {}  # the last of each network

    @property
    def learning_rate(self) -> float | None:
        """Of the last step."""
        return self.optimizers[0].param_groups[0]["lr"] if self.optimizers else None

    def run(
        self,
        state: StageState,
        measure: Measure | None,
        on_step: Callable[[int, Losses, float], None],
        on_check: Callable[[StageState, float | None], None],
    ) -> StageState:
        """Train from `state` to the last step, and select by `measure`; if that is None, the last step wins."""
        if state.step:
            self.network.load_state_dict(dict(state.weights))
            for optimizer, saved in zip(self.optimizers, state.optimizers, strict=True):
                optimizer.load_state_dict(saved)
            state.average = {name: value.to(self.device) for name, value in state.average.items()}
        if not self.optimizers:
            state.step = self.config.steps - 1  # nothing to train: one step, to come to an end
        while state.step < self.config.steps:
            start = time.perf_counter()
            losses = self.step(state.step)
            state.step += 1
            if state.step > self.config.average_from * self.config.steps:
                self._average(state)
            on_step(state.step, losses, time.perf_counter() - start)
            if state.step % self.config.check_every == 0 or state.step == self.config.steps:
                on_check(state, self._check(state, measure))
        return state

    def step(self, step: int) -> Losses:
        """Train on one batch of equally many abnormal and normal videos, or on one for each network of a blend."""
        if not self.network.training:
            self.network.train()
        return self._step_blend(step) if isinstance(self.network, Blend) else self._step_network(step)

    def calibrate(self, weights: Weights, reference: Reference) -> Calibrated:
        """Calibrate the scores of a blend on what its networks give the videos that they have not seen."""
        if not isinstance(self.network, Blend):
            return Calibrated(weights)
        assert isinstance(self.features, PreparedFeatures)
        self.network.load_state_dict(dict(weights))
        models = reference.fold_models
        held_out = score_held_out(self.network.eval(), models, self.features, self.bags, self.folds)
        if held_out is None:
            return Calibrated(weights)
        shares = held_out.choose_weights(self.config.seed)
        calibration = held_out.calibrate(shares)
        measured = {
            "blend_weights": torch.tensor(self.network.config.divide_weights(shares)),
            "calibration": torch.tensor([calibration.slope, calibration.offset]),
        }
        return Calibrated({**weights, **measured}, calibration, held_out.compute_auc(shares))

    def _step_network(self, step: int) -> Losses:
        generator = np.random.default_rng([self.config.seed, 2, self.stage, step])
        torch.manual_seed(int(generator.integers(2**31)))
        abnormal, normal = draw_halves(self.bags.abnormal, self.bags.normal, self.config.videos_per_half, generator)
        videos = np.concatenate([abnormal, normal])
        batch = self._note_batch(step, 0, videos)
        output = self.features.run(self.network, videos)
        check_scores(output.scores, batch)
        losses = compute_losses(*_split(output, len(abnormal)), self.config.loss)
        self._descend(self.optimizers[0], losses.total, step)
        check_losses(losses, batch)
        return losses

    def _step_blend(self, step: int) -> Losses:
        """The networks are independent: each has batches of its own, from the videos that it sees, and a thread."""
        assert isinstance(self.network, Blend)
        members = range(len(self.network.networks))
        return Losses(sum(self.pool.map(lambda i: self._step_member(step, i), members), torch.zeros(())))

    def _step_member(self, step: int, index: int) -> Tensor:
        assert isinstance(self.network, Blend) and isinstance(self.features, PreparedFeatures)
        network, model = self.network.networks[index], self.network.config
        assert isinstance(network, CompactNetwork)
        generator = np.random.default_rng([self.config.seed, 2, self.stage, step, index])
        network.seed_dropout(int(generator.integers(2**31)))
        hidden = self.bags.training[self.folds == model.held_out_folds[index]]
        seen = [np.setdiff1d(kind, hidden) for kind in (self.bags.abnormal, self.bags.normal)]
        abnormal, normal = draw_halves(seen[0], seen[1], self.config.videos_per_half, generator)
        labels = torch.tensor([1.0] * len(abnormal) + [0.0] * len(normal), device=self.device)
        top = self.config.loss.top_segments if model.losses[index] == "top" else None
        videos = np.concatenate([abnormal, normal])
        logits = network(self.features.select(videos))
        loss = compute_balanced_loss(logits, labels, top)
        self._descend(self.optimizers[index], loss, step)
        loss = loss.detach().cpu()
        check_losses(Losses(loss), self._note_batch(step, index, videos))
        return loss

    def _note_batch(self, step: int, index: int, videos: np.ndarray) -> TrainedBatch:
        """Keep what a network was trained on, for messages."""
        ids = tuple(dict.fromkeys(self.bags.view.ids[video] for video in videos))
        network = ""
        if isinstance(self.network, Blend):
            network = f"network {index + 1} of {len(self.trained)} ({self.network.config.losses[index]})"
        self.batches[index] = TrainedBatch(self.stage, step + 1, ids, network, self.config.learning_rate)
        return self.batches[index]

    @cached_property
    def _current_weights(self) -> Weights:
        """Views of the network's weights, which training changes in place."""
        return self.network.state_dict()

    def _make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        kind = torch.optim.AdamW if self.config.optimizer == "adamw" else torch.optim.Adam
        rate, decay = self.config.learning_rate, self.config.weight_decay
        return kind(network.parameters(), lr=rate, weight_decay=decay, fused=True)

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor, step: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.schedule == "cosine":
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 + math.cos(math.pi * step / self.config.steps)) / 2
        optimizer.step()

    def _average(self, state: StageState) -> None:
        """Add the current weights to the mean of those since `average_from` (Izmailov et al., 2018)."""
        weights = self._current_weights
        if not state.average:
            state.average = {name: value.clone() for name, value in weights.items()}
        averaged = [name for name, value in weights.items() if value.is_floating_point()]
        average = get_swa_multi_avg_fn()
        average([state.average[name] for name in averaged], [weights[name] for name in averaged], state.num_averaged)
        state.num_averaged += 1

    def _check(self, state: StageState, measure: Measure | None) -> float | None:
        """Take the state, and measure it."""
        # Between checks, weights that a gradient spoiled show in the next step; a state must not be taken before that.
        for index, (network, optimizer) in enumerate(zip(self.trained, self.optimizers, strict=True)):
            check_weights(network, optimizer, self.batches[index])
        state.weights = _copy_weights(self.network)
        state.optimizers = tuple(optimizer.state_dict() for optimizer in self.optimizers)
        if isinstance(self.network, Blend) and (measure is not None or state.step == self.config.steps):
            self._set_spread(state)
        value = None if measure is None else self._measure(measure, state)
        if value is None or state.best_value is None or value >= state.best_value:  # the later of equals
            state.best_value, state.best_step = value, state.step
            state.best_weights = {name: tensor.clone() for name, tensor in state.result.items()}
        return value

    def _set_spread(self, state: StageState) -> None:
        """Measure how far the logits of a blend spread with the resulting weights, which weighs its members."""
        assert isinstance(self.network, Blend) and isinstance(self.features, PreparedFeatures)
        self.network.load_state_dict(dict(state.result))
        spread = measure_spread(self.network.eval(), self.features, self.bags)
        self.network.load_state_dict(dict(state.weights))
        if state.average:
            state.average["spread"] = spread
        else:
            state.weights = {**state.weights, "spread": spread}

    def _measure(self, measure: Measure, state: StageState) -> float | None:
        self.network.load_state_dict(dict(state.result))
        value = measure(self.network.eval())
        self.network.load_state_dict(dict(state.weights))
        return value


def make_features(network: Network, bags: Bags, device: torch.device) -> TrainingFeatures:
    if not isinstance(network, Blend):
        return Features(bags.view, network.config.scales, device)
    fit_preparation(network, bags)
    features = PreparedFeatures(network, bags, device)
    fit_linear(network, features, bags)
    return features


def compute_video_auc(network: Network, bags: Bags, features: TrainingFeatures) -> float | None:
    """Video-level AUC on the held-out videos: the highest segment score of each video against its label."""
    if len(set(bags.held_out_labels)) < 2:
        return None
    with torch.inference_mode():
        scores = [features.run(network, np.array([index])).scores.max().item() for index in bags.held_out]
    return float(roc_auc_score(bags.held_out_labels, scores))


def _split(output: Output | BlendOutput, count: int) -> tuple[Output, Output]:
    """Split a batch after its first `count` videos."""
    assert isinstance(output, Output)
    first, rest = slice(None, count), slice(count, None)
    return tuple(Output(output.scores[part], output.features[part], output.crop_scores[part]) for part in (first, rest))  # type: ignore[return-value]


def _copy_weights(network: Network) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
