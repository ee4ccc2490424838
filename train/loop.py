"""One stage of training: batches of bags, Adam, and regular checks of the selection metric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ssrl.config import Calibration, TrainConfig
from ssrl.model.blend import Blend, BlendOutput
from ssrl.model.build import Network
from ssrl.model.network import Output
from ssrl.train.blend import PreparedFeatures, fit_linear, fit_preparation, measure_spread
from ssrl.train.data import Bags, Features, TrainingFeatures, draw
from ssrl.train.held_out import Reference, score_held_out
from ssrl.train.losses import Losses, compute_blend_losses, compute_losses

Weights = Mapping[str, Tensor]
Measure = Callable[[Network], float | None]


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
        self.half = min(config.videos_per_half, max(len(bags.abnormal), len(bags.normal)))
        self.trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        parameters = self.trainable or [nn.Parameter(torch.zeros(1))]  # an optimizer needs one, a linear model has none
        self.optimizer = optimizer(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

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
        if not self.trainable:
            state.step = self.config.steps - 1  # nothing to train: one step, to come to an end
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
        indices = np.concatenate([abnormal, normal])
        losses = self._compute_losses(self.features.run(self.network, indices), indices)
        if self.trainable:
            self.optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            self._set_learning_rate(step)
            self.optimizer.step()
        return losses

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

    def _compute_losses(self, output: Output | BlendOutput, indices: np.ndarray) -> Losses:
        if isinstance(output, BlendOutput):
            assert isinstance(self.network, Blend)
            if not self.trainable:
                return Losses(torch.zeros(()))
            model = self.network.config
            folds = np.full(len(self.bags.view.ids), -1)
            folds[self.bags.training] = self.folds
            held_out = np.array(model.held_out_folds)[:, None] == folds[indices]  # (M, B)
            seen = torch.from_numpy(~held_out).float().to(self.device)
            labels = torch.from_numpy(np.isin(indices, self.bags.abnormal)).float().to(self.device)
            return compute_blend_losses(output, labels, seen, model.losses, self.config.loss)
        abnormal, normal = _slice(output, slice(None, self.half)), _slice(output, slice(self.half, None))
        return compute_losses(abnormal, normal, self.config.loss)

    def _set_learning_rate(self, step: int) -> None:
        if self.config.schedule == "cosine":
            rate = self.config.learning_rate * (1 + math.cos(math.pi * step / self.config.steps)) / 2
            for group in self.optimizer.param_groups:
                group["lr"] = rate

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
        if isinstance(self.network, Blend) and (measure is not None or state.step == self.config.steps):
            self._set_spread(state)
        value = None if measure is None else self._measure(measure, state)
        if value is None or state.best_value is None or value >= state.best_value:  # the later of equals
            state.best_value, state.best_step = value, state.step
            state.best_weights = {name: tensor.clone() for name, tensor in state.result.items()}

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


def _slice(output: Output, part: slice) -> Output:
    return Output(output.scores[part], output.features[part], output.crop_scores[part])


def _copy_weights(network: Network) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
