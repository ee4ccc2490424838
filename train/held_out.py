"""What a blend gives training videos that it has not seen: the network of each fold and kind was trained without that
fold, and the linear model is fitted without it. This compares the two, calibrates the scores and sets thresholds, all
without test labels.

Shapes: V training videos, S segments, M networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ssrl.config import FALSE_ALARM_RATES, Calibration
from ssrl.model.blend import Blend, LinearModel, Prepared
from ssrl.model.build import Network
from ssrl.model.config import LINEAR_FOLDS
from ssrl.model.recipes import Grids, linear_model
from ssrl.train.blend import CHUNK_VIDEOS, PreparedFeatures, fit_linear, fit_logistic, fit_preparation
from ssrl.train.data import Bags, TrainingFeatures

FITTED = ("preparation.", "linear")  # what a blend's linear model consists of
MIN_SLOPE = 0.05  # of the calibration, so that scores keep their order where the held-out videos show none


@dataclass(frozen=True)
class HeldOut:
    """Logits of training videos from models that have not seen them."""

    labels: np.ndarray  # (V,)
    linear: np.ndarray  # (V, S)
    blend: np.ndarray  # (V, S); of the linear model alone, where networks saw all videos

    @property
    def linear_auc(self) -> float:
        """Video-level AUC: the highest segment of each video."""
        return float(roc_auc_score(self.labels, self.linear.max(axis=1)))

    @property
    def blend_auc(self) -> float:
        return float(roc_auc_score(self.labels, self.blend.max(axis=1)))

    def calibrate(self) -> Calibration:
        """Fit slope and offset of the logits (Platt, 1999) and the thresholds.

        A score is the share of such segments that come from abnormal videos, if both kinds were equally frequent.
        """
        logits, labels = self.blend.reshape(-1, 1), np.repeat(self.labels, self.blend.shape[1])
        model = LogisticRegression(class_weight="balanced")
        model.fit(logits, labels, sample_weight=np.full(len(labels), 1 / self.blend.shape[1]))
        slope = max(float(model.coef_[0, 0]), MIN_SLOPE)
        offset = float(model.intercept_[0]) if slope > MIN_SLOPE else 0.0
        normal = 1 / (1 + np.exp(-(slope * self.blend[self.labels == 0].ravel() + offset)))
        thresholds = {rate: _find_threshold(normal, rate) for rate in FALSE_ALARM_RATES}
        return Calibration(slope, offset, thresholds, int((self.labels == 0).sum()))


@dataclass(frozen=True)
class CrossValidation:
    """Recipe → video-level AUC in each fold, of all scales, at the last step."""

    aucs: Mapping[str, tuple[float, ...]]

    def mean(self, recipe: str) -> float:
        return fmean(self.aucs[recipe])

    def spread(self, recipe: str) -> float:
        """The standard deviation over folds."""
        return stdev(self.aucs[recipe])

    @property
    def best(self) -> str:
        """The recipe of the highest mean; of equals the first."""
        return max(self.aucs, key=self.mean)


@dataclass(frozen=True)
class Reference:
    """The linear model on the features that a network is trained on, which the network should beat."""

    network: Blend
    fold_models: tuple[LinearModel, ...]  # each fitted without one fold; none if nothing can be held out
    held_out: HeldOut | None


def fit_reference(
    network: Network, features: TrainingFeatures, grids: Grids, bags: Bags, seed: int, device: torch.device
) -> Reference:
    config = network.config
    reference = Blend(linear_model(config.feature_dim, config.scales, grids)).to(device)
    if isinstance(network, Blend):
        assert isinstance(features, PreparedFeatures)
        fitted = {name: value for name, value in network.state_dict().items() if name.startswith(FITTED)}
        reference.load_state_dict(fitted, strict=False)
        prepared, num_folds = features, network.config.num_folds
    else:
        fit_preparation(reference, bags)
        prepared, num_folds = PreparedFeatures(reference, bags, device), LINEAR_FOLDS
        fit_linear(reference, prepared, bags)
    folds = bags.assign_folds(num_folds, seed)
    models = _fit_folds(prepared, bags, folds, reference.config.linear_l2)
    return Reference(reference.eval(), models, score_held_out(reference, models, prepared, bags, folds))


def score_held_out(
    network: Blend, models: Sequence[LinearModel], features: PreparedFeatures, bags: Bags, folds: np.ndarray
) -> HeldOut | None:
    """Score each fold (V,) of the training videos with what has not seen it. None if nothing was held out."""
    if not models:
        return None
    linear, blend = (np.empty((len(folds), features.num_segments)) for _ in range(2))
    for fold, model in enumerate(models):
        inside = np.flatnonzero(folds == fold)
        for start in range(0, len(inside), CHUNK_VIDEOS):
            chunk = inside[start : start + CHUNK_VIDEOS]
            with torch.no_grad():
                prepared = features.select(bags.training[chunk])
                logits = model.logits(prepared)
                linear[chunk] = logits.cpu().numpy()
                blend[chunk] = _blend(network, logits, fold, prepared).cpu().numpy()
    return HeldOut(bags.training_labels, linear, blend)


def _fit_folds(features: PreparedFeatures, bags: Bags, folds: np.ndarray, l2: float) -> tuple[LinearModel, ...]:
    """Fit the linear model without each fold in turn."""
    order = np.argsort(bags.training)  # in which `features` are not copied
    prepared = features.select(bags.training[order])
    labels = torch.from_numpy(bags.training_labels[order]).float().to(features.device)
    seen = [torch.from_numpy(folds[order] != fold).float().to(features.device) for fold in range(folds.max() + 1)]
    return tuple(fit_logistic(prepared, labels, l2, each) for each in seen)


def _find_threshold(normal: np.ndarray, rate: float) -> float:
    """The lowest threshold that at most a share `rate` of the scores reaches; above all of them if they are too few."""
    highest = np.sort(normal)[::-1]
    return float(np.nextafter(highest[int(rate * len(highest))], np.inf))


def _blend(network: Blend, linear: Tensor, fold: int, prepared: Prepared) -> Tensor:
    """Blend the linear model with the networks that have not seen `fold`, one of each kind: (B, T)."""
    unseen = [i for i, held_out in enumerate(network.config.held_out_folds) if held_out == fold]
    logits = torch.stack([linear, *(network.networks[i](prepared) for i in unseen)])
    spread = network.spread[[0, *(1 + i for i in unseen)]]
    return (logits / spread[:, None, None]).mean(dim=0)
