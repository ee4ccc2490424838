"""What --reuse-static saves and costs: python -m benchmarks.static_reuse features/plain features/reused

Compares two stores of the same videos, the second extracted with --reuse-static: the share of patch cubes that were not
encoded, and how far the features are from those of the first.
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
    """The saving, and the features' distance, scale by scale."""
    first, second = Store(plain), Store(reused)
    results.print(f"patch cubes that were not encoded: {saving(second):.1%}")
    for scale in second.config.scales:
        similar, error = closeness(first, second, scale)
        results.print(
            f"scale {scale}: error over the mean length of a feature, mean {error.mean():.4f}, 99th percentile "
            f"{np.percentile(error, 99):.4f}; cosine, mean {similar.mean():.5f}, lowest {similar.min():.4f}"
        )


def saving(store: Store) -> float:
    """The share of all patch cubes that took an earlier feature."""
    patches = sum(store.config.geometry.grid(scale).num_patches for scale in store.config.scales)
    records = store.records()
    total = sum(store.num_rows(record.id) * patches for record in records)
    return sum(record.reused_cubes for record in records) / total


def closeness(first: Store, second: Store, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every feature of one scale: cosine, and length of the difference over the mean length of all features."""
    cosines, errors, lengths = [], [], []
    for video_id in second.ids():
        a, b = (store.features(video_id, scale).astype(np.float64) for store in (first, second))
        length = np.maximum(np.linalg.norm(a, axis=-1), 1e-12)
        cosines.append(((a * b).sum(axis=-1) / (length * np.maximum(np.linalg.norm(b, axis=-1), 1e-12))).ravel())
        errors.append(np.linalg.norm(a - b, axis=-1).ravel())
        lengths.append(length.ravel())
    return np.concatenate(cosines), np.concatenate(errors) / np.concatenate(lengths).mean()


if __name__ == "__main__":
    main()
