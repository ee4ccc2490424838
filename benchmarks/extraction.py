"""How fast extraction is, in ratios against a naive baseline of the same run: make bench

naive        the encoder in eager float32, each patch prepared and encoded alone
runtime      TorchRuntime in float32 and bfloat16: pixels prepared once, the patches of a scale in batches
end to end   from a file on disk to a verified store
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch
from rich.table import Table

from benchmarks.clip import write_clip
from ssrl.console import note, results
from ssrl.datasets.video import Dataset, Video
from ssrl.extract.encoders import Encoder, load_encoder
from ssrl.extract.pipeline import encode_snippet, extract, store_config
from ssrl.extract.readers import open_reader
from ssrl.extract.runtime import TorchRuntime
from ssrl.extract.snippets import fill_snippets
from ssrl.files import write_json
from ssrl.geometry import Geometry
from ssrl.store.reader import Store
from ssrl.store.verify import verify
from ssrl.store.writer import StoreWriter

GEOMETRY = Geometry()
SCALES = (1, 2, 3, 4)
MATRIX = 2048  # side of the matrices whose product gives the peak
ENCODERS = {"micro3d": "embedded", "i3d_r50": "random:0"}
REPEATS = {"micro3d": 5, "i3d_r50": 1}
SNIPPETS = {"micro3d": 12, "i3d_r50": 2}  # of the end-to-end run


@dataclass(frozen=True)
class Row:
    """Seconds a snippet of one way to encode, and how close its features are to the naive ones."""

    name: str
    seconds: float
    min_cosine: float


class Quiet:
    """A watcher that says nothing."""

    def run_begins(self, num_videos: int, num_kept: int) -> None: ...
    def snippet_done(self, video_id: str, num_snippets: int) -> None: ...
    def video_done(self, record: object, seconds: float) -> None: ...
    def video_failed(self, video_id: str, reason: str) -> None:
        raise RuntimeError(reason)


@click.command()
@click.option("--json", "path", default="bench.json", type=click.Path(path_type=Path), help="Where the figures go.")
@click.option("--threads", default=os.cpu_count(), show_default=True, help="Of PyTorch.")
def main(path: Path, threads: int) -> None:
    """Measure both encoders on a real clip and write the figures."""
    torch.set_num_threads(threads)
    peaks = {name: peak_gflops(dtype) for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}
    machine = {"processor": processor(), "cores": os.cpu_count(), "threads": threads, "peak_gflops": peaks}
    note(json.dumps(machine))
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder), 16 * max(SNIPPETS.values()))
        for name in ENCODERS:
            figures[name] = measure(name, clip, Path(folder))
    write_json(path, {"machine": machine, "extraction": figures})
    note(f"figures: {path}")


def measure(name: str, clip: Path, folder: Path) -> dict[str, float]:
    """All figures of one encoder, printed as a table."""
    snippet, decode_fps = decoded(clip)
    encoder = load_encoder(name, ENCODERS[name])
    reference, seconds = timed(lambda: naive_features(encoder, snippet), REPEATS[name])
    rows = [Row("naive", seconds, 1.0)]
    for precision in ("float32", "bfloat16"):
        features, seconds = timed(in_precision(name, precision, snippet), REPEATS[name])
        rows.append(Row(precision, seconds, min_cosine(features, reference)))
    best = min(rows[1:], key=lambda row: row.seconds)
    end_to_end = run_end_to_end(name, best.name, clip, folder)
    show(name, rows, end_to_end, decode_fps)
    return {
        "speedup_over_naive": rows[0].seconds / end_to_end,
        "end_to_end_over_encoder": end_to_end / best.seconds,
        "frames_per_second": 16 / end_to_end,
        "min_cosine": best.min_cosine,
        "decode_frames_per_second": decode_fps,
        **{f"seconds_per_snippet_{row.name}": row.seconds for row in rows},
    }


def in_precision(name: str, precision: str, snippet: np.ndarray) -> Callable[[], dict[int, np.ndarray]]:
    """What encodes the snippet with the runtime in this precision."""
    encoder = load_encoder(name, ENCODERS[name])
    runtime = TorchRuntime(encoder, "cpu", precision)
    config = store_config("bench", encoder, runtime, GEOMETRY, SCALES, "float16")
    return lambda: encode_snippet(snippet, config, runtime)


def decoded(clip: Path) -> tuple[np.ndarray, float]:
    """The first snippet of the clip, and how many frames a second decoding and resizing alone give."""
    slots = np.empty((1, 16, GEOMETRY.height, GEOMETRY.width, 3), np.uint8)
    began, count, first = time.perf_counter(), 0, slots[0]
    with open_reader(clip) as reader:
        for filled in fill_snippets(reader.frames(), GEOMETRY, repeat(slots[0])):
            first = slots[0].copy() if count == 0 else first
            count += filled
    return first, count / (time.perf_counter() - began)


def naive_features(encoder: Encoder, snippet: np.ndarray) -> dict[int, np.ndarray]:
    """Each patch cut, prepared and encoded alone, as the public extractors do."""
    features = {}
    for grid in GEOMETRY.grids:
        rows = []
        for n in range(grid.num_patches):
            row, col = divmod(n, grid.cols)
            top, left = row * grid.window_height, col * grid.window_width
            patch = snippet[:, top : top + grid.window_height, left : left + grid.window_width]
            with torch.inference_mode():
                rows.append(encoder.network(encoder.prepare(torch.from_numpy(patch.copy()))[None])[0].numpy())
        features[grid.scale] = np.stack(rows)[None]
    return features


def timed(work: Callable[[], dict[int, np.ndarray]], repeats: int) -> tuple[dict[int, np.ndarray], float]:
    """The result and the median of the seconds, after a warm-up where there are repeats."""
    if repeats > 1:
        work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return result, median(seconds)


def min_cosine(features: dict[int, np.ndarray], reference: dict[int, np.ndarray]) -> float:
    """The lowest cosine similarity of a patch's features with the reference."""

    def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        return (a * b).sum(axis=-1) / np.maximum(norms, 1e-12)

    return float(min(cosines(features[scale], reference[scale]).min() for scale in reference))


def run_end_to_end(name: str, precision: str, clip: Path, folder: Path) -> float:
    """Seconds a snippet from the file on disk to a verified store."""
    frames = 16 * SNIPPETS[name]
    short = clip.with_name(f"{name}.mp4")
    write_start(clip, short, frames)
    encoder = load_encoder(name, ENCODERS[name])
    runtime = TorchRuntime(encoder, "cpu", precision)
    writer = StoreWriter(folder / f"store-{name}", store_config("bench", encoder, runtime, GEOMETRY, SCALES, "float16"))
    video = Video("clip", short, 0, "test")
    extract(Dataset("warm-up", (replace(video, id="warm-up"),)), writer, runtime, Quiet())
    began = time.perf_counter()
    extract(Dataset("bench", (video,)), writer, runtime, Quiet())
    problems = [finding.problem for finding in verify(Store(writer.root)) if finding.problem]
    seconds = time.perf_counter() - began
    assert not problems, problems
    return seconds / SNIPPETS[name]


def write_start(clip: Path, short: Path, num_frames: int) -> None:
    """The first frames of a clip as a clip of their own, without encoding them anew."""
    import av

    with av.open(str(clip)) as source, av.open(str(short), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for count, packet in enumerate(source.demux(video=0)):
            if count < num_frames and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def peak_gflops(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product, the best of five."""
    a = torch.randn(MATRIX, MATRIX).to(dtype)
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * MATRIX**3 / (time.perf_counter() - began) / 1e9)
    return round(best, 1)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def show(name: str, rows: list[Row], end_to_end: float, decode_fps: float) -> None:
    table = Table("way", "times naive", "lowest cosine", title=f"{name}, 480x840x16, four scales")
    for row in rows:
        table.add_row(row.name, f"{rows[0].seconds / row.seconds:.2f}", f"{row.min_cosine:.6f}")
    table.add_row("end to end, verified", f"{rows[0].seconds / end_to_end:.2f}", "")
    results.print(table)
    results.print(f"{16 / end_to_end:.1f} frames a second end to end; decoding alone {decode_fps:.0f}")


if __name__ == "__main__":
    main()
