"""Extraction speed, as ratios to a naive baseline in the same run: make bench ARGS="--only extraction"

naive        the encoder's network in eager float32, one snippet and one scale at a time
runtimes     all that the device supports, in its precisions, on the same snippet
end to end   from a file on disk to a verified store, with the runtime that "auto" chooses
decode       decoding and resizing only
peak         a large matrix product, in the same precisions

Each measurement gets an equal share of the time left, and is repeated as often as its first snippet says that this
share allows.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.table import Table

from benchmarks.clip import write_clip
from ssrl.console import results
from ssrl.datasets.video import Video
from ssrl.extract.encoders import Encoder, load_encoder
from ssrl.extract.flops import count_snippet_flops
from ssrl.extract.pipeline import ExtractionWatcher, extract_videos
from ssrl.extract.readers import open_reader
from ssrl.extract.runtimes import RuntimeSettings, choose_runtime
from ssrl.extract.snippets import fill_snippets, tile
from ssrl.geometry import Geometry
from ssrl.store.layout import StoredVideo
from ssrl.store.reader import Store
from ssrl.store.verify import verify
from ssrl.store.writer import StoreWriter

GEOMETRY = Geometry()
SCALES = (1, 2, 3, 4)
END_TO_END_FACTOR = 2.0  # more time than the encoder's, to be safe; the warm-up included
LEAST_SNIPPETS = 3  # from end to end


@dataclass(frozen=True)
class Plan:
    """How to measure one encoder, if there is time. Repeats follow a warm-up; times are medians."""

    weights: str
    naive_repeats: int
    repeats: int
    num_snippets: int  # of the end-to-end run


PLANS = {"micro3d": Plan("embedded", 5, 9, 100), "i3d_r50": Plan("random:0", 3, 5, 40)}


class Budget:
    """The time until `deadline`, shared equally by the measurements to come."""

    def __init__(self, deadline: float, num_measurements: int) -> None:
        self.deadline = deadline
        self.num_measurements = num_measurements

    def take_share(self) -> float:
        """The seconds that the next measurement may take."""
        share = (self.deadline - time.perf_counter()) / self.num_measurements
        self.num_measurements -= 1
        return share


def fit(share: float, seconds: float, least: int, most: int) -> int:
    """How many snippets of so many seconds fit into a share of the time: at least and at most so many."""
    return max(least, min(most, int(share / seconds)))


@dataclass(frozen=True)
class Timing:
    """Seconds per snippet of one way to encode, and how close its features are to the naive ones."""

    name: str
    seconds: float
    min_cosine: float


@dataclass(frozen=True)
class Results:
    """The numbers in `bench.json` for one encoder. Speed is that of "auto", end to end unless stated otherwise."""

    runtime: str
    speedup_over_naive: float
    fraction_of_peak: float  # model FLOPs utilization: relative to a matrix product in the runtime's precision
    end_to_end_over_encoder: float
    auto_over_fastest: float  # encoder alone
    frames_per_second: float
    min_cosine: float
    decode_frames_per_second: float
    num_snippets: int  # end to end
    seconds_per_snippet: dict[str, float]


class StopWatch(ExtractionWatcher):
    """Runs from the end of the first video on, when the decoder's process has started and the graph is compiled."""

    start: float | None = None

    def video_done(self, record: StoredVideo, seconds: float) -> None:
        self.start = self.start or time.perf_counter()

    def video_failed(self, video_id: str, reason: str) -> None:
        raise RuntimeError(reason)


def measure_extraction(
    device: torch.device, names: Sequence[str], folder: Path, peaks: Mapping[str, float], seconds: float
) -> dict[str, Results]:
    """Measure encoders on a clip, in about so many seconds."""
    start = time.perf_counter()
    clip = write_clip(folder, 16 * max(PLANS[name].num_snippets for name in names))
    measured = {}
    for index, name in enumerate(names):
        now = time.perf_counter()
        deadline = now + (start + seconds - now) / (len(names) - index)
        measured[name] = measure(name, PLANS[name], device, clip, folder, peaks, deadline)
    return measured


def measure(
    name: str, plan: Plan, device: torch.device, clip: Path, folder: Path, peaks: Mapping[str, float], deadline: float
) -> Results:
    """Measure one encoder until `deadline`, as time.perf_counter tells it, and print a table."""
    encoder = load_encoder(name, plan.weights)
    runtimes = list_runtimes(encoder, device, tuple(peaks))
    auto = choose_runtime(encoder, device=device.type)  # may measure on its own
    budget = Budget(deadline, len(runtimes) + 2)
    snippet, decode_fps = decode_clip(clip)
    reference, naive_seconds = measure_seconds(
        lambda: encode_naively(encoder, snippet, device), budget.take_share(), plan.naive_repeats
    )
    naive = Timing("naive", naive_seconds, 1.0)
    timings = {
        get_name(settings): time_runtime(settings, snippet, reference, budget.take_share(), plan.repeats)
        for settings in runtimes
    }
    timing = timings[get_name(auto)]
    end_to_end_seconds = END_TO_END_FACTOR * timing.seconds
    num_snippets = fit(budget.take_share(), end_to_end_seconds, LEAST_SNIPPETS, plan.num_snippets)
    end_to_end = run_end_to_end(auto, num_snippets, clip, folder)
    measured = Results(
        runtime=timing.name,
        speedup_over_naive=naive.seconds / end_to_end,
        fraction_of_peak=count_flops(auto) / end_to_end / peaks[auto.precision],
        end_to_end_over_encoder=end_to_end / timing.seconds,
        auto_over_fastest=timing.seconds / min(each.seconds for each in timings.values()),
        frames_per_second=GEOMETRY.frames_per_snippet / end_to_end,
        min_cosine=timing.min_cosine,
        decode_frames_per_second=decode_fps,
        num_snippets=num_snippets,
        seconds_per_snippet={timing.name: timing.seconds for timing in (naive, *timings.values())},
    )
    show(name, [naive, *timings.values()], measured)
    return measured


def list_runtimes(encoder: Encoder, device: torch.device, precisions: tuple[str, ...]) -> list[RuntimeSettings]:
    """Every runtime for the device, in each of the precisions."""
    runtimes = ("torch", "torch-compile" if device.type == "cuda" else "openvino")
    return [
        choose_runtime(encoder, runtime, device.type, precision) for runtime in runtimes for precision in precisions
    ]


def count_flops(settings: RuntimeSettings) -> int:
    """Count the FLOPs of a runtime for one snippet."""
    encoder = settings.encoder
    network = encoder.copy_for_cpu() if settings.name == "openvino" else copy.deepcopy(encoder.network)
    return count_snippet_flops(encoder.prepare, network, GEOMETRY, SCALES)


def get_name(settings: RuntimeSettings) -> str:
    return f"{settings.name} {settings.precision}"


def time_runtime(
    settings: RuntimeSettings, snippet: np.ndarray, reference: dict[int, np.ndarray], share: float, repeats: int
) -> Timing:
    runtime = settings.load(GEOMETRY.grids)
    least = 0 if settings.name == "torch" else 1  # the first time, others compile
    features, seconds = measure_seconds(lambda: runtime.encode_snippets(snippet[None]), share, repeats, least)
    return Timing(get_name(settings), seconds, compute_min_cosine(features, reference))


def decode_clip(clip: Path) -> tuple[np.ndarray, float]:
    """The first snippet of the clip, and the frames per second of decoding and resizing only."""
    slot = np.empty((GEOMETRY.frames_per_snippet, GEOMETRY.height, GEOMETRY.width, 3), np.uint8)
    start, count, first = time.perf_counter(), 0, slot
    with open_reader(clip) as reader:
        for filled in fill_snippets(reader.frames(), GEOMETRY, repeat(slot)):
            first = slot.copy() if count == 0 else first
            count += filled
    return first, count / (time.perf_counter() - start)


@torch.inference_mode()
def encode_naively(encoder: Encoder, snippet: np.ndarray, device: torch.device) -> dict[int, np.ndarray]:
    """Encode scale by scale in eager PyTorch, preparing the pixels for each, as a first version would."""
    network = encoder.network.to(device)
    features = {}
    for grid in GEOMETRY.grids:
        prepared = encoder.prepare(torch.from_numpy(snippet)[None].to(device))
        cubes = tile(prepared, grid).permute(0, 4, 1, 2, 3).contiguous()
        features[grid.scale] = network(cubes).cpu().numpy()[None]
    return features


def measure_seconds(
    work: Callable[[], dict[int, np.ndarray]], share: float, most: int, least: int = 0
) -> tuple[dict[int, np.ndarray], float]:
    """Return the result and the median time in seconds of as many repeats as fit into the share, after a warm-up. Where
    none fits, the warm-up counts.
    """
    result, first = measure_once(work)
    repeats = fit(share - first, first, least, most)
    return result, median([measure_once(work)[1] for _ in range(repeats)] or [first])


def measure_once(work: Callable[[], dict[int, np.ndarray]]) -> tuple[dict[int, np.ndarray], float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def compute_min_cosine(features: dict[int, np.ndarray], reference: dict[int, np.ndarray]) -> float:
    """The lowest cosine similarity of any patch's features to the reference."""

    def compute_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosines: np.ndarray = (a * b).sum(axis=-1) / np.maximum(norms, 1e-12)
        return cosines

    return float(min(compute_cosines(features[scale], reference[scale]).min() for scale in reference))


def run_end_to_end(settings: RuntimeSettings, num_snippets: int, clip: Path, folder: Path) -> float:
    """Seconds per snippet from the file on disk to a verified store, in a run that warmed up on a short video."""
    name = settings.encoder.name
    short, long = (folder / f"{name}-{part}.mp4" for part in ("short", "long"))
    trim_clip(clip, short, 1)
    trim_clip(clip, long, GEOMETRY.frames_per_snippet * num_snippets)
    config = settings.encoder.describe_features("bench", geometry=GEOMETRY, precision=settings.precision, scales=SCALES)
    writer = StoreWriter(folder / f"store-{name}", config)
    videos = [Video("warm-up", short, 0, "test"), Video("clip", long, 0, "test")]
    watch = StopWatch()
    extract_videos(videos, writer, settings.make_runtimes(GEOMETRY), watch)
    problems = [finding.problem for finding in verify(Store(writer.root)) if finding.problem]
    assert watch.start is not None
    seconds = time.perf_counter() - watch.start
    assert not problems, problems
    return seconds / num_snippets


def trim_clip(clip: Path, short: Path, num_frames: int) -> None:
    """Write the first frames of a clip to `short`, without re-encoding."""
    import av

    with av.open(str(clip)) as source, av.open(str(short), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for count, packet in enumerate(source.demux(video=0)):
            if count < num_frames and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def show(name: str, timings: list[Timing], measured: Results) -> None:
    table = Table("runtime", "speedup over naive", "lowest cosine", title=f"{name}, 480x840x16, four scales")
    for timing in timings:
        table.add_row(timing.name, f"{timings[0].seconds / timing.seconds:.2f}", f"{timing.min_cosine:.6f}")
    table.add_row(f"end to end, {measured.runtime}", f"{measured.speedup_over_naive:.2f}", "")
    results.print(table)
    results.print(
        f"end to end: {measured.frames_per_second:.1f} frames per second over {measured.num_snippets} snippets, "
        f"model FLOPs utilization {measured.fraction_of_peak:.2f}, "
        f"{measured.end_to_end_over_encoder:.2f} times the encoder's time; "
        f"auto takes {measured.runtime}, {measured.auto_over_fastest:.2f} times the time of the fastest; "
        f"decoding only: {measured.decode_frames_per_second:.0f} frames per second"
    )
