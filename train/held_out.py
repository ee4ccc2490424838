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

from ssrl.config import CHANCE, FALSE_ALARM_RATES, LINEAR, Calibration
from ssrl.model.blend import Blend, LinearModel
from ssrl.model.build import Network
from ssrl.model.config import LINEAR_FOLDS, BlendConfig
from ssrl.model.domain import Domain
from ssrl.train.blend import CHUNK_VIDEOS, PreparedFeatures, fit_linear, fit_logistic, fit_preparation
from ssrl.train.data import Bags
from ssrl.train.domain import fit_domain
from ssrl.train.features import TrainingFeatures

FITTED = ("preparation.", "linear")  # what a blend's linear model consists of
RESAMPLES = 1000
SURE = 0.84  # share of the resamples: one standard error
THRESHOLD = 0.5  # at least
MIN_SLOPE = 0.05  # of the calibration, so that scores keep their order where the held-out videos show none


@dataclass(frozen=True)
class HeldOut:
    """Logits of training videos from models that have not seen them, in units of their spread."""

    labels: np.ndarray  # (V,)
    logits: Mapping[str, np.ndarray]  # LINEAR, or the loss of the networks → (V, S)
    folds: np.ndarray  # (V,)

    @property
    def linear_auc(self) -> float:
        return self.compute_auc({LINEAR: 1.0})

    def compute_auc(self, weights: Mapping[str, float]) -> float:
        """Video-level AUC of a blend: the highest segment of each video."""
        return float(roc_auc_score(self.labels, self._blend(weights).max(axis=1)))

    def measure_auc(self, seed: int) -> float:
        """Video-level AUC of a blend whose weights are chosen, for each fold, by the others."""
        scores = np.empty(len(self.labels))
        for fold in np.unique(self.folds):
            inside = self.folds == fold
            weights = self._select(~inside).choose_weights(seed)
            scores[inside] = self._select(inside)._blend(weights).max(axis=1)
        return float(roc_auc_score(self.labels, scores))

    def _select(self, videos: np.ndarray) -> HeldOut:
        logits = {name: each[videos] for name, each in self.logits.items()}
        return HeldOut(self.labels[videos], logits, self.folds[videos])

    def choose_weights(self, seed: int) -> dict[str, float]:
        """Weigh the members of a blend by how often each is the best on resampled videos (bootstrap).

        Where no network beats the linear model, it stands alone, and also where nothing is surely better than chance;
        where one does, half goes to the best kind of network and half to all members alike, since averages of unlike
        models hold better than any of them.
        """
        names = list(self.logits)
        aucs = np.stack([_resample_aucs(self.labels, self.logits[name].max(axis=1), seed) for name in names], axis=1)
        if (aucs > CHANCE).mean(axis=0).max() < SURE:
            return {name: float(name == LINEAR) for name in names}
        best = aucs.round(9).argmax(axis=1)  # of equals the first, which is the linear model
        weights = np.zeros(len(names))
        for index, count in enumerate(np.bincount(best, minlength=len(names))):
            choice = np.eye(len(names))[index]
            weights += count * (choice if index == 0 else (choice + 1 / len(names)) / 2)
        return dict(zip(names, (weights / len(best)).tolist(), strict=True))

    def calibrate(self, weights: Mapping[str, float]) -> Calibration:
        """Fit slope and offset of a blend's logits (Platt, 1999), and find its thresholds.

        A score is the share of such segments that come from abnormal videos, if both kinds were equally frequent.
        """
        blend = self._blend(weights)
        logits, labels = blend.reshape(-1, 1), np.repeat(self.labels, blend.shape[1])
        model = LogisticRegression(class_weight="balanced")
        model.fit(logits, labels, sample_weight=np.full(len(labels), 1 / blend.shape[1]))
        slope = max(float(model.coef_[0, 0]), MIN_SLOPE)
        offset = float(model.intercept_[0]) if slope > MIN_SLOPE else 0.0
        normal = 1 / (1 + np.exp(-(slope * blend[self.labels == 0].ravel() + offset)))
        thresholds = {rate: _find_threshold(normal, rate) for rate in FALSE_ALARM_RATES}
        return Calibration(dict(weights), slope, offset, thresholds, int((self.labels == 0).sum()))

    def _blend(self, weights: Mapping[str, float]) -> np.ndarray:
        return np.asarray(sum(weight * self.logits[name] for name, weight in weights.items()))


def _resample_aucs(labels: np.ndarray, scores: np.ndarray, seed: int) -> np.ndarray:
    """(RESAMPLES,): the AUC of scores (V,) on videos drawn with replacement, each kind as often as there are."""
    abnormal, normal = scores[labels == 1], scores[labels == 0]
    wins = np.sign(abnormal[:, None] - normal) / 2 + 0.5  # (abnormal, normal)
    generator = np.random.default_rng([seed, 4])
    counts = [generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n for n in wins.shape]
    return np.asarray(((counts[0] @ wins) * counts[1]).sum(axis=1))


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
    domain: Domain | None


def fit_reference(
    network: Network,
    features: TrainingFeatures,
    linear: BlendConfig,
    bags: Bags,
    seed: int,
    device: torch.device,
) -> Reference:
    """Fit the linear model of a configuration to the scales that the network has."""
    reference = Blend(linear.with_scales(network.config.scales)).to(device)
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
    held_out = score_held_out(reference, models, prepared, bags, folds)
    return Reference(reference.eval(), models, held_out, fit_domain(reference, prepared, bags, folds))


def score_held_out(
    network: Blend, models: Sequence[LinearModel], features: PreparedFeatures, bags: Bags, folds: np.ndarray
) -> HeldOut | None:
    """Score each fold (V,) of the training videos with what has not seen it. None if nothing was held out."""
    if not models or not network.config.cross_fit:
        return None
    names = [LINEAR, *dict.fromkeys(network.config.losses)]
    logits = {name: np.empty((len(folds), features.num_segments)) for name in names}
    for fold, model in enumerate(models):
        inside = np.flatnonzero(folds == fold)
        unseen = [i for i, held_out in enumerate(network.config.held_out_folds) if held_out == fold]
        for start in range(0, len(inside), CHUNK_VIDEOS):
            chunk = inside[start : start + CHUNK_VIDEOS]
            with torch.no_grad():
                prepared = features.select(bags.training[chunk])
                logits[LINEAR][chunk] = (model.logits(prepared) / network.spread[0]).cpu().numpy()
                for i in unseen:
                    each = network.networks[i](prepared) / network.spread[1 + i]
                    logits[network.config.losses[i]][chunk] = each.cpu().numpy()
    return HeldOut(bags.training_labels, logits, folds)


def _fit_folds(features: PreparedFeatures, bags: Bags, folds: np.ndarray, l2: float) -> tuple[LinearModel, ...]:
    """Fit the linear model without each fold in turn."""
    order = np.argsort(bags.training)  # in which `features` are not copied
    prepared = features.select(bags.training[order])
    labels = torch.from_numpy(bags.training_labels[order]).float().to(features.device)
    seen = [torch.from_numpy(folds[order] != fold).float().to(features.device) for fold in range(folds.max() + 1)]
    return tuple(fit_logistic(prepared, labels, l2, each) for each in seen)


def _find_threshold(normal: np.ndarray, rate: float) -> float:
    """The lowest threshold that at most a share `rate` of the scores reaches; above all of them if they are too few. An
    even score is no alarm, however low those of normal videos are.
    """
    highest = np.sort(normal)[::-1]
    return max(THRESHOLD, float(np.nextafter(highest[int(rate * len(highest))], np.inf)))
