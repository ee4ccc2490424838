"""ssrl-extract: videos → patch-feature store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssrl.commands.options import HELP, parse_numbers, parse_size
from ssrl.commands.progress import ExtractionProgress, report
from ssrl.console import command_errors, note, warn
from ssrl.datasets import DATASET_NAMES

if TYPE_CHECKING:
    from ssrl.extract.pipeline import Decoding, Runtimes
    from ssrl.extract.runtimes import RuntimeSettings
    from ssrl.store.layout import StoreConfig, TrainSampling

GPU_DECODERS = 4  # a GPU is faster than one
DECODERS = ("auto", "pyav", "decord")  # of video files; folders of frames need none


@click.command(context_settings=HELP)
@click.option("--dataset", required=True, type=click.Choice(DATASET_NAMES), help="Which layout the videos are in.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the dataset lies.  [default: data/NAME]")
@click.option("--out", type=click.Path(path_type=Path), help="The store's folder.  [default: features/NAME]")
@click.option("--manifest", type=click.Path(path_type=Path), help="Table video,label,split of your own videos.")
@click.option("--frame-labels", type=click.Path(path_type=Path), help="Table video,first_frame,last_frame, from 1.")
@click.option("--encoder", default="micro3d", show_default=True, help="micro3d, i3d_r50 or swin3d_t.")
@click.option("--weights", help="embedded, kinetics400, random:SEED, or a file.  [default: the encoder's own]")
@click.option("--runtime", default="auto", show_default=True, help="auto, openvino, torch-compile or torch.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or bfloat16.")
@click.option("--decoder", default="auto", type=click.Choice(DECODERS), show_default=True, help="auto is pyav.")
@click.option("--decoders", type=click.IntRange(min=1), help="Processes that decode.  [default: 1, or 4 for a GPU]")
@click.option("--memory", help="Of all processes together, such as 4G.  [default: as needed]")
@click.option("--scales", default="1,2,3,4", show_default=True, callback=parse_numbers, help="Which patch grids.")
@click.option("--size", default="480x840", show_default=True, callback=parse_size, help="Height x width in pixels.")
@click.option("--dtype", default="float16", show_default=True, help="Of the features on disk: float16 or float32.")
@click.option(
    "--train-sampling",
    default="dense",
    show_default=True,
    help="dense: all snippets; segments: one in each of 32 segments of a long training video.",
)
@click.option("--reuse-static", is_flag=True, help="A patch that did not change takes its earlier feature.")
@click.option("--shard", default="1/1", show_default=True, help="Take the I-th of N parts of the videos, as I/N.")
@command_errors
def main(
    dataset: str,
    root: Path | None,
    out: Path | None,
    manifest: Path | None,
    frame_labels: Path | None,
    encoder: str,
    weights: str | None,
    runtime: str,
    device: str,
    precision: str,
    decoder: str,
    decoders: int | None,
    memory: str | None,
    scales: tuple[int, ...],
    size: tuple[int, int],
    dtype: str,
    train_sampling: TrainSampling,
    reuse_static: bool,
    shard: str,
) -> None:
    """Encode the videos of a dataset into a patch-feature store. Videos that are in it already are skipped.

    Example: ssrl-extract --dataset manifest --root videos --manifest videos.csv --out features/mine
    """
    from ssrl.datasets import describe_missing, load_dataset
    from ssrl.extract.encoders import load_encoder
    from ssrl.extract.pipeline import extract, store_config
    from ssrl.extract.runtimes import describe, runtime_settings
    from ssrl.extract.sharing import Rank, Shard, handed_out
    from ssrl.geometry import Geometry
    from ssrl.store.writer import StoreWriter

    found = load_dataset(dataset, root or Path("data") / dataset, manifest=manifest, frame_labels=frame_labels)
    part, rank = Shard.parse(shard), Rank.of_environment()
    if rank is None or rank.rank == 0:
        note(str(found))
        if found.missing:
            warn(describe_missing(found))
    loaded = load_encoder(encoder, weights)
    settings = runtime_settings(loaded, runtime, device, precision, local_rank=rank.local_rank if rank else 0)
    geometry = Geometry.with_paper_grids(*size)
    config = store_config(dataset, loaded, settings.precision, geometry, scales, dtype, train_sampling, reuse_static)
    writer = StoreWriter(out or Path("features") / dataset, config)
    runtimes = settings.runtimes(geometry)
    decoding = how_to_decode(decoder, decoders, memory, runtimes, writer.config)
    videos = part.of(found.videos) if part.count > 1 else list(found.videos)
    flops, peak = costs(settings, writer.config)
    name = f"rank {rank.rank}" if rank else ""
    progress = ExtractionProgress(len(videos), geometry.frames_per_snippet, flops, peak, name)
    note(f"encoder: {describe(settings)}, weights {loaded.weights.name}")
    with progress:
        mine = handed_out(videos, rank.counter()) if rank else videos
        summary = extract(mine, writer, runtimes, progress, decoding)
    report(summary, writer.root, len(found.missing), progress.peak_share(summary))


def how_to_decode(
    backend: str, num_decoders: int | None, memory: str | None, runtimes: Runtimes, config: StoreConfig
) -> Decoding:
    """Decoders and their slots. To learn what the encoder needs of `memory`, it encodes a black snippet."""
    import numpy as np

    from ssrl.extract.memory import parse_bytes, peak_bytes, slots_within
    from ssrl.extract.pipeline import Decoding

    runtime = runtimes(config.scales)
    decoders = num_decoders or (GPU_DECODERS if runtime.device.type == "cuda" else 1)
    limit = parse_bytes(memory) if memory else None
    if limit is not None:
        geometry = config.geometry
        runtime.snippets(np.zeros((1, geometry.frames_per_snippet, geometry.height, geometry.width, 3), np.uint8))
    return Decoding(backend, decoders, slots_within(limit, peak_bytes(), config.geometry, decoders))


def costs(settings: RuntimeSettings, config: StoreConfig) -> tuple[float, float]:
    """FLOPs a snippet, and FLOP/s that this machine comes to in a large matrix product."""
    from benchmarks.peak import peak_flops

    return settings.flops(config.geometry, config.scales), peak_flops(settings.device, settings.precision)
