"""ssrl-synth: generate a synthetic surveillance dataset."""

from __future__ import annotations

from pathlib import Path

import click

from ssrl.commands.options import HELP, parse_size
from ssrl.console import ProgressBar, handle_errors, results
from ssrl.datasets.synthetic.config import DEFAULT_WORKERS, SynthConfig

DEFAULTS = SynthConfig()


@click.command(
    context_settings=HELP,
    epilog="Example: ssrl-synth --out data/synth --seed 1 --train 20 --test 10",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Output folder; resumed if unfinished.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=DEFAULTS.seed,
    show_default=True,
    help="The same seed gives the same dataset.",
)
@click.option(
    "--size",
    callback=parse_size,
    default=f"{DEFAULTS.height}x{DEFAULTS.width}",
    show_default=True,
    help="Frame height x width in pixels.",
)
@click.option(
    "--train",
    "num_train",
    type=click.IntRange(min=2),
    default=DEFAULTS.num_train,
    show_default=True,
    help="Training videos, half of them abnormal.",
)
@click.option(
    "--test",
    "num_test",
    type=click.IntRange(min=2),
    default=DEFAULTS.num_test,
    show_default=True,
    help="Test videos, 7 of 15 abnormal.",
)
@click.option(
    "--pixel-masks/--no-pixel-masks",
    default=DEFAULTS.pixel_masks,
    show_default=True,
    help="Write pixel-level masks beside the frame-level ones.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=DEFAULT_WORKERS, show_default=True, help="Rendering processes."
)
@handle_errors
def main(
    out: Path, seed: int, size: tuple[int, int], num_train: int, num_test: int, pixel_masks: bool, workers: int
) -> None:
    """Generate a synthetic surveillance dataset in ShanghaiTech's layout."""
    from ssrl.datasets.synthetic.dataset import synthesize

    config = SynthConfig(seed, *size, num_train, num_test, pixel_masks)
    with ProgressBar("synthesizing") as bar:
        summary = synthesize(out, config, workers, bar.update)
    results.print(str(summary), markup=False)


if __name__ == "__main__":
    main()
