"""Pretraining from a seed to a weights file: draw clips once, then train on augmented copies."""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ssrl.errors import UserError
from ssrl.extract.encoders.micro3d import Micro3D
from ssrl.extract.micro3d_pretraining.clips import draw_clip
from ssrl.extract.micro3d_pretraining.objective import Batch, compute_accuracies, compute_losses
from ssrl.files import replacing


@dataclass(frozen=True)
class PretrainConfig:
    seed: int = 0
    num_clips: int = 12_000  # 58 kB each in memory
    num_held_out: int = 512  # additional clips for reporting
    batch_size: int = 32
    steps: int = 2_000
    learning_rate: float = 2e-3  # peak: warmed up over a tenth of the steps, then annealed
    weight_decay: float = 1e-4
    workers: int = 2  # processes that draw clips; do not affect the result

    def __post_init__(self) -> None:
        if min(self.num_clips, self.num_held_out, self.batch_size, self.workers) < 1 or self.steps < 20:
            raise UserError(f"pretraining needs clips, workers and at least 20 steps, got {self}")


def pretrain(config: PretrainConfig, out: Path) -> dict[str, float]:
    """Train an encoder and write its state dict to `out`; return its accuracies on the held-out clips.

    The weights are bit-exact for the same configuration, software and number of threads.
    """
    log(f"pretraining micro3d: {asdict(config)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    clips = draw_clips(config.seed, config.num_clips + config.num_held_out, config.workers)
    order = torch.arange(len(clips))
    train, held_out = clips.select(order[: config.num_clips]), clips.select(order[config.num_clips :])
    torch.manual_seed(config.seed)
    model = initialize(Micro3D())
    fit(model, train, held_out, config)
    with replacing(out) as temporary:
        torch.save(model.state_dict(), temporary)
    return evaluate(model, held_out, config.batch_size)


def draw_clips(seed: int, count: int, workers: int) -> Batch:
    """Draw the first `count` clips of the series `seed`."""
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        clips = pool.map(partial(draw_clip, seed), range(count), chunksize=64)
    log(f"drew {count} clips in {time.perf_counter() - start:.0f} s")
    return Batch.from_clips(clips)


def initialize(model: Micro3D) -> Micro3D:
    for layer in model.trunk:
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return model


def fit(model: Micro3D, train: Batch, held_out: Batch, config: PretrainConfig) -> None:
    rate = config.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=config.steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(config.seed)
    start = time.perf_counter()
    for step in range(1, config.steps + 1):
        chosen = torch.randint(len(train), (config.batch_size,), generator=generator)
        batch = train.select(chosen).augment(generator)
        losses = compute_losses(model.predict_cells(batch.frames / 255), batch.targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
        if step % max(1, config.steps // 10) == 0:
            accuracies = evaluate(model, held_out, config.batch_size)
            text = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
            log(f"step {step} of {config.steps}, {time.perf_counter() - start:.0f} s, held-out accuracy: {text}")


def evaluate(model: Micro3D, clips: Batch, batch_size: int) -> dict[str, float]:
    """Accuracies on `clips`, averaged over batches."""
    totals: dict[str, float] = {}
    parts = torch.arange(len(clips)).split(batch_size)
    with torch.no_grad():
        for part in parts:
            batch = clips.select(part)
            for name, value in compute_accuracies(model.predict_cells(batch.frames / 255), batch.targets).items():
                totals[name] = totals.get(name, 0.0) + value / len(parts)
    return totals


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
