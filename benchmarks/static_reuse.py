"""What --reuse-static saves and costs: python -m benchmarks.static_reuse features/plain features/reused

Compares two stores of the same videos, the second extracted with --reuse-static: the fraction of patch cubes that were
not encoded, and how far the features are from those of the first.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ssrl.console import results
from ssrl.store.reader import Store


@click.command()
@click.argument("plain", type=click.Path(path_type=Path))
@click.argument("reused", type=click.Path(path_type=Path))
def main(plain: Path, reused: Path) -> None:
    """Print the saving, and the error of the features per scale."""
    first, second = Store(plain), Store(reused)
    results.print(f"patch cubes that were not encoded: {compute_saving(second):.1%}")
    for scale in second.config.scales:
        cosine, error = compare_features(first, second, scale)
        results.print(
            f"scale {scale}: error relative to the mean feature norm: mean {error.mean():.4f}, 99th percentile "
            f"{np.percentile(error, 99):.4f}; cosine: mean {cosine.mean():.5f}, lowest {cosine.min():.4f}"
        )


def compute_saving(store: Store) -> float:
    """The fraction of patch cubes that reused an earlier feature."""
    patches = sum(store.config.geometry.grid(scale).num_patches for scale in store.config.scales)
    records = store.records()
    total = sum(store.num_rows(record.id) * patches for record in records)
    return sum(record.reused_cubes for record in records) / total


def compare_features(first: Store, second: Store, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """For every feature of one scale: cosine, and the norm of the difference relative to the mean feature norm."""
    cosines, errors, norms = [], [], []
    for video_id in second.ids():
        a, b = (store.features(video_id, scale).astype(np.float64) for store in (first, second))
        norm = np.maximum(np.linalg.norm(a, axis=-1), 1e-12)
        cosines.append(((a * b).sum(axis=-1) / (norm * np.maximum(np.linalg.norm(b, axis=-1), 1e-12))).ravel())
        errors.append(np.linalg.norm(a - b, axis=-1).ravel())
        norms.append(norm.ravel())
    return np.concatenate(cosines), np.concatenate(errors) / np.concatenate(norms).mean()


if __name__ == "__main__":
    main()
