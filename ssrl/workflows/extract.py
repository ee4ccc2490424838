"""Videos → patch-feature store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssrl.config import Dtype, TrainSampling
from ssrl.extract.sharing import Rank, Shard, hand_out
from ssrl.geometry import PAPER_SIZE
from ssrl.hardware import Device
from ssrl.workflows.choices import Decoder, EncoderName, Precision, Runtime

if TYPE_CHECKING:
    from ssrl.extract.pipeline import ExtractionWatcher, Summary
    from ssrl.extract.runtimes import RuntimeSettings


@dataclass(frozen=True)
class ExtractRequest:
    """Which videos to extract to which store, and how."""

    dataset: str  # a name in `ssrl.datasets`
    root: Path | None = None  # the dataset's folder; None: data/DATASET
    out: Path | None = None  # the store's folder; None: features/DATASET
    manifest: Path | None = None  # table of videos, for the dataset "manifest"
    frame_labels: Path | None = None  # table of anomalous frames, likewise
    encoder: EncoderName = "micro3d"
    weights: str | None = None  # a name or a file; None: the encoder's default
    runtime: Runtime = "auto"
    device: Device = "auto"
    precision: Precision = "auto"
    decoder: Decoder = "auto"
    decoders: int | None = None  # decoding processes; None: 1, or 4 for a GPU
    time_limit: float = 120.0  # seconds without a frame after which a decoder counts as hung
    memory: int | None = None  # bytes, over all processes; None: unlimited
    scales: tuple[int, ...] = (1, 2, 3, 4)
    size: tuple[int, int] = PAPER_SIZE  # height and width in pixels
    dtype: Dtype = "float16"  # of the features on disk
    train_sampling: TrainSampling = "dense"
    reuse_static: bool = False
    shard: Shard = Shard()
    check: bool = False  # only read the tables and every video: nothing is encoded or written


@dataclass(frozen=True)
class ExtractResult:
    """The outcome of an extraction run."""

    store: Path
    summary: Summary
    missing: tuple[str, ...]  # expected by the dataset but not on disk

    @property
    def complete(self) -> bool:
        return not self.summary.failed and not self.missing


def extract_features(request: ExtractRequest, watcher: ExtractionWatcher | None = None) -> ExtractResult:
    """Encode the videos of a dataset. Videos already in the store are skipped; failures are listed in the result. Under
    torchrun, the ranks divide the videos.

    Raises a UserError if nothing can be done: an unknown name, no videos, or a store of another configuration.
    """
    from ssrl.datasets import load_dataset
    from ssrl.extract.checking import check_videos
    from ssrl.extract.encoders import load_encoder
    from ssrl.extract.memory import plan_decoding
    from ssrl.extract.pipeline import Decoding, ExtractionWatcher, extract_videos
    from ssrl.extract.runtimes import choose_runtime
    from ssrl.geometry import Geometry
    from ssrl.store.reader import Store
    from ssrl.store.tables import write_table
    from ssrl.store.writer import StoreWriter

    watcher = watcher or ExtractionWatcher()
    root = request.root or Path("data") / request.dataset
    dataset = load_dataset(request.dataset, root, manifest=request.manifest, frame_labels=request.frame_labels)
    videos = request.shard.select(dataset.videos) if request.shard.count > 1 else list(dataset.videos)
    out, geometry = request.out or Path("features") / request.dataset, Geometry.with_paper_grids(*request.size)
    if request.check:
        watcher.run_begins(dataset, "none, videos are only read", len(videos))
        decoding = Decoding(request.decoder, time_limit_seconds=request.time_limit)
        return ExtractResult(out, check_videos(videos, geometry, decoding, watcher), dataset.missing)
    rank = Rank.from_environment()
    encoder = load_encoder(request.encoder, request.weights)

    def choose(precision: str) -> RuntimeSettings:
        local_rank = rank.local_rank if rank else 0
        return choose_runtime(encoder, request.runtime, request.device, precision, local_rank, geometry, request.scales)

    if rank:
        settings = choose(rank.agree("precision", lambda: choose(_find_precision(request, out)).precision))
    else:
        settings = choose(_find_precision(request, out))
    config = encoder.describe_features(
        request.dataset,
        geometry=geometry,
        scales=request.scales,
        precision=settings.precision,
        dtype=request.dtype,
        train_sampling=request.train_sampling,
        reuse_static=request.reuse_static,
    )
    writer = StoreWriter(out, config)
    write_table(writer.root, name_table(request, root), dataset.named_ids)
    if unnamed := Store(writer.root).unnamed_ids():
        watcher.videos_left_out(unnamed, writer.root)
    runtimes = settings.make_runtimes(geometry)
    runtime = runtimes(writer.config.scales)
    decoding = plan_decoding(request.decoder, request.decoders, request.memory, runtime, geometry)
    decoding = replace(decoding, time_limit_seconds=request.time_limit)
    watcher.run_begins(dataset, str(settings), len(videos))
    shared = hand_out(videos, rank.take_number) if rank else videos
    summary = extract_videos(shared, writer, runtimes, watcher, decoding)
    if rank:
        rank.wait_for_all()
    return ExtractResult(writer.root, summary, dataset.missing)


def _find_precision(request: ExtractRequest, out: Path) -> str:
    """The requested precision, or that of the features that are there already: two do not mix."""
    from ssrl.extract.runtimes import AUTO, PRECISIONS
    from ssrl.store.layout import CONFIG_FILE, read_config

    if request.precision != AUTO or not (out / CONFIG_FILE).exists():
        return request.precision
    stored = read_config(out).precision
    return stored if stored in PRECISIONS else request.precision


def name_table(request: ExtractRequest, root: Path) -> str:
    """Name the table that a request's videos are listed in: the same in every run that reads it."""
    return f"{request.dataset} {(request.manifest or root).resolve()}"
