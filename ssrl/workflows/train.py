"""Patch-feature store → checkpoint, and the comparison of recipes on held-out training videos."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ssrl.config import LINEAR, Precision, Selection, Stages, TrainConfig
from ssrl.errors import UserError
from ssrl.hardware import Device
from ssrl.model.config import AnyModelConfig, BlendConfig
from ssrl.model.recipes import Grids, ablate, check_freezing, find_recipe, set_members

if TYPE_CHECKING:
    import torch

    from ssrl.store.reader import Store
    from ssrl.train.data import Fold
    from ssrl.train.held_out import CrossValidation
    from ssrl.train.stages import Run, Trainer, TrainingWatcher

AUTO = "auto"
AUTO_RECIPES = ("blend", LINEAR)
OF_NETWORKS = ("members", "share_psr", "no_psr", "no_dilated", "no_non_local", "freeze_previous")  # options
FOLDS = 5  # of a cross-validation
RUNS = "runs"


@dataclass(frozen=True)
class TrainRequest:
    """What to train on what. `steps` and `learning_rate` default to the recipe's."""

    features: Path | None = None  # the store; None: the one below features/
    out: Path | None = None  # the run's folder; None: runs/STORE-seedN
    recipe: str = "blend"  # "auto": the best of `AUTO` in cross-validation; several, for it, separated by commas
    scales: tuple[int, ...] = TrainConfig.scales  # in order of introduction
    stages: Stages = TrainConfig.stages
    steps: int | None = None  # batches per stage
    learning_rate: float | None = None
    members: int | None = None  # networks of each kind in a blend; None: the recipe's
    seed: int = TrainConfig.seed  # of initialization, batches and dropout
    select: Selection = TrainConfig.select  # step: the last, or the one with the best val or test AUC
    share_psr: bool = False  # ablations: see `ssrl.model.recipes.ablate`
    no_psr: bool = False
    no_dilated: bool = False
    no_non_local: bool = False
    freeze_previous: bool = TrainConfig.freeze_previous  # train the new scale's branch, VTR and classifier of a stage
    accumulate: int = TrainConfig.accumulate  # parts of a batch
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of PSR and MPA; the faster by a measurement
    cache: Literal["auto", "device", "memory", "disk"] = "auto"  # where the features of a stage are kept
    device: Device = "auto"
    resume: bool = False  # the run in `out`
    tensorboard: bool = False  # write scalars below `out`/tensorboard
    cv: int | None = None  # folds of a cross-validation; None: five for "auto", else none

    def __post_init__(self) -> None:
        if self.cv is not None and self.cv < 2:
            raise UserError(f"a cross-validation needs at least 2 folds, not {self.cv}; change --cv")
        if self.cv is not None and self.recipe != AUTO and self.tensorboard:
            raise UserError("--cv compares recipes and leaves no run for --tensorboard to show; leave one of them out")
        if self.cv is not None and self.recipe != AUTO and self.select != "last":
            raise UserError(f"--cv compares the last steps of recipes; leave out --select {self.select}")
        if "," in self.recipe and AUTO in self.recipe.split(","):
            raise UserError(f"{AUTO} compares {' and '.join(AUTO_RECIPES)} by itself; name recipes, or {AUTO} alone")
        if "," in self.recipe and self.cv is None:
            raise UserError(f"to train {self.recipe}, choose one of them; to compare them, add --cv 5")
        if self.recipe == AUTO or "," in self.recipe:
            self.split()
            return
        model = self.model(8, dict.fromkeys(self.scales, (3, 3)))
        self.config()  # runs its checks
        if self.freeze_previous:
            check_freezing(model)
        if isinstance(model, BlendConfig):
            self._check_blend()

    def _check_blend(self) -> None:
        """Raise a UserError for what serves the paper's network alone."""
        for name, value in (("precision", self.precision), ("accumulate", self.accumulate)):
            if value not in ("auto", "float32", 1):
                small = f"--recipe {self.recipe} trains small networks in float32 and in whole batches"
                raise UserError(f"{small}; leave out --{name} {value}")

    def split(self) -> tuple[TrainRequest, ...]:
        """One request for each of its recipes."""
        names = AUTO_RECIPES if self.recipe == AUTO else tuple(dict.fromkeys(self.recipe.split(",")))
        if len(names) == 1:
            return (replace(self, recipe=names[0]),)
        of_networks = {name: getattr(TrainRequest, name) for name in OF_NETWORKS}
        return tuple(replace(self, recipe=name, **(of_networks if name == LINEAR else {})) for name in names)

    def config(self, precision: Precision = "float32") -> TrainConfig:
        same = ("scales", "stages", "seed", "select", "freeze_previous", "accumulate")
        changes = {name: getattr(self, name) for name in same}
        for name in ("steps", "learning_rate"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        return find_recipe(self.recipe).training(precision=precision, **changes)

    def model(self, feature_dim: int, grids: Grids) -> AnyModelConfig:
        model = find_recipe(self.recipe).model(feature_dim, self.scales, grids)
        if self.members is not None:
            model = set_members(model, self.members)
        return ablate(
            model,
            share_psr=self.share_psr,
            no_psr=self.no_psr,
            no_dilated=self.no_dilated,
            no_non_local=self.no_non_local,
        )


def train_model(request: TrainRequest, watcher: TrainingWatcher | None = None) -> Run:
    """Train stage by stage, testing each stage if the test videos have frame labels, and draw the curves of each. The
    recipe "auto" is chosen by a cross-validation first.

    Raises a UserError if the store lacks a scale, or normal or abnormal videos, if the folder holds another run, or if
    a loss is not finite.
    """
    from ssrl.files import check_output
    from ssrl.hardware import is_first_process, is_restarted
    from ssrl.store.reader import Store, find_store
    from ssrl.train.stages import TrainingWatcher
    from ssrl.workflows.curves import CurveDrawer
    from ssrl.workflows.tensorboard import TensorBoardWriter, check_tensorboard
    from ssrl.workflows.watchers import Watchers

    if request.tensorboard:
        check_tensorboard()
    watcher = watcher or TrainingWatcher()
    if is_restarted():
        request = replace(request, resume=True)
    check_output(request.out or Path(RUNS), is_folder=True)
    if request.recipe == AUTO:
        result = cross_validate(request, watcher)
        watcher.recipe_chosen(result)
        request = replace(request, recipe=result.best, cv=None)
    store = Store(request.features or find_store(Path("features")))
    trainer = open_trainer(request, store)
    with ExitStack() as stack:
        watchers = [watcher, CurveDrawer(trainer.folder)]
        if request.tensorboard and is_first_process():
            watchers.append(stack.enter_context(TensorBoardWriter(trainer.folder, trainer.config)))
        return trainer.run(Watchers(*watchers), request.resume)


def cross_validate(request: TrainRequest, watcher: TrainingWatcher | None = None) -> CrossValidation:
    """Train each recipe of the request K times, each time without one fold of the training videos, and score that fold.
    Test videos are not touched. The folds are the same for all recipes; finished ones are kept with `resume`.

    Raises a UserError if a kind of video has fewer than K.
    """
    from ssrl.store.reader import Store, find_store
    from ssrl.train.data import Fold
    from ssrl.train.held_out import CrossValidation
    from ssrl.train.stages import TrainingWatcher

    watcher = watcher or TrainingWatcher()
    store = Store(request.features or find_store(Path("features")))
    count = request.cv or choose_num_folds(store)
    aucs: dict[str, tuple[float, ...]] = {}
    for single in request.split():
        values = []
        for index in range(count):
            trainer = open_trainer(replace(single, select="last"), store, Fold(index, count))
            watcher.fold_begins(single.recipe, index, count)
            auc = (trainer.find_finished() or trainer.run(watcher, request.resume)).stages[-1].held_out_auc
            assert auc is not None
            values.append(auc)
        aucs[single.recipe] = tuple(values)
    return CrossValidation(aucs)


def choose_num_folds(store: Store) -> int:
    """Five, or as many as the smaller kind of training videos has. Raises a UserError if that is one."""
    labels = [record.video.label for record in store.records("train")]
    smaller = min(labels.count(0), labels.count(1))
    if smaller < 2:
        raise UserError(
            f"choosing a recipe needs two training videos of each kind, and there are {labels.count(1)} abnormal and "
            f"{labels.count(0)} normal ones; name one with --recipe"
        )
    return min(FOLDS, smaller)


def open_trainer(request: TrainRequest, store: Store, fold: Fold | None = None) -> Trainer:
    """Set up the trainer of a run, or of a fold of a cross-validation, which leaves the test videos alone."""
    from ssrl.evaluate.scoring import make_frame_auc
    from ssrl.hardware import choose_device
    from ssrl.store.segments import measure_segment_length
    from ssrl.train.stages import Trainer
    from ssrl.train.team import Team

    folder = request.out or Path(RUNS) / f"{store.root.name}-seed{request.seed}"
    if fold is not None:
        folder = folder / f"cv-{fold.count}" / f"{request.recipe}-{fold.index}"
    model = request.model(store.config.feature_dim, store.config.grids)
    if isinstance(model, BlendConfig):
        model = replace(model, segment_length=measure_segment_length(store))
    device = choose_device(request.device)
    team = Team.join(device)
    config = request.config(team.run_once(lambda: settle_precision(request, model, folder, device)))
    test_auc = make_frame_auc(store) if fold is None else None
    return Trainer(store, folder, config, model, device, test_auc, fold, request.cache, team)


def settle_precision(request: TrainRequest, model: AnyModelConfig, folder: Path, device: torch.device) -> Precision:
    """The precision that was asked for; for "auto" that of the run in `folder`, or else the faster one."""
    from ssrl.train.precision import choose_precision
    from ssrl.train.stages import load_run

    if isinstance(model, BlendConfig):
        return "float32"
    if request.precision != "auto":
        return request.precision
    saved = load_run(folder)
    return choose_precision(model.feature_dim, device) if saved is None else saved.config.precision
