"""What stands on the page of tables: the facts of the store and of the runs, the rows' AUCs, Table 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssrl.datasets.video import frame_labels
from ssrl.hardware import cores, processor
from ssrl.paper_tables.cost import NUM_SEGMENTS, TABLE_6, WHAT_IS_COUNTED, Cells, encoder_cells, network_cells
from ssrl.paper_tables.markdown import Page
from ssrl.paper_tables.rows import ALL, WHOLE, Setting, auc_tables, left_out, settings_of
from ssrl.paper_tables.runs import model_of

if TYPE_CHECKING:
    from ssrl.paper_tables.request import Request
    from ssrl.paper_tables.runs import Runs
    from ssrl.store.layout import StoreConfig, VideoRecord

METRIC = (
    "frame AUC in per cent at the end of each stage, over the true frames of all test videos; "
    "no step was selected on test labels"
)
SMALL_REMARK = (
    "The recipe small and the encoder micro3d were settled on the synthetic set and on UCSD Ped2 with the test AUC in "
    "view: figures on these two sets are optimistic."
)


def make_page(runs: Runs, request: Request) -> Page:
    """All runs must be finished."""
    tables = auc_tables(request.scales)
    config = runs.store.config
    return Page(
        title=f"The paper's tables on {request.features.name}",
        command=str(request),
        facts=facts(runs),
        remarks=remarks(request),
        tables=tables,
        seeds=request.seeds,
        aucs=runs.aucs(settings_of(tables)),
        paper=None if request.paper == "none" else request.paper,
        complexity=table_6(request.recipe, request.scales, config),
        complexity_note=f"Of one video of {NUM_SEGMENTS} segments. {WHAT_IS_COUNTED}",
    )


def facts(runs: Runs) -> dict[str, str]:
    store, config = runs.store, runs.store.config
    training = runs.trainer(runs.jobs[0]).config
    mean = f", weights averaged from {training.average_from:.0%} of a stage on" if training.average_from < 1 else ""
    sampling = f", training videos sampled as {config.train_sampling}" if config.train_sampling != "dense" else ""
    reuse = ", features of unchanged patches reused" if config.reuse_static else ""
    snippet = f"{config.geometry.height}x{config.geometry.width}x{config.geometry.frames_per_snippet}"
    return {
        "machine": machine(runs),
        "layout": config.dataset,
        "encoder": f"{config.encoder}, weights {config.weights} (SHA-256 {config.weights_sha256[:12]}…), "
        f"D = {config.feature_dim}",
        "snippets": f"{snippet}{sampling}{reuse}",
        "scales": ", ".join(f"{scale}: {window}" for scale, window in windows(config).items()),
        "training videos": counts(store.records("train")),
        "test videos": counts(store.records("test"), with_frames=True),
        "recipe": f"{training.recipe}, {training.steps} steps a stage, learning rate {training.learning_rate:g}{mean}",
        "seeds": ", ".join(map(str, runs.seeds)),
        "metric": METRIC,
    }


def machine(runs: Runs) -> str:
    """The machine that writes the page, with its GPU where that was asked for or found."""
    import torch

    text = f"{processor()}, {cores()} cores"
    return f"{text}, {torch.cuda.get_device_name(runs.device)}" if runs.device.type == "cuda" else text


def windows(config: StoreConfig) -> dict[int, str]:
    """Scale → its windows and their number."""
    grids = [config.geometry.grid(scale) for scale in config.scales]
    return {grid.scale: f"{grid.window_height}x{grid.window_width} ({grid.num_patches})" for grid in grids}


def counts(videos: Sequence[VideoRecord], with_frames: bool = False) -> str:
    frames = sum(video.num_frames for video in videos)
    abnormal = sum(video.label == 1 for video in videos)
    text = f"{len(videos)} ({abnormal} abnormal), {frames:,} frames"
    if not with_frames:
        return text
    anomalous = sum(int(frame_labels(video.anomalies or (), video.num_frames).sum()) for video in videos)
    return f"{text} ({anomalous:,} anomalous)"


def remarks(request: Request) -> list[str]:
    """What a reader must know: how the recipe came about, and where not all of the paper's scales are there."""
    found = [SMALL_REMARK] if request.recipe == "small" else []
    missing = left_out(request.scales)
    if missing:
        named = "; ".join(", ".join(map(str, subset)) for subset in missing)
        found.append(
            f"All scales are {', '.join(map(str, request.scales))} here; the paper's are {', '.join(map(str, ALL))}. "
            f"Left out of Table 3, because they need other scales: {named}."
        )
    return found


def table_6(recipe: str, scales: tuple[int, ...], config: StoreConfig) -> tuple[Cells, ...]:
    """Our networks, their encoder, and the paper's figures as printed."""
    networks = (
        ("baseline: scale 1 alone", WHOLE),
        ("SSRL", Setting("plain", scales)),
        ("SSRL, PSR shared", Setting("shared", scales)),
    )
    ours = [network_cells(name, model_of(setting, recipe, config), config.num_crops) for name, setting in networks]
    printed = [(f"paper: {method} ({encoder})", params, "", flops) for method, encoder, params, flops in TABLE_6]
    return (*ours, *encoder_cells(scales, config), *printed)
