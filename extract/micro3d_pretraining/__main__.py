"""`python -m ssrl.extract.micro3d_pretraining --out FILE`: regenerate the weights of micro3d."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ssrl.errors import UserError
from ssrl.extract.micro3d_pretraining.training import PretrainConfig, pretrain

DEFAULTS = PretrainConfig()


@click.command(help="Pretrain the micro3d encoder on synthetic clips and write its weights to --out.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Weights file.")
@click.option("--seed", default=DEFAULTS.seed, show_default=True)
@click.option("--steps", default=DEFAULTS.steps, show_default=True)
@click.option("--clips", "num_clips", default=DEFAULTS.num_clips, show_default=True, help="Clips to draw.")
@click.option("--workers", default=DEFAULTS.workers, show_default=True, help="Processes that draw clips.")
def main(out: Path, seed: int, steps: int, num_clips: int, workers: int) -> None:
    try:
        accuracies = pretrain(PretrainConfig(seed=seed, steps=steps, num_clips=num_clips, workers=workers), out)
    except UserError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps({name: round(value, 4) for name, value in accuracies.items()}))


if __name__ == "__main__":
    main()
