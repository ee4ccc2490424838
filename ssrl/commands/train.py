"""ssrl-train: patch-feature store → best.pt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssrl.commands.options import HELP, make_request, option, parse_numbers, show_numbers
from ssrl.config import CHANCE, ENOUGH_NORMAL, LINEAR
from ssrl.console import as_percent, handle_errors, results, warn
from ssrl.files import check_output
from ssrl.hardware import is_first_process
from ssrl.model.recipes import RECIPES
from ssrl.workflows.train import AUTO, FOLDS, TrainRequest, cross_validate, train_model

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint, StageResult
    from ssrl.train.stages import Run


LINK = Path("best.pt")  # to the checkpoint of the last run without --out


@click.command(context_settings=HELP)
@option(TrainRequest, "scales", callback=parse_numbers, show=show_numbers, help="Scales in order of introduction.")
@option(TrainRequest, "features", help="Feature store.  [default: the one below features/]")
@option(TrainRequest, "out", help="Run folder.  [default: runs/STORE-seedN]")
@option(TrainRequest, "recipe", help=f"One of {', '.join(RECIPES)}, or auto; several with --cv, as in linear,blend.")
@option(TrainRequest, "cv", help="Compare recipes on K folds of the training videos.  [default: 5 for auto]")
@option(TrainRequest, "stages", help="step: one scale at a time; joint: all at once.")
@option(TrainRequest, "steps", help="Batches per stage.  [default: the recipe's]")
@option(TrainRequest, "learning_rate", help="Learning rate of Adam.  [default: the recipe's]")
@option(TrainRequest, "members", help="Networks of each kind in a blend.  [default: the recipe's]")
@option(TrainRequest, "seed", help="Seed of initialization, batches and dropout.")
@option(TrainRequest, "select", help="Step to select: the last, or the one with the best val or test AUC.")
@option(TrainRequest, "freeze_previous", help="Keep the branches of earlier stages as they are: faster stages.")
@option(TrainRequest, "accumulate", help="Divide batches in so many parts, to hold fewer videos at a time.")
@option(TrainRequest, "precision", help="Of PSR and MPA; auto measures which is faster here.")
@option(TrainRequest, "cache", help="Where a stage's features are kept.")
@option(TrainRequest, "device", help="Device to train on.")
@option(TrainRequest, "share_psr", help="Ablation: one PSR for all scales (Table 1).")
@option(TrainRequest, "no_psr", help="Ablation: without PSR (Table 4).")
@option(TrainRequest, "no_dilated", help="Ablation: PSR without its dilated convolutions (Table 5).")
@option(TrainRequest, "no_non_local", help="Ablation: PSR without its non-local block (Table 5).")
@option(TrainRequest, "resume", help="Resume the run in --out.")
@option(TrainRequest, "tensorboard", help="Write scalars for TensorBoard to the run's folder tensorboard.")
@handle_errors
def main(**options: Any) -> None:
    """Train PSR, MPA, VTR and the classifier on video-level labels, adding one scale per stage.

    Example: ssrl-train --scales 1,2,3,4 --features features/shanghaitech --seed 1 --out runs/one
    """
    from ssrl.commands.progress import TrainingProgress, format_comparison

    request = make_request(TrainRequest, **options)
    if request.cv is not None and request.recipe != AUTO:
        with TrainingProgress() as progress:
            compared = cross_validate(request, progress)
        if is_first_process():
            results.print(format_comparison(compared))
        return
    if request.out is None and not LINK.exists():
        check_output(LINK)
    with TrainingProgress() as progress:
        run = train_model(request, progress)
    if not is_first_process():
        return
    report(run)
    if request.out is None:
        link(LINK, run.best)


def report(run: Run) -> None:
    from ssrl.checkpoints import load_checkpoint

    last = run.stages[-1]
    results.print(f"best: {run.best} (selected by {last.selection}, step {last.selected_step} of {last.last_step})")
    results.print(f"test AUC: selected {as_percent(last.selected_test_auc)}, last {as_percent(last.last_test_auc)}")
    results.print(f"linear model on the same features: {as_percent(last.linear_test_auc)}")
    checkpoint = load_checkpoint(run.best)
    results.print(describe_held_out(last, checkpoint))
    if checkpoint.calibration is not None and checkpoint.calibration.is_rough:
        results.print(
            f"thresholds are rough: {checkpoint.calibration.num_normal} normal videos are few; train on "
            f"{ENOUGH_NORMAL} or more for a share of false alarms that holds elsewhere"
        )
    if last.selection == "test":
        results.print("the step was selected on the test videos, as in published results: the AUC is optimistic")


def describe_held_out(last: StageResult, checkpoint: Checkpoint) -> str:
    """Compare with the linear model on training videos that neither has seen, and say what follows."""
    network, linear = last.held_out_auc, last.linear_held_out_auc
    weights = {} if checkpoint.calibration is None else checkpoint.calibration.weights
    if linear is None:
        return "no training video could be held out: that takes two of each kind; scores are not calibrated"
    if max(network or 0.0, linear) <= CHANCE:
        return (
            f"held-out training videos: video-level AUC {as_percent(network)}, linear {as_percent(linear)}: no better "
            f"than chance, so these features and labels do not tell the two kinds of videos apart; check the labels, "
            f"add videos, or try another encoder"
        )
    if network is None:
        return (
            f"on held-out training videos the linear model has a video-level AUC of {as_percent(linear)}; "
            f"compare the two with --cv {FOLDS}"
        )
    if list(weights) == [LINEAR]:
        return f"held-out training videos: video-level AUC {as_percent(linear)}"
    if weights.get(LINEAR) == 1:
        return (
            f"held-out training videos: video-level AUC {as_percent(linear)}, which no network surpasses: the blend is "
            f"its linear model alone, which --recipe linear trains in seconds"
        )
    if network <= linear:
        recipe = checkpoint.training.recipe if checkpoint.training else "blend"
        return (
            f"on held-out training videos the linear model is {'better' if network < linear else 'as good'} "
            f"(video-level AUC {as_percent(linear)}, here {as_percent(network)}): train it with --recipe linear, or "
            f"compare the two with --recipe linear,{recipe} --cv {FOLDS}"
        )
    return f"held-out training videos: video-level AUC {as_percent(network)}, linear {as_percent(linear)}"


def link(path: Path, target: Path) -> None:
    """Point the symlink `path` to `target`, atomically. A file of that name is the user's, and stays."""
    if path.exists() and not path.is_symlink():
        warn(f"{path} is not a link from an earlier run and is kept; the new checkpoint is {target}")
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(target)
    os.replace(temporary, path)
    results.print(f"{path} → {target}", markup=False)


if __name__ == "__main__":
    main()
