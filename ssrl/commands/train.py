"""ssrl-train: patch-feature store → best.pt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssrl.commands.options import HELP, parse_numbers
from ssrl.console import command_errors, note, notes, percent, progress_bar, results

if TYPE_CHECKING:
    from ssrl.train.losses import Losses
    from ssrl.train.stages import Run, StageResult


@click.command(context_settings=HELP)
@click.option(
    "--scales", default="1,2,3,4", show_default=True, callback=parse_numbers, help="In order of introduction."
)
@click.option("--features", type=click.Path(path_type=Path), help="The store.  [default: the one below features/]")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/STORE-seedN]")
@click.option(
    "--recipe", default="paper", show_default=True, help="paper, released (the authors' code), or small (few videos)."
)
@click.option("--stages", default="step", show_default=True, help="step: one scale at a time; joint: all at once.")
@click.option("--steps", type=int, help="Batches a stage.  [default: the recipe's]")
@click.option("--learning-rate", type=float, help="Of Adam.  [default: the recipe's]")
@click.option("--seed", default=0, show_default=True, help="Of initialisation, batches and dropout.")
@click.option("--select", default="last", show_default=True, help="What is best: the last step, or val, or test AUC.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--share-psr", is_flag=True, help="Ablation: one PSR for all scales (Table 1).")
@click.option("--no-psr", is_flag=True, help="Ablation: without PSR (Table 4).")
@click.option("--no-dilated", is_flag=True, help="Ablation: PSR without its dilated convolutions (Table 5).")
@click.option("--no-non-local", is_flag=True, help="Ablation: PSR without its non-local block (Table 5).")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@command_errors
def main(
    scales: tuple[int, ...],
    features: Path | None,
    out: Path | None,
    recipe: str,
    stages: str,
    steps: int | None,
    learning_rate: float | None,
    seed: int,
    select: str,
    device: str,
    share_psr: bool,
    no_psr: bool,
    no_dilated: bool,
    no_non_local: bool,
    resume: bool,
) -> None:
    """Train PSR, MPA, VTR and the classifier on video-level labels, adding one scale a stage.

    Example: ssrl-train --scales 1,2,3,4 --features features/shanghaitech --seed 1 --out runs/one
    """
    from ssrl.evaluate.scoring import frame_auc
    from ssrl.hardware import choose_device
    from ssrl.model.recipes import MODELS, ablated
    from ssrl.store.reader import Store, find_store
    from ssrl.train.config import training_config
    from ssrl.train.stages import Trainer

    store = Store(features or find_store(Path("features")))
    options = {"steps": steps, "learning_rate": learning_rate}
    given = {name: value for name, value in options.items() if value is not None}
    config = training_config(recipe, scales=scales, stages=stages, seed=seed, select=select, **given)
    grids = {grid.scale: (grid.rows, grid.cols) for grid in store.config.geometry.grids}
    model = ablated(
        MODELS[recipe](store.config.feature_dim, scales, grids),
        share_psr=share_psr,
        no_psr=no_psr,
        no_dilated=no_dilated,
        no_non_local=no_non_local,
    )
    folder = out or Path("runs") / f"{store.root.name}-seed{seed}"
    trainer = Trainer(store, folder, config, model, choose_device(device), frame_auc(store))
    with TrainingProgress(len(config.stage_scales)) as progress:
        run = trainer.run(progress, resume)
    _report(run, linked=out is None)


class TrainingProgress:
    """A bar a stage, and a line at its end."""

    def __init__(self, num_stages: int) -> None:
        self._num_stages = num_stages
        self._bar = progress_bar("steps")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def stage_begins(self, stage: int, scales: tuple[int, ...], first_step: int, last_step: int) -> None:
        title = f"stage {stage}/{self._num_stages}, scales {','.join(map(str, scales))}"
        self._task = self._bar.add_task(title, total=last_step, completed=first_step, news="")
        if not notes.is_terminal:
            note(f"{title}: {last_step - first_step} steps")

    def step_done(self, step: int, losses: Losses) -> None:
        self._bar.update(self._task, completed=step, news=f"loss {losses.total.item():.3f}")

    def stage_ends(self, result: StageResult) -> None:
        note(f"stage {result.stage} ended after {result.seconds:.0f} s, test AUC {percent(result.last_test_auc)}")


def _report(run: Run, linked: bool) -> None:
    last = run.stages[-1]
    results.print(f"best: {run.best} (selected by {last.selection}, step {last.selected_step} of {last.last_step})")
    results.print(f"test AUC, selected: {percent(last.selected_test_auc)}; last step: {percent(last.last_test_auc)}")
    if last.selection == "test":
        results.print("the step was chosen on the test videos, as published results are: an optimistic figure")
    if linked:
        _link(Path("best.pt"), run.best)


def _link(path: Path, target: Path) -> None:
    """Make `path` a link to `target`, in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(target)
    os.replace(temporary, path)
    results.print(f"{path} → {target}", markup=False)
