"""ssrl-synth: generate a synthetic surveillance dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ssrl.commands.options import HELP, make_request, option, parse_size, show_size
from ssrl.console import ProgressBar, handle_errors, results
from ssrl.datasets.synthetic.config import DEFAULT_WORKERS, SynthConfig

AT_LEAST_TWO = click.IntRange(min=2)


@click.command(context_settings=HELP, epilog="Example: ssrl-synth --out data/synth --seed 1 --train 20 --test 10")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Output folder; resumed if unfinished.")
@option(SynthConfig, "seed", type=click.IntRange(min=0), help="The same seed gives the same dataset.")
@click.option(
    "--size",
    callback=parse_size,
    default=show_size((SynthConfig.height, SynthConfig.width)),
    show_default=True,
    help="Frame height x width in pixels.",
)
@option(SynthConfig, "num_train", "--train", type=AT_LEAST_TWO, help="Training videos, half of them abnormal.")
@option(SynthConfig, "num_test", "--test", type=AT_LEAST_TWO, help="Test videos, 7 of 15 abnormal.")
@option(SynthConfig, "pixel_masks", "--pixel-masks/--no-pixel-masks", help="Write pixel-level masks too.")
@click.option("--workers", type=click.IntRange(min=1), default=DEFAULT_WORKERS, show_default=True, help="Processes.")
@handle_errors
def main(out: Path, size: tuple[int, int], workers: int, **options: Any) -> None:
    """Generate a synthetic surveillance dataset in ShanghaiTech's layout."""
    from ssrl.datasets.synthetic.dataset import synthesize

    config = make_request(SynthConfig, height=size[0], width=size[1], **options)
    with ProgressBar("synthesizing") as bar:
        summary = synthesize(out, config, workers, bar.update)
    results.print(str(summary), markup=False)


if __name__ == "__main__":
    main()
