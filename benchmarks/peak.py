"""The peak throughput of a machine, which an extraction's speed is compared to."""

from __future__ import annotations

import time

import torch

MATRIX = 2048  # rows and columns
REPEATS = 5


def measure_peak_flops(device: torch.device | str, precision: str, matrix: int = MATRIX) -> float:
    """Measure FLOP/s of a large matrix product in `precision` on `device`: the best of a few, after a warm-up."""
    a = torch.randn(matrix, matrix, device=device).to(getattr(torch, precision))
    best = 0.0
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the result
        best = max(best, 2 * matrix**3 / (time.perf_counter() - start))
    return best
