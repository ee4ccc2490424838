"""`ssrl-eval --complexity`: size and cost of a checkpoint's network and of its encoder, beside the paper's Table 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssrl.console import results

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint
    from ssrl.model.network import ModelConfig
    from ssrl.store.layout import StoreConfig

Cells = tuple[str, str, str, str]  # what, and its COUNTS
COUNTS = ("parameters", "multiply-adds", "FLOPs")
NUM_SEGMENTS = 32
TABLE_6 = (  # method, encoder, parameters, FLOPs; as printed
    ("RTFM", "I3D", "28M", "186.9G"),
    ("Zhong et al.", "C3D", "78M", "386.2G"),
    ("SSRL", "I3D", "191M", "214.6G"),
    ("SSRL, PSR shared", "I3D", "136M", "214.6G"),
)
WHAT_IS_COUNTED = (
    "Counted are the multiply-adds of convolutions, linear layers and matrix products; FLOPs are twice that. "
    "Table 6 does not say which of the two it means, of how long a video, nor whether the encoder is in it."
)


def print_complexity(checkpoint: Checkpoint, store: StoreConfig | None) -> None:
    """`store` describes the features; None: those that the checkpoint was trained on."""
    from rich.table import Table

    from ssrl.store.layout import StoreConfig

    if store is None and "config" in checkpoint.store:
        store = StoreConfig.from_json(checkpoint.store["config"], checkpoint.store["path"])
    model = checkpoint.model
    size = "" if store is None else f", frames of {store.geometry.height}x{store.geometry.width}"
    title = f"one video of {NUM_SEGMENTS} segments, scales {','.join(map(str, model.scales))}{size}"
    table = Table("", *COUNTS, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    num_crops = 1 if store is None else store.num_crops
    crops = f", {num_crops} crops" if num_crops > 1 else ""
    table.add_row(*network_cells(f"network, D = {model.feature_dim}{crops}", model, num_crops))
    for cells in encoder_cells(model.scales, store):
        table.add_row(*cells)
    table.add_section()
    for method, encoder, parameters, flops in TABLE_6:
        table.add_row(f"Table 6: {method} ({encoder})", parameters, "", flops)
    results.print(table)
    results.print(WHAT_IS_COUNTED)


def network_cells(name: str, model: ModelConfig, num_crops: int = 1) -> Cells:
    """A network on one video of 32 segments."""
    from ssrl.model.flops import network_complexity

    found = network_complexity(model, NUM_SEGMENTS, num_crops)
    return name, f"{found.parameters:,}", quantity(found.macs), quantity(found.flops)


def encoder_cells(scales: tuple[int, ...], store: StoreConfig | None) -> tuple[Cells, ...]:
    """The encoder of a store on 32 snippets, and on one."""
    from ssrl.extract.encoders import ENCODERS
    from ssrl.extract.flops import encoder_complexity

    if store is None or store.encoder not in ENCODERS:
        name = "encoder" if store is None else f"encoder {store.encoder}"
        return ((name, "not known", "not known", "not known"),)
    found = encoder_complexity(store.encoder, store.geometry, scales)
    name = f"encoder {store.encoder}"
    macs, flops = (quantity(NUM_SEGMENTS * count) for count in (found.macs, found.flops))
    return (
        (f"{name}, {NUM_SEGMENTS} snippets", f"{found.parameters:,}", macs, flops),
        (f"{name}, one snippet", "", quantity(found.macs), quantity(found.flops)),
    )


def quantity(count: int) -> str:
    """57_673_113_600 → "57.7G"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:,.1f}{unit}"
    return str(count)
