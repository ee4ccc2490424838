"""The recipes side by side: python -m benchmarks.recipes features/ped2 features/synthetic --out docs/recipes.md

Trains every recipe on every store with several seeds, without selection on test labels, and writes one page: the frame
AUC of each stage at its last step, mean and standard deviation over seeds. If killed, it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click

from ssrl.commands.options import parse_numbers
from ssrl.commands.progress import TrainingProgress
from ssrl.console import note, results
from ssrl.files import write_text
from ssrl.hardware import count_cores, describe_processor
from ssrl.model.recipes import RECIPES
from ssrl.paper_tables.markdown import format_table
from ssrl.store.reader import Store
from ssrl.workflows.train import TrainRequest, train_model

Aucs = Sequence[Sequence[float]]  # seed → stage → frame AUC in per cent
NOTE = (
    "Frame AUC in per cent at the last step of each stage, mean ± standard deviation over seeds; no step was selected "
    "on test labels. The last column is the last stage minus the whole frame alone, paired by seed. The linear model "
    "has no randomness."
)


@click.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--recipes",
    default=",".join(RECIPES),
    show_default=True,
    help="Separated by commas; with an ablation as blend:no-psr.",
)
@click.option("--seeds", default="0,1,2,3,4", show_default=True, callback=parse_numbers)
@click.option("--runs", default="runs/recipes", show_default=True, type=click.Path(path_type=Path), help="Run folders.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The page.")
@click.option("--remark", default="", help="A paragraph for the page, on the stores or on how the recipes came about.")
def main(stores: Sequence[Path], recipes: str, seeds: tuple[int, ...], runs: Path, out: Path, remark: str) -> None:
    """Train recipes on stores, and write a page."""
    names = recipes.split(",")
    command = f"python -m benchmarks.recipes {' '.join(f'features/{store.name}' for store in stores)}"
    blocks = [
        "# Recipes",
        f"    {command} --recipes {recipes} --seeds {','.join(map(str, seeds))} --out {out}",
        f"{describe_processor()}, {count_cores()} cores. {NOTE}",
        *([remark] if remark else []),
    ]
    for store in stores:
        rows = []
        for name in names:
            used = seeds[:1] if name == "linear" else seeds
            rows.append([name, *format_row([train(store, name, seed, runs) for seed in used])])
        header = ["recipe", "seeds", *(f"stage {stage}" for stage in range(1, len(rows[0]) - 2)), "gain"]
        blocks += [f"## {describe(Store(store))}", format_table(header, rows, "l" + "r" * (len(header) - 1))]
    write_text(out, "\n\n".join(blocks) + "\n")
    results.print(f"page: {out}")


def train(store: Path, recipe: str, seed: int, runs: Path) -> list[float]:
    """The frame AUC of each stage in per cent, of a run that is trained only if it is not finished."""
    note(f"{store.name}, {recipe}, seed {seed}")
    folder = runs / f"{store.name}-{recipe.replace(':', '-')}-seed{seed}"
    name, _, ablation = recipe.partition(":")
    options: dict[str, Any] = {ablation.replace("-", "_"): True} if ablation else {}
    request = TrainRequest(store, folder, name, seed=seed, resume=True, **options)
    with TrainingProgress() as progress:
        stages = train_model(request, progress).stages
    aucs = [stage.last_test_auc for stage in stages]
    return [100 * auc for auc in aucs if auc is not None]


def format_row(aucs: Aucs) -> list[str]:
    """The number of seeds, each stage, and the gain of the last stage over the first."""
    gains = [stages[-1] - stages[0] for stages in aucs]
    return [str(len(aucs)), *(spread(stage) for stage in zip(*aucs, strict=True)), spread(gains)]


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{deviation}"


def describe(store: Store) -> str:
    counts = {split: len(store.records(split)) for split in ("train", "test")}
    config = store.config
    videos = f"{counts['train']} training and {counts['test']} test videos"
    return f"{store.root.name}: {config.encoder}, D = {config.feature_dim}, {videos}"


if __name__ == "__main__":
    main()
