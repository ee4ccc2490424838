"""Memory of scoring a very long video: python -m benchmarks.long_video --recipe blend

The features are drawn as they are read, in place of a store of 13 GB; the network has the recipe's shape, untrained.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import click
import numpy as np

from ssrl.console import results
from ssrl.evaluate.scoring import score_snippets
from ssrl.geometry import Geometry
from ssrl.model.blend import Blend
from ssrl.model.build import build_network
from ssrl.model.recipes import RECIPES

KIB, GIB = 1 << 10, 1 << 30


class DrawnFeatures:
    """Features (T, N, D) in float16, as a store reads them: noise, drawn anew for each block."""

    def __init__(self, num_snippets: int, num_patches: int, feature_dim: int) -> None:
        self._shape = num_snippets, num_patches, feature_dim
        self._generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        count = len(range(*rows.indices(len(self))))
        return self._generator.random((count, *self._shape[1:]), dtype=np.float32).astype(np.float16)


@click.command()
@click.option("--recipe", default="blend", show_default=True, type=click.Choice(tuple(RECIPES)))
@click.option("--snippets", default=62_500, show_default=True, help="16 frames each: a million frames.")
@click.option("--dim", default=2048, show_default=True, help="D of the features.")
@click.option("--scales", default="1,2,3,4", show_default=True)
def main(recipe: str, snippets: int, dim: int, scales: str) -> None:
    """Score a long video, and print the peak of the process's memory."""
    chosen = tuple(map(int, scales.split(",")))
    geometry = Geometry()
    grids = {scale: (geometry.grid(scale).rows, geometry.grid(scale).cols) for scale in chosen}
    network = build_network(RECIPES[recipe].model(dim, chosen, grids)).eval()
    if isinstance(network, Blend):
        network.blend_weights.fill_(1.0)  # all members run
    features = {scale: DrawnFeatures(snippets, geometry.grid(scale).num_patches, dim) for scale in chosen}
    start = time.perf_counter()
    scores, _ = score_snippets(network, features)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIB
    results.print(f"{recipe}: {len(scores)} snippets, D = {dim}, in {seconds:.0f} s, at a peak of {peak:.2f} GiB")


if __name__ == "__main__":
    main()
