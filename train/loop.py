"""One stage of training: batches of bags, Adam, and regular checks of the selection metric."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssrl.config import TrainConfig
from ssrl.model.network import SSRL, Output
from ssrl.train.data import Bags, Features, draw
from ssrl.train.losses import Losses, compute_losses

Weights = Mapping[str, Tensor]
Measure = Callable[[SSRL], float | None]


@dataclass
class StageState:
    """The progress of a stage: everything needed to resume it exactly."""

    step: int = 0
    optimizer: dict[str, Any] = field(default_factory=dict)
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


class StageTrainer:
    """Trains one network on the bags of one store. The randomness of a step depends only on seed, stage and step,
    so an interrupted and resumed run is bit-exact with an uninterrupted one.
    """

    def __init__(self, network: SSRL, bags: Bags, config: TrainConfig, stage: int, device: torch.device) -> None:
        self.network = network.to(device)
        self.bags = bags
        self.config = config
        self.stage = stage
        self.device = device
        self.features = Features(bags.view, network.config.scales, device)
        self.half = min(config.videos_per_half, max(len(bags.abnormal), len(bags.normal)))
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def run(
        self,
        state: StageState,
        measure: Measure | None,
        on_step: Callable[[int, Losses, float], None],
        on_check: Callable[[StageState], None],
    ) -> StageState:
        """Train from `state` to the last step, and select by `measure`; if that is None, the last step wins."""
        if state.step:
            self.network.load_state_dict(dict(state.weights))
            self.optimizer.load_state_dict(state.optimizer)
            state.average = {name: value.to(self.device) for name, value in state.average.items()}
        while state.step < self.config.steps:
            start = time.perf_counter()
            losses = self.step(state.step)
            state.step += 1
            if state.step > self.config.average_from * self.config.steps:
                self._average(state)
            on_step(state.step, losses, time.perf_counter() - start)
            if state.step % self.config.check_every == 0 or state.step == self.config.steps:
                self._check(state, measure)
                on_check(state)
        return state

    def step(self, step: int) -> Losses:
        """Train on one batch of equally many abnormal and normal videos."""
        generator = np.random.default_rng([self.config.seed, 2, self.stage, step])
        torch.manual_seed(int(generator.integers(2**31)))
        abnormal = draw(self.bags.abnormal, self.half, generator)
        normal = draw(self.bags.normal, self.half, generator)
        self.network.train()
        output = self.network(self.features.load(np.concatenate([abnormal, normal])))
        losses = compute_losses(
            _slice(output, slice(None, self.half)), _slice(output, slice(self.half, None)), self.config.loss
        )
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        self.optimizer.step()
        return losses

    def _average(self, state: StageState) -> None:
        """Add the current weights to the mean of those since `average_from` (Izmailov et al., 2018)."""
        state.num_averaged += 1
        for name, value in self.network.state_dict().items():
            if name not in state.average or not value.is_floating_point():
                state.average[name] = value.detach().clone()
            else:
                state.average[name] += (value - state.average[name]) / state.num_averaged

    def _check(self, state: StageState, measure: Measure | None) -> None:
        state.weights = _copy_weights(self.network)
        state.optimizer = self.optimizer.state_dict()
        value = None if measure is None else self._measure(measure, state)
        if value is None or state.best_value is None or value >= state.best_value:  # the later of equals
            state.best_value, state.best_step = value, state.step
            state.best_weights = {name: tensor.clone() for name, tensor in state.result.items()}

    def _measure(self, measure: Measure, state: StageState) -> float | None:
        self.network.load_state_dict(dict(state.result))
        value = measure(self.network.eval())
        self.network.load_state_dict(dict(state.weights))
        return value


def compute_video_auc(network: SSRL, bags: Bags, features: Features) -> float | None:
    """Video-level AUC on the held-out videos: the highest segment score of each video against its label."""
    if len(set(bags.held_out_labels)) < 2:
        return None
    with torch.inference_mode():
        scores = [network(features.load(np.array([index]))).scores.max().item() for index in bags.held_out]
    return float(roc_auc_score(bags.held_out_labels, scores))


def _slice(output: Output, part: slice) -> Output:
    return Output(output.scores[part], output.features[part], output.crop_scores[part])


def _copy_weights(network: SSRL) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
