"""The recipes side by side: python -m benchmarks.recipes features/ped2 features/synthetic --out docs/recipes.md

Trains every recipe on every store with several seeds, without selection on test labels, and writes one page: the frame
AUC of each stage at its last step, mean and standard deviation over seeds. If killed, it continues. What is in the log
is not trained again: it holds a line per store (by its features, labels and split), recipe and seed, of all pages. A
recipe is written

    blend                          as for --recipe
    blend:psr=None:shrinkage=0.0   with other values of its fields (of BlendConfig, ModelConfig or TrainConfig)
    blend:members=2                with so many networks of each kind
    blend@equal                    trained as blend, its members weighed otherwise (see PARTS)
    paper/2                        trained by two processes

With `--train 6+6,10+10`, one per store, each seed trains on so many abnormal and normal videos, drawn from both splits,
and tests on all others, which are many more: how a recipe does on small sets that nobody chose.
"""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click
import numpy as np
import torch

from ssrl.checkpoints import load_checkpoint
from ssrl.commands.options import parse_numbers
from ssrl.commands.progress import TrainingProgress
from ssrl.console import note, results
from ssrl.datasets.video import Split
from ssrl.evaluate.scoring import make_frame_auc
from ssrl.files import write_text
from ssrl.hardware import count_cores, describe_processor
from ssrl.model.blend import Blend
from ssrl.model.config import BlendConfig
from ssrl.model.recipes import RECIPES
from ssrl.paper_tables.markdown import format_table
from ssrl.store.layout import StoredVideo
from ssrl.store.reader import Store
from ssrl.train.stages import Run, Trainer, fingerprint_videos
from ssrl.workflows.train import TrainRequest, open_trainer

Aucs = Sequence[Sequence[float]]  # seed → stage → frame AUC in per cent
NOTE = (
    "Frame AUC in per cent at the last step of each stage, mean ± standard deviation over seeds; no step was selected "
    "on test labels. The last column is the last stage minus the whole frame alone, paired by seed. The linear model "
    "has no randomness. `RECIPE:FIELD=VALUE` is the recipe with another value of that field. `blend@equal` weighs its "
    "linear model and both kinds of networks alike instead of by held-out videos, `blend@networks` leaves the linear "
    "model out, `blend@all` and `blend@top` are the networks of one kind, and `blend@first` is the linear model with "
    "one network of each kind."
)


def share_alike(*kinds: str) -> Callable[[BlendConfig], Sequence[float]]:
    """Weigh some kinds of a blend's members alike, and leave out the others."""

    def weigh(config: BlendConfig) -> Sequence[float]:
        shares = {kind: float(kind in kinds) / len(kinds) for kind in ("linear", *config.losses)}
        return config.divide_weights(shares)

    return weigh


def take_first(config: BlendConfig) -> Sequence[float]:
    """Weigh the linear model and the first network of each kind alike."""
    firsts = {config.losses.index(loss) for loss in config.losses}
    weights = [1.0, *(float(i in firsts) for i in range(len(config.losses)))]
    return [weight / sum(weights) for weight in weights]


PARTS: Mapping[str, Callable[[BlendConfig], Sequence[float]]] = {
    "equal": share_alike("linear", "all", "top"),
    "networks": share_alike("all", "top"),
    "all": share_alike("all"),
    "top": share_alike("top"),
    "first": take_first,
}


@click.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recipes", default=",".join(RECIPES), show_default=True, help="Separated by commas.")
@click.option("--seeds", default="0,1,2,3,4", show_default=True, callback=parse_numbers)
@click.option("--train", "drawn", default="", help="Abnormal+normal videos to draw for training, per store: 6+6,10+10.")
@click.option("--runs", default="runs/recipes", show_default=True, type=click.Path(path_type=Path), help="Run folders.")
@click.option(
    "--log", default="docs/recipes.jsonl", show_default=True, type=click.Path(path_type=Path), help="Results."
)
@click.option("--log-only", is_flag=True, help="Train nothing: a page of what the log has, where rows may lack seeds.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The page.")
@click.option("--remark", default="", help="A paragraph for the page, on the stores or on how the recipes came about.")
def main(
    stores: Sequence[Path],
    recipes: str,
    seeds: tuple[int, ...],
    drawn: str,
    runs: Path,
    log: Path,
    log_only: bool,
    out: Path,
    remark: str,
) -> None:
    """Train recipes on stores, and write a page."""
    names = recipes.split(",")
    words = ["python", "-m", "benchmarks.recipes", *(f"features/{store.name}" for store in stores)]
    words += ["--recipes", recipes, "--seeds", ",".join(map(str, seeds))]
    words += [*(["--train", drawn] if drawn else []), *(["--log-only"] if log_only else []), "--out", str(out)]
    blocks = [
        "# Recipes",
        f"    {shlex.join(words)}{' --remark ...' if remark else ''}",
        f"{describe_processor()}, {count_cores()} cores. {NOTE}",
        *([remark] if remark else []),
    ]
    counts = drawn.split(",") if drawn else [""] * len(stores)
    if len(counts) != len(stores):
        raise click.BadParameter(f"{len(stores)} stores, but {len(counts)} counts", param_hint="--train")
    for path, count in zip(stores, counts, strict=True):
        by_seed = {seed: DrawnStore(path, count, seed) if count else Store(path) for seed in seeds}
        store = by_seed[seeds[0]]
        rows = []
        for name in names:
            used = seeds[:1] if name == "linear" and not drawn else seeds
            found = [measure(by_seed[seed], name, seed, None if log_only else runs, log) for seed in used]
            if aucs := [each for each in found if each is not None]:
                rows.append([name, *format_row(aucs)])
        if not rows:
            raise click.UsageError(f"the log has none of these recipes on {store.root.name}; leave out --log-only")
        header = ["recipe", "seeds", *(f"stage {stage}" for stage in range(1, len(rows[0]) - 2)), "gain"]
        blocks += [f"## {describe(store)}", format_table(header, rows, "l" + "r" * (len(header) - 1))]
    write_text(out, "\n\n".join(blocks) + "\n")
    results.print(f"page: {out}")


class DrawnStore(Store):
    """A store with another split: "10+10" abnormal and normal videos to train on, drawn by a seed."""

    def __init__(self, root: Path, drawn: str, seed: int) -> None:
        super().__init__(root)
        generator = np.random.default_rng(seed)
        labels = {video_id: super(DrawnStore, self).record(video_id).video.label for video_id in self.ids()}
        self.train: set[str] = set()
        for label, count in zip((1, 0), drawn.split("+"), strict=True):
            ids = [video_id for video_id in labels if labels[video_id] == label]
            self.train.update(str(video_id) for video_id in generator.permutation(ids)[: int(count)])

    def record(self, video_id: str) -> StoredVideo:
        record = super().record(video_id)
        split: Split = "train" if video_id in self.train else "test"
        return replace(record, video=replace(record.video, split=split))


def measure(store: Store, name: str, seed: int, runs: Path | None, log: Path) -> list[float] | None:
    """The frame AUC of each stage in per cent. It is looked up in the log; otherwise a run is trained, or continued, in
    `runs`, where that is given.
    """
    features = f"{store.config.fingerprint} {fingerprint_videos(store)}"
    key = {"store": store.root.name, "features": features, "recipe": name, "seed": seed}
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = next((entry["aucs"] for entry in entries if {**entry, **key} == entry), None)
    if known is None and runs is not None:
        known = train(store, name, seed, runs)
        write_text(log, "".join(f"{json.dumps(entry)}\n" for entry in [*entries, {**key, "aucs": known}]))
    return known


def train(store: Store, name: str, seed: int, runs: Path) -> list[float]:
    note(f"{store.root.name}, {name}, seed {seed}")
    recipe, _, part = name.partition("@")
    recipe, _, processes = recipe.partition("/")
    split = "-drawn" if isinstance(store, DrawnStore) else ""
    words = name.partition("@")[0].replace(":", "-").replace("/", "-by-")
    folder = runs / f"{store.root.name}{split}-{words}-seed{seed}"
    trainer = prepare(store, recipe, seed, folder)
    run = trainer.find_finished()
    if run is None and processes:
        train_in_processes(int(processes), store, recipe, seed, folder)
        run = trainer.find_finished()
    if run is None:
        with TrainingProgress() as progress:
            run = trainer.run(progress, resume=True)
    aucs = score_part(store, run, PARTS[part]) if part else [stage.last_test_auc for stage in run.stages]
    return [round(100 * auc, 4) for auc in aucs if auc is not None]


def train_in_processes(count: int, store: Store, recipe: str, seed: int, folder: Path) -> None:
    """Train a recipe, none of its fields changed, by processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "ssrl.train", "--features", str(store.root), "--recipe", recipe, "--precision", "float32"]
    command += ["--seed", str(seed), "--out", str(folder), "--resume"]
    subprocess.run(command, check=True)


def prepare(store: Store, name: str, seed: int, folder: Path) -> Trainer:
    """Set up the training of a recipe with some of its fields changed."""
    recipe, *changes = name.split(":")
    values = {field: ast.literal_eval(value) for field, _, value in (change.partition("=") for change in changes)}
    members = values.pop("members", None)
    request = TrainRequest(store.root, folder, recipe, members=members, seed=seed, precision="float32")
    trainer = open_trainer(request, store)
    model, config = (_replace(part, values) for part in (trainer.model, trainer.config))
    if values:
        raise click.BadParameter(f"{recipe} has no field {', '.join(values)}", param_hint="--recipes")
    return replace(trainer, model=model, config=config)


def _replace(config: Any, values: dict[str, Any]) -> Any:
    """Change the fields that `config` has, and take them out of `values`."""
    return replace(config, **{field.name: values.pop(field.name) for field in fields(config) if field.name in values})


@torch.inference_mode()
def score_part(store: Store, run: Run, weigh: Callable[[BlendConfig], Sequence[float]]) -> list[float | None]:
    """The frame AUC of each stage of a blend whose members are weighed otherwise."""
    test_auc = make_frame_auc(store)
    assert test_auc is not None
    aucs = []
    for stage in run.stages:
        network = load_checkpoint(run.folder / f"stage-{stage.stage}.pt").build_network().eval()
        assert isinstance(network, Blend)
        network.blend_weights.copy_(torch.tensor(weigh(network.config)))
        aucs.append(test_auc(network))
    return aucs


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
