"""Size and cost of networks and encoders (Table 6), as cells of a table."""

from __future__ import annotations

from ssrl.config import StoreConfig
from ssrl.extract.encoders import ENCODERS
from ssrl.extract.flops import count_encoder_complexity
from ssrl.model.config import AnyModelConfig
from ssrl.model.flops import measure_network

Cells = tuple[str, str, str, str]  # what, and its COUNTS
COUNTS = ("parameters", "multiply-adds", "FLOPs")
NUM_SEGMENTS = 32
TABLE_6 = (  # method, encoder, parameters, FLOPs; as printed
    ("RTFM", "I3D", "28M", "186.9G"),
    ("Zhong et al.", "C3D", "78M", "386.2G"),
    ("SSRL", "I3D", "191M", "214.6G"),
    ("SSRL, PSR shared", "I3D", "136M", "214.6G"),
)
COUNT_NOTE = (
    "Multiply-adds are those of convolutions, linear layers and matrix products; FLOPs are twice that. The paper's "
    "Table 6 does not say which of the two it counts, for what video length, and whether the encoder is included."
)


def count_network(name: str, model: AnyModelConfig, num_crops: int = 1) -> Cells:
    """Measure a network on one video of 32 segments."""
    size = measure_network(model, NUM_SEGMENTS, num_crops)
    return name, f"{size.parameters:,}", format_count(size.macs), format_count(size.flops)


def count_encoder(scales: tuple[int, ...], store: StoreConfig | None) -> tuple[Cells, ...]:
    """Measure the encoder of a store on 32 snippets and on one."""
    if store is None or store.encoder not in ENCODERS:
        name = "encoder" if store is None else f"encoder {store.encoder}"
        return ((name, "unknown", "unknown", "unknown"),)
    size = count_encoder_complexity(store.encoder, store.geometry, scales)
    name = f"encoder {store.encoder}"
    macs, flops = (format_count(NUM_SEGMENTS * count) for count in (size.macs, size.flops))
    return (
        (f"{name}, {NUM_SEGMENTS} snippets", f"{size.parameters:,}", macs, flops),
        (f"{name}, one snippet", "", format_count(size.macs), format_count(size.flops)),
    )


def format_paper_costs(source: str) -> tuple[Cells, ...]:
    """The paper's printed numbers, with `source` before each name."""
    return tuple((f"{source}: {method} ({encoder})", params, "", flops) for method, encoder, params, flops in TABLE_6)


def format_count(count: int) -> str:
    """57_673_113_600 → "57.7G"."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:,.1f}{unit}"
    return str(count)
