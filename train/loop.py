"""One stage of training: its steps, the mean of their weights, and regular checks of the selection metric."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn

from ssrl.config import Calibration, TrainConfig
from ssrl.model.blend import Blend
from ssrl.model.build import Network
from ssrl.model.network import SSRL
from ssrl.train.blend import PreparedFeatures, fit_linear, fit_preparation, measure_spread
from ssrl.train.data import Bags
from ssrl.train.features import Cache, Features, TrainingFeatures, sum_scales
from ssrl.train.held_out import Reference, score_held_out
from ssrl.train.losses import Losses
from ssrl.train.steps import BlendStepper, NetworkStepper, Stepper, Task, Weights
from ssrl.train.team import ALONE, Team

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
    """Trains one network on the bags of one store, in one stage."""

    def __init__(
        self,
        network: Network,
        bags: Bags,
        config: TrainConfig,
        stage: int,
        device: torch.device,
        cache: Cache = "auto",
        team: Team = ALONE,
    ) -> None:
        self.network = network.to(device)
        self.bags = bags
        self.config = config
        self.device = device
        self.folds = np.full(len(bags.training), -1)
        task, frozen = Task(bags, config, stage, team), config.frozen_scales(stage)
        network.freeze(frozen)
        self.features: TrainingFeatures
        self.stepper: Stepper
        if isinstance(network, Blend):
            self.folds = bags.assign_folds(network.config.num_folds, config.seed)
            self.features = features = prepare_features(network, bags, device)
            if frozen:
                features.sum_scales(network, frozen)
            self.stepper = BlendStepper(network, features, self.folds, task)
        else:
            self.features = open_features(network, bags, frozen, device, cache)
            self.stepper = NetworkStepper(network, self.features, task)

    @property
    def learning_rate(self) -> float | None:
        """Of the last step."""
        optimizers = self.stepper.optimizers
        return optimizers[0].param_groups[0]["lr"] if optimizers else None

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
            for optimizer, saved in zip(self.stepper.optimizers, state.optimizers, strict=True):
                optimizer.load_state_dict(saved)
            state.average = {name: value.to(self.device) for name, value in state.average.items()}
        if not self.stepper.optimizers:
            state.step = self.config.steps - 1  # nothing to train: one step, to come to an end
        start = time.perf_counter()
        for losses in self.stepper.run(range(state.step, self.config.steps)):
            state.step += 1
            if state.step > self.config.average_from * self.config.steps:
                self._average(state)
            on_step(state.step, losses, time.perf_counter() - start)
            if state.step % self.config.check_every == 0 or state.step == self.config.steps:
                on_check(state, self._check(state, measure))
            start = time.perf_counter()
        return state

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
        return Calibrated({**weights, **measured}, calibration, held_out.measure_auc(self.config.seed))

    @cached_property
    def _current_weights(self) -> Weights:
        """Views of the network's weights, which training changes in place."""
        return self.network.state_dict()

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
        self.stepper.check_weights()
        state.optimizers = self.stepper.collect(state.average)
        state.weights = _copy_weights(self.network)
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


def prepare_features(network: Blend, bags: Bags, device: torch.device) -> PreparedFeatures:
    """The features as a blend prepares them; fits its fixed part, and its linear model."""
    fit_preparation(network, bags)
    features = PreparedFeatures(network, bags, device)
    fit_linear(network, features, bags)
    return features


def open_features(network: SSRL, bags: Bags, frozen: Sequence[int], device: torch.device, cache: Cache) -> Features:
    """The features of the scales that are trained, and the sum over those that are not."""
    trained = [scale for scale in network.config.scales if scale not in frozen]
    videos = np.concatenate([bags.training, bags.held_out])
    previous = sum_scales(network, bags.view, frozen, videos) if frozen else None
    return Features(bags.view, trained, device, cache, previous)


def compute_video_auc(network: Network, bags: Bags, features: TrainingFeatures) -> float | None:
    """Video-level AUC on the held-out videos: the highest segment score of each video against its label."""
    if len(set(bags.held_out_labels)) < 2:
        return None
    with torch.inference_mode():
        scores = [features.run(network, np.array([index])).scores.max().item() for index in bags.held_out]
    return float(roc_auc_score(bags.held_out_labels, scores))


def _copy_weights(network: Network) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
