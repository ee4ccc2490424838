"""Training speed, as ratios to a straightforward trainer in the same run: make bench ARGS="--only training"

baseline    float32, PyTorch's convolutions, all branches in every step, one .npy per video and scale read in every step
unfrozen    what `ssrl-train --recipe paper` does: the faster precision, matrix products, batches read a step ahead
constant    the same with a batch that is there already, in turns with the former
frozen      unfrozen with --freeze-previous

The network is the paper's at D = 2048, in its last stage, on random features that lie on disk. Each way has a process
of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssrl.config import Precision
from ssrl.console import results
from ssrl.geometry import Geometry
from ssrl.model.aggregation import PatchAggregation, PatchConvolution
from ssrl.model.network import SSRL, Output
from ssrl.model.recipes import paper_model, paper_training
from ssrl.model.relation import Convolution
from ssrl.store.segments import SegmentView
from ssrl.train.data import Bags
from ssrl.train.features import Features, read_rows
from ssrl.train.loop import StageTrainer
from ssrl.train.losses import compute_losses
from ssrl.train.precision import choose_precision
from ssrl.train.steps import NetworkStepper

FEATURE_DIM, SEGMENTS = 2048, 32
NUM_VIDEOS, HALF = 16, 4  # of each kind 8, and 4 in a batch
SCALES = (1, 2, 3, 4)
STAGE = 4
LEAST_STEPS, MOST_STEPS = 2, 9  # after a warm-up
TURN = 3  # steps with real or constant input, the first of which waits for its batch
SHARES = {"baseline": 0.25, "unfrozen": 0.5, "frozen": 0.25}  # of the time, for each process
READS = 9
GB = 10**9
PATCHES = {grid.scale: grid.num_patches for grid in Geometry().grids}


@dataclass(frozen=True)
class Results:
    """The numbers in `bench.json`. A step is one of 4 + 4 videos."""

    precision: Precision
    speedup_unfrozen: float  # over the baseline
    speedup_frozen: float
    input_fraction_of_step: float  # what a step takes longer with real than with constant input
    read_over_plain: float  # speed of reading batches, over that of a plain sequential read of the same file
    peak_memory_gb: float  # unfrozen
    fraction_of_peak: float  # FLOP/s of the unfrozen step over those of a matrix product in its precision
    seconds_per_step: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """What one process measured."""

    seconds: dict[str, float]  # per step, the median
    peak_bytes: int


def measure_training(
    device: torch.device, folder: Path, peaks: Mapping[str, float], threads: int, seconds: float
) -> Results:
    """Measure all ways to train, in about so many seconds, and print a table."""
    write_features(folder)
    precision = choose_precision(FEATURE_DIM, device)
    measured = {}
    for way, share in SHARES.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            arguments = (way, folder, str(device), precision, threads, share * seconds)
            measured[way] = pool.submit(measure_steps, *arguments).result()
    per_step = {way: value for each in measured.values() for way, value in each.seconds.items()}
    outcome = Results(
        precision,
        speedup_unfrozen=per_step["baseline"] / per_step["unfrozen"],
        speedup_frozen=per_step["baseline"] / per_step["frozen"],
        input_fraction_of_step=1 - per_step["constant"] / per_step["unfrozen"],
        read_over_plain=measure_reading(folder),
        peak_memory_gb=measured["unfrozen"].peak_bytes / GB,
        fraction_of_peak=count_step_flops() / per_step["unfrozen"] / peaks[precision],
        seconds_per_step=per_step,
    )
    show(outcome)
    return outcome


def write_features(folder: Path) -> None:
    """A training view's arrays, and the same features as one .npy per video and scale."""
    generator = np.random.default_rng(0)
    for scale, num_patches in PATCHES.items():
        shape = (NUM_VIDEOS, SEGMENTS, num_patches, FEATURE_DIM)
        values = generator.standard_normal(shape, np.float32).astype(np.float16)
        values.tofile(folder / f"scale{scale}.bin")
        for index, video in enumerate(values):
            np.save(folder / f"{index}-{scale}.npy", video)


def open_bags(folder: Path) -> Bags:
    shapes = {scale: (NUM_VIDEOS, SEGMENTS, num_patches, FEATURE_DIM) for scale, num_patches in PATCHES.items()}
    arrays: dict[int, np.ndarray] = {
        scale: np.memmap(folder / f"scale{scale}.bin", np.float16, "r", 0, shape) for scale, shape in shapes.items()
    }
    view = SegmentView(folder / "segments.h5", tuple(map(str, range(NUM_VIDEOS))), arrays)
    none, half = np.array([], dtype=np.int64), NUM_VIDEOS // 2
    return Bags(view, np.arange(half), np.arange(half, NUM_VIDEOS), none, none)


def measure_steps(way: str, folder: Path, device: str, precision: Precision, threads: int, seconds: float) -> Measured:
    """Take steps for about so many seconds."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    bags, chosen = open_bags(folder), torch.device(device)
    config = replace(paper_training(), videos_per_half=HALF, precision=precision, freeze_previous=way == "frozen")
    if way == "baseline":
        times = {way: take_steps(Baseline(folder, bags, chosen), seconds)}
    else:
        network = SSRL(paper_model(FEATURE_DIM, SCALES))
        stepper = StageTrainer(network, bags, config.for_stage(STAGE), STAGE, chosen, "disk").stepper
        assert isinstance(stepper, NetworkStepper)
        if way == "frozen":
            losses = stepper.run(range(config.steps))
            times = {way: take_steps(lambda: next(losses), seconds)}
        else:
            times = take_turns(stepper, bags, seconds)
    return Measured({name: median(each) for name, each in times.items()}, measure_peak_bytes(chosen))


def take_steps(step: Callable[[], object], seconds: float) -> list[float]:
    """The seconds of each step but the first, which warms up."""
    times: list[float] = []
    while len(times) <= LEAST_STEPS or (len(times) <= MOST_STEPS and sum(times) + median(times) < seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[1:]


def take_turns(stepper: NetworkStepper, bags: Bags, seconds: float) -> dict[str, list[float]]:
    """The seconds of steps with real and with constant input, in turns of some steps."""
    real = stepper.features
    batch = real.load(np.concatenate([bags.abnormal[:HALF], bags.normal[:HALF]]))
    inputs: dict[str, Features] = {"unfrozen": real, "constant": Constant(real, batch)}
    times: dict[str, list[float]] = {name: [] for name in inputs}
    start = time.perf_counter()
    turns = 0
    while turns < LEAST_STEPS or (time.perf_counter() - start) * (turns + 1) / turns < seconds:
        turns += 1
        for name, features in inputs.items():
            stepper.features = features
            losses = stepper.run(range(TURN))
            times[name] += take_steps(lambda losses=losses: next(losses), 0)  # type: ignore[misc]
    return times


class Constant(Features):
    """The same batch in every step."""

    def __init__(self, features: Features, batch: object) -> None:
        self.device = features.device
        self.batch = batch

    def load(self, indices: np.ndarray) -> object:  # type: ignore[override]
        return self.batch


class Baseline:
    """The paper's network as a first version would train it."""

    def __init__(self, folder: Path, bags: Bags, device: torch.device) -> None:
        self.folder = folder
        self.bags = bags
        self.device = device
        self.network = make_plain(SSRL(paper_model(FEATURE_DIM, SCALES))).to(device).train()
        self.config = paper_training()
        rate, decay = self.config.learning_rate, self.config.weight_decay
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, weight_decay=decay)
        self.generator = np.random.default_rng(0)

    def __call__(self) -> float:
        videos = [self.generator.permutation(kind)[:HALF] for kind in (self.bags.abnormal, self.bags.normal)]
        output = self.network({scale: self.read(scale, np.concatenate(videos)) for scale in SCALES})
        halves = [
            Output(output.scores[part], output.features[part], output.crop_scores[part])
            for part in (slice(HALF), slice(HALF, None))
        ]
        loss = compute_losses(halves[0], halves[1], self.config.loss).total
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def read(self, scale: int, videos: np.ndarray) -> Tensor:
        arrays = [np.load(self.folder / f"{video}-{scale}.npy") for video in videos]
        return torch.from_numpy(np.stack(arrays).astype(np.float32)).to(self.device)


def make_plain(network: SSRL) -> SSRL:
    """With PyTorch's own convolutions."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, Convolution):
                setattr(module, name, PlainConvolution(child))
    for scale, branch in network.mpa.items():
        assert isinstance(branch, PatchAggregation) and isinstance(branch.conv[0], PatchConvolution)
        branch.conv[0] = PlainPatchConvolution(branch.conv[0], *network.config.grids[int(scale)])
    return network


class PlainConvolution(nn.Module):
    def __init__(self, ours: Convolution) -> None:
        super().__init__()
        size, padding, dilation = ours.kernel_size, ours.padding, ours.dilation
        channels, bias = (ours.in_channels, ours.out_channels), ours.bias is not None
        self.conv = nn.Conv1d(*channels, size, padding=padding, dilation=dilation, bias=bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(x.transpose(1, 2))
        return convolved.transpose(1, 2)


class PlainPatchConvolution(nn.Module):
    def __init__(self, ours: PatchConvolution, rows: int, cols: int) -> None:
        super().__init__()
        self.grid = rows, cols
        self.conv = nn.Conv2d(ours.in_channels, ours.out_channels, 3, ours.stride, ours.padding)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(x.transpose(1, 2).unflatten(2, self.grid))
        return convolved.flatten(2).transpose(1, 2)


def measure_reading(folder: Path) -> float:
    """The speed of reading every video of the finest scale in batches, over that of reading its file in turn."""
    path, array = folder / f"scale{STAGE}.bin", open_bags(folder).view.scales[STAGE]
    videos = np.random.default_rng(0).permutation(NUM_VIDEOS)
    ratios = []
    for _ in range(READS):
        evict(path)
        start = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.read(array[0].nbytes):
                pass
        plain = time.perf_counter() - start
        evict(path)
        start = time.perf_counter()
        for _ in read_rows(array, videos):
            pass
        ratios.append(plain / (time.perf_counter() - start))
    return median(ratios)


def evict(path: Path) -> None:
    """Take a file out of the system's memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def count_step_flops() -> int:
    """Of a step forward and backward, without gradients of the input."""
    with torch.device("meta"):
        network = SSRL(paper_model(FEATURE_DIM, SCALES)).train()
        scales = {scale: torch.empty(2 * HALF, SEGMENTS, count, FEATURE_DIM) for scale, count in PATCHES.items()}
    with FlopCounterMode(display=False) as counter:
        network(scales).scores.sum().backward()
    return int(counter.get_total_flops())


def measure_peak_bytes(device: torch.device) -> int:
    """Of this process so far, or of the GPU's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def show(measured: Results) -> None:
    title = f"training, D = {FEATURE_DIM}, {HALF} + {HALF} videos, stage {STAGE}, {measured.precision}"
    table = Table("way", "speedup over baseline", title=title)
    for way, seconds in measured.seconds_per_step.items():
        table.add_row(way, f"{measured.seconds_per_step['baseline'] / seconds:.2f}")
    results.print(table)
    results.print(
        f"input: {measured.input_fraction_of_step:.1%} of a step, read at {measured.read_over_plain:.2f} times the "
        f"speed of a plain read; {measured.fraction_of_peak:.2f} of the peak FLOP/s; {measured.peak_memory_gb:.1f} GB"
    )
