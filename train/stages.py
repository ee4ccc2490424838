"""Step-by-step training (Sect. 4.2): stage s starts from the best weights of stage s-1 and adds one scale.

    stage 1  scale 1            random  ──▶ best
    stage 2  scales 1, 2        best of stage 1 + a new branch  ──▶ best
    stage 3  scales 1, 2, 3     best of stage 2 + a new branch  ──▶ ...

A run is a folder: best.pt and last.pt (of the last finished stage), stage-N.pt, state.pt (to resume from), log.jsonl.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from ssrl.checkpoints import (
    Checkpoint,
    FeatureSource,
    StageResult,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from ssrl.config import TrainConfig
from ssrl.errors import UserError
from ssrl.files import copy
from ssrl.model.build import Network, build_network
from ssrl.model.config import AnyModelConfig, BlendConfig
from ssrl.model.domain import Domain
from ssrl.model.network import SSRL
from ssrl.model.recipes import linear_model
from ssrl.plain import from_plain, list_differences, to_plain
from ssrl.store.reader import Store
from ssrl.store.segments import SegmentView, measure_segment_length, open_segment_view
from ssrl.train.data import Bags, Fold, compute_statistics, make_bags
from ssrl.train.features import Cache
from ssrl.train.held_out import CrossValidation, fit_reference
from ssrl.train.log import LOG, CheckRecord, Log, StepRecord
from ssrl.train.loop import Calibrated, Measure, StageState, StageTrainer, compute_video_auc
from ssrl.train.losses import Losses
from ssrl.train.steps import Weights
from ssrl.train.team import ALONE, Team, explain_lost_rank

BEST, LAST, STATE = "best.pt", "last.pt", "state.pt"
SAVE_SECONDS = 10.0  # between two saved states, at least


class TrainingWatcher:
    """Callbacks of a training run. They do nothing: override those of interest. Steps, checks and results are in the
    run's log before they are told.
    """

    def fold_begins(self, recipe: str, index: int, count: int) -> None: ...

    def recipe_chosen(self, result: CrossValidation) -> None: ...

    def video_pooled(self, done: int, count: int) -> None: ...

    def linear_fitted(self, test_auc: float | None, held_out_auc: float | None) -> None: ...

    def stage_begins(self, stage: int, scales: tuple[int, ...], first_step: int, last_step: int) -> None: ...

    def step_done(self, record: StepRecord) -> None: ...

    def check_done(self, record: CheckRecord) -> None: ...

    def stage_ends(self, result: StageResult) -> None: ...


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    stages: tuple[StageResult, ...]

    @property
    def best(self) -> Path:
        return self.folder / BEST


@dataclass(frozen=True)
class SavedRun:
    """A run's progress and settings, to resume from."""

    config: TrainConfig
    model: AnyModelConfig
    store: str  # fingerprint of its configuration
    videos: str  # fingerprint of their labels and sources
    stage: int
    done: tuple[StageResult, ...]
    state: StageState
    fold: Fold | None = None


@dataclass(frozen=True)
class Trainer:
    """Everything a run needs. `test_auc` measures a network on the test videos, if they have frame labels."""

    store: Store
    folder: Path
    config: TrainConfig
    model: AnyModelConfig
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    test_auc: Measure | None = None
    fold: Fold | None = None  # to hold out, for cross-validation
    cache: Cache = "auto"  # where the features of a stage are kept
    team: Team = ALONE

    def run(self, watcher: TrainingWatcher, resume: bool = False) -> Run:
        """Train all stages; with `resume`, continue where the run in `folder` stopped."""
        with explain_lost_rank(self.team):
            return self._run(watcher if self.team.leads else TrainingWatcher(), resume)

    def _run(self, watcher: TrainingWatcher, resume: bool) -> Run:
        done, state = self._load_progress(resume)
        self.team.wait()
        if self.team.leads:
            self._log.cut_back(len(done) + 1, state.step)
        self.store.check_scales(self.config.scales)
        view = self._open_view(watcher)
        held_out = self.config.val_fraction if self.config.select == "val" else 0.0
        bags = make_bags(self.store, view, held_out, self.config.seed)
        if self.fold is not None:
            bags = bags.hold_out(self.fold, self.config.seed)
        for stage, scales in enumerate(self.config.stage_scales, 1):
            if stage <= len(done):
                continue
            network = self._build_network(stage, scales, bags)
            done.append(self._train_stage(stage, network, bags, done, state, watcher))
            state = StageState()
        return Run(self.folder, tuple(done))

    def _open_view(self, watcher: TrainingWatcher) -> SegmentView:
        """Built by the first rank, if need be."""
        numbers, total = itertools.count(1), len(self.store.ids())

        def on_video(_: str) -> None:
            watcher.video_pooled(next(numbers), total)

        if not self.team.leads:
            self.team.wait()
        view = open_segment_view(self.store, self.config.num_segments, on_video)
        if self.team.leads:
            self.team.wait()
        return view

    def find_finished(self) -> Run | None:
        """Find the run in `folder`, if all its stages are done. Raises a UserError if its settings differ."""
        if not self._get_stage_path(len(self.config.stage_scales)).exists():
            return None
        done, _ = self._load_progress(resume=True)
        return Run(self.folder, tuple(done)) if len(done) == len(self.config.stage_scales) else None

    def _build_network(self, stage: int, scales: tuple[int, ...], bags: Bags) -> Network:
        torch.manual_seed(self.config.seed * 1000 + stage)
        network = build_network(self.model.with_scales(scales))
        if isinstance(network, SSRL) and network.config.standardize:
            for scale in scales:
                mean, std = compute_statistics(bags.view, scale, bags.training)
                network.standardize[str(scale)].load_state_dict({"mean": mean, "std": std})
        if stage > 1:
            warm_start(network, load_checkpoint(self._get_stage_path(stage - 1)).weights)
        return network

    def _train_stage(
        self,
        stage: int,
        network: Network,
        bags: Bags,
        done: list[StageResult],
        state: StageState,
        watcher: TrainingWatcher,
    ) -> StageResult:
        config = self.config.for_stage(stage)
        trainer = StageTrainer(network, bags, config, stage, self.device, self.cache, self.team)
        measure = self._choose_measure(bags, trainer)
        if not self.team.leads:
            trainer.run(state, measure, lambda *_: None, lambda *_: None)
            return self.team.receive()  # type: ignore[no-any-return]
        reference = fit_reference(network, trainer.features, self._linear, bags, self.config.seed, self.device)
        linear_test_auc = None if self.test_auc is None else self.test_auc(reference.network)
        linear_auc = reference.held_out.linear_auc if reference.held_out else None
        watcher.linear_fitted(linear_test_auc, linear_auc)
        watcher.stage_begins(stage, network.config.scales, state.step, config.steps)
        start = saved = time.monotonic()

        def on_step(step: int, losses: Losses, seconds: float) -> None:
            record = StepRecord(stage, step, round(seconds, 4), trainer.learning_rate, losses.to_json())
            self._log.append(record)
            watcher.step_done(record)

        def on_check(state: StageState, value: float | None) -> None:
            nonlocal saved
            if self.config.select != "last":
                record = CheckRecord(stage, state.step, self.config.select, value)
                self._log.append(record)
                watcher.check_done(record)
            if time.monotonic() - saved >= SAVE_SECONDS:
                self._save_state(stage, done, state)
                saved = time.monotonic()

        state = trainer.run(state, measure, on_step, on_check)
        last = trainer.calibrate(state.result, reference)
        last_test_auc = self._measure_test_auc(network, last.weights)
        best, best_test_auc = last, last_test_auc
        if state.best_step != state.step:
            best = trainer.calibrate(state.best_weights, reference)
            best_test_auc = self._measure_test_auc(network, best.weights)
        result = StageResult(
            stage,
            network.config.scales,
            self.config.select,
            state.best_step,
            state.best_value,
            state.step,
            best_test_auc,
            last_test_auc,
            linear_test_auc,
            best.held_out_auc if self.fold is None else self._score_fold(network, best, bags, trainer),
            linear_auc,
            round(time.monotonic() - start, 2),
        )
        self._finish_stage(network.config, result, done, last, best, reference.domain)
        watcher.stage_ends(result)
        self.team.send(result)
        return result

    def _choose_measure(self, bags: Bags, trainer: StageTrainer) -> Measure | None:
        if self.config.select == "last":
            return None
        if self.config.select == "val":
            return lambda network: self.team.run_once(lambda: compute_video_auc(network, bags, trainer.features))
        test_auc = self.test_auc
        if test_auc is None:
            raise UserError("--select test needs test videos with frame labels; use --select last or val")
        return lambda network: self.team.run_once(lambda: test_auc(network))

    def _score_fold(self, network: Network, best: Calibrated, bags: Bags, trainer: StageTrainer) -> float | None:
        network.load_state_dict(dict(best.weights))
        return compute_video_auc(network.eval(), bags, trainer.features)

    def _measure_test_auc(self, network: Network, weights: Weights) -> float | None:
        if self.test_auc is None:
            return None
        network.load_state_dict(dict(weights))
        return self.test_auc(network.eval())

    def _finish_stage(
        self,
        model: AnyModelConfig,
        result: StageResult,
        done: list[StageResult],
        last: Calibrated,
        best: Calibrated,
        domain: Domain | None,
    ) -> None:
        results = [*done, result]
        save_checkpoint(self.folder / LAST, self._make_checkpoint(model, last, results, domain))
        if best is last:
            copy(self.folder / LAST, self.folder / BEST)
        else:
            save_checkpoint(self.folder / BEST, self._make_checkpoint(model, best, results, domain))
        copy(self.folder / BEST, self._get_stage_path(result.stage))
        self._log.append(result)  # before the state, so that no resumed run lacks it
        self._save_state(result.stage + 1, results, StageState())

    def _make_checkpoint(
        self, model: AnyModelConfig, best: Calibrated, results: list[StageResult], domain: Domain | None
    ) -> Checkpoint:
        features = FeatureSource(str(self.store.root.resolve()), self.store.config)
        return Checkpoint(model, best.weights, features, self.config, tuple(results), best.calibration, domain)

    def _save_state(self, stage: int, done: list[StageResult], state: StageState) -> None:
        saved = SavedRun(
            self.config,
            self.model,
            self.store.config.fingerprint,
            self._videos,
            stage,
            tuple(done),
            state,
            self.fold,
        )
        save_tensors(self.folder / STATE, to_plain(saved))

    def _load_progress(self, resume: bool) -> tuple[list[StageResult], StageState]:
        """The finished stages of the run in `folder`, and the state within the next one."""
        saved = load_run(self.folder)
        if saved is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            return [], StageState()
        if not resume:
            raise UserError(f"{self.folder} already holds a run; continue it with --resume, or choose another --out")
        requested = {
            "config": self.config,
            "model": self.model,
            "store": self.store.config.fingerprint,
            "fold": self.fold,
        }
        stored = {"config": saved.config, "model": saved.model, "store": saved.store, "fold": saved.fold}
        different = list_differences(requested, stored)
        if different:
            raise UserError(
                f"the run in {self.folder} has other settings (requested, not stored): {'; '.join(different)}. "
                f"Resume it with its own, or choose another --out"
            )
        if saved.videos != self._videos:
            raise UserError(
                f"the videos or labels in {self.store.root} have changed since the run in {self.folder} began, so its "
                f"results are not of these: train anew with another --out, or delete {self.folder}"
            )
        return list(saved.done), saved.state

    @cached_property
    def _linear(self) -> BlendConfig:
        """The linear model that stands beside the network's results."""
        linear = linear_model(self.model.feature_dim, self.model.scales, self.store.config.grids)
        return replace(linear, segment_length=measure_segment_length(self.store, self.config.num_segments))

    @cached_property
    def _videos(self) -> str:
        return fingerprint_videos(self.store)

    def _get_stage_path(self, stage: int) -> Path:
        return self.folder / f"stage-{stage}.pt"

    @property
    def _log(self) -> Log:
        return Log(self.folder / LOG)


def load_run(folder: Path) -> SavedRun | None:
    """The progress of the run in a folder; None if it holds none. Raises a UserError for one of another version."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return from_plain(SavedRun, load_tensors(path), path)
    except UserError as error:
        raise UserError(f"{error}. Start over with another --out, or delete {folder}") from error


def fingerprint_videos(store: Store) -> str:
    """A hash of what a run depends on: which videos there are, their labels, and what their features were made from."""
    digest = hashlib.sha256()
    for record in store.records():
        video = record.video
        facts = (video.id, video.label, video.split, video.anomalies, record.num_frames, record.rows)
        digest.update(f"{facts} {record.source_sha256}\n".encode())
    return digest.hexdigest()[:16]


def warm_start(network: Network, weights: Weights) -> list[str]:
    """Load the weights of the previous stage into `network`; return the names of its new parameters.

    Raises a UserError if the network has no place for one of those weights.
    """
    keys = network.load_state_dict(dict(weights), strict=False)
    if keys.unexpected_keys:
        raise UserError(f"the network has no place for these weights of the previous stage: {keys.unexpected_keys}")
    return list(keys.missing_keys)
