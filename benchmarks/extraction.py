"""Extraction speed, as ratios to a naive baseline in the same run: make bench

naive        the encoder's network in eager float32, one snippet and one scale at a time
runtimes     all that the device supports, in float32 and bfloat16, on the same snippet
end to end   from a file on disk to a verified store, with the runtime that "auto" chooses
decode       decoding and resizing only
peak         a large matrix product, in float32 and bfloat16
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch
from rich.table import Table

from benchmarks.clip import write_clip
from benchmarks.peak import measure_peak_flops
from ssrl.console import note, results
from ssrl.datasets.video import Video
from ssrl.extract.encoders import Encoder, load_encoder
from ssrl.extract.flops import count_snippet_flops
from ssrl.extract.pipeline import ExtractionWatcher, extract_videos
from ssrl.extract.readers import open_reader
from ssrl.extract.runtimes import RuntimeSettings, choose_runtime
from ssrl.extract.snippets import fill_snippets, tile
from ssrl.files import write_json
from ssrl.geometry import Geometry
from ssrl.hardware import choose_device, count_cores, describe_processor
from ssrl.store.reader import Store
from ssrl.store.verify import verify
from ssrl.store.writer import StoreWriter

GEOMETRY = Geometry()
SCALES = (1, 2, 3, 4)
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Plan:
    """How to measure one encoder. Repeats follow a warm-up; times are medians."""

    weights: str
    naive_repeats: int
    repeats: int
    num_snippets: int  # of the end-to-end run


PLANS = {"micro3d": Plan("embedded", 5, 9, 100), "i3d_r50": Plan("random:0", 3, 5, 40)}


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
    seconds_per_snippet: dict[str, float]


class FailingWatcher(ExtractionWatcher):
    def video_failed(self, video_id: str, reason: str) -> None:
        raise RuntimeError(reason)


@click.command()
@click.option("--json", "path", default="bench.json", type=click.Path(path_type=Path), help="Output file.")
@click.option("--threads", default=count_cores(), show_default=True, help="Threads of PyTorch and OpenVINO.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--encoder", "names", multiple=True, default=tuple(PLANS), show_default=True, help="May be repeated.")
def main(path: Path, threads: int, device: str, names: tuple[str, ...]) -> None:
    """Measure encoders on a clip and write the results."""
    torch.set_num_threads(threads)
    chosen = choose_device(device)
    peaks = {name: measure_peak_flops(chosen, name, matrix=4096) for name in PRECISIONS}
    machine = {
        "processor": describe_processor() if chosen.type == "cpu" else torch.cuda.get_device_name(chosen),
        "cores": count_cores(),
        "threads": threads,
        "peak_gflops": to_giga(peaks),
    }
    note(str(machine))
    measurements = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder), 16 * max(PLANS[name].num_snippets for name in names))
        for name in names:
            measurements[name] = asdict(measure(name, PLANS[name], chosen, clip, Path(folder), peaks))
    write_json(path, {"machine": machine, "extraction": measurements})
    note(f"results: {path}")


def measure(name: str, plan: Plan, device: torch.device, clip: Path, folder: Path, peaks: dict[str, float]) -> Results:
    """Measure one encoder and print a table."""
    snippet, decode_fps = decode_clip(clip)
    encoder = load_encoder(name, plan.weights)
    reference, seconds = measure_seconds(lambda: encode_naively(encoder, snippet, device), plan.naive_repeats)
    naive = Timing("naive", seconds, 1.0)
    timings = {
        get_name(settings): time_runtime(settings, snippet, reference, plan.repeats)
        for settings in list_runtimes(encoder, device)
    }
    auto = choose_runtime(encoder, device=device.type)
    end_to_end = run_end_to_end(auto, plan, clip, folder)
    timing = timings[get_name(auto)]
    measured = Results(
        runtime=timing.name,
        speedup_over_naive=naive.seconds / end_to_end,
        fraction_of_peak=count_flops(auto) / end_to_end / peaks[auto.precision],
        end_to_end_over_encoder=end_to_end / timing.seconds,
        auto_over_fastest=timing.seconds / min(each.seconds for each in timings.values()),
        frames_per_second=GEOMETRY.frames_per_snippet / end_to_end,
        min_cosine=timing.min_cosine,
        decode_frames_per_second=decode_fps,
        seconds_per_snippet={timing.name: timing.seconds for timing in (naive, *timings.values())},
    )
    show(name, [naive, *timings.values()], measured)
    return measured


def list_runtimes(encoder: Encoder, device: torch.device) -> list[RuntimeSettings]:
    """Every runtime for the device, in every precision."""
    runtimes = ("torch", "torch-compile" if device.type == "cuda" else "openvino")
    return [
        choose_runtime(encoder, runtime, device.type, precision) for runtime in runtimes for precision in PRECISIONS
    ]


def count_flops(settings: RuntimeSettings) -> int:
    """Count the FLOPs of a runtime for one snippet."""
    encoder = settings.encoder
    network = encoder.copy_for_cpu() if settings.name == "openvino" else copy.deepcopy(encoder.network)
    return count_snippet_flops(encoder.prepare, network, GEOMETRY, SCALES)


def get_name(settings: RuntimeSettings) -> str:
    return f"{settings.name} {settings.precision}"


def time_runtime(
    settings: RuntimeSettings, snippet: np.ndarray, reference: dict[int, np.ndarray], repeats: int
) -> Timing:
    runtime = settings.load(GEOMETRY.grids)
    features, seconds = measure_seconds(lambda: runtime.encode_snippets(snippet[None]), repeats)
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


def measure_seconds(work: Callable[[], dict[int, np.ndarray]], repeats: int) -> tuple[dict[int, np.ndarray], float]:
    """Return the result and the median time in seconds, after a warm-up if there are repeats."""
    if repeats > 1:
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def compute_min_cosine(features: dict[int, np.ndarray], reference: dict[int, np.ndarray]) -> float:
    """The lowest cosine similarity of any patch's features to the reference."""

    def compute_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosines: np.ndarray = (a * b).sum(axis=-1) / np.maximum(norms, 1e-12)
        return cosines

    return float(min(compute_cosines(features[scale], reference[scale]).min() for scale in reference))


def run_end_to_end(settings: RuntimeSettings, plan: Plan, clip: Path, folder: Path) -> float:
    """Seconds per snippet from the file on disk to a verified store, after warming up on a short video."""
    name = settings.encoder.name
    short, long = (folder / f"{name}-{part}.mp4" for part in ("short", "long"))
    trim_clip(clip, short, 1)
    trim_clip(clip, long, GEOMETRY.frames_per_snippet * plan.num_snippets)
    config = settings.encoder.describe_features("bench", geometry=GEOMETRY, precision=settings.precision, scales=SCALES)
    writer = StoreWriter(folder / f"store-{name}", config)
    runtimes = settings.make_runtimes(GEOMETRY)
    extract_videos([Video("warm-up", short, 0, "test")], writer, runtimes, FailingWatcher())
    start = time.perf_counter()
    extract_videos([Video("clip", long, 0, "test")], writer, runtimes, FailingWatcher())
    problems = [finding.problem for finding in verify(Store(writer.root)) if finding.problem]
    seconds = time.perf_counter() - start
    assert not problems, problems
    return seconds / plan.num_snippets


def trim_clip(clip: Path, short: Path, num_frames: int) -> None:
    """Write the first frames of a clip to `short`, without re-encoding."""
    import av

    with av.open(str(clip)) as source, av.open(str(short), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for count, packet in enumerate(source.demux(video=0)):
            if count < num_frames and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def to_giga(flops: dict[str, float]) -> dict[str, float]:
    return {name: round(value / 1e9, 1) for name, value in flops.items()}


def show(name: str, timings: list[Timing], measured: Results) -> None:
    table = Table("runtime", "speedup over naive", "lowest cosine", title=f"{name}, 480x840x16, four scales")
    for timing in timings:
        table.add_row(timing.name, f"{timings[0].seconds / timing.seconds:.2f}", f"{timing.min_cosine:.6f}")
    table.add_row(f"end to end, {measured.runtime}", f"{measured.speedup_over_naive:.2f}", "")
    results.print(table)
    results.print(
        f"end to end: {measured.frames_per_second:.1f} frames per second, model FLOPs utilization "
        f"{measured.fraction_of_peak:.2f}, {measured.end_to_end_over_encoder:.2f} times the encoder's time; "
        f"auto takes {measured.runtime}, {measured.auto_over_fastest:.2f} times the time of the fastest; "
        f"decoding only: {measured.decode_frames_per_second:.0f} frames per second"
    )


if __name__ == "__main__":
    main()
