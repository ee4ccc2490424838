"""make bench [ARGS="--only training"]: the speed of extraction and training, as ratios to baselines in the same run.

What is measured is in benchmarks/extraction.py and benchmarks/training.py. Everything has to end within --minutes, so
that less is repeated where a snippet or a step takes long.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.extraction import PLANS, measure_extraction
from benchmarks.peak import measure_peak_flops
from benchmarks.training import measure_training
from ssrl.console import note
from ssrl.files import write_json
from ssrl.hardware import choose_device, count_cores, describe_processor

MINUTES = 15.0
PLANNED = 0.75  # of the minutes: loading, compiling and the least that is measured may take more than their share
PARTS = ("extraction", "training")
MATRIX = 4096


@click.command()
@click.option("--only", "parts", multiple=True, default=PARTS, show_default=True, type=click.Choice(PARTS))
@click.option("--json", "path", default="bench.json", type=click.Path(path_type=Path), help="Output file.")
@click.option("--threads", default=count_cores(), show_default=True, help="Threads of PyTorch and OpenVINO.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--encoder", "names", multiple=True, default=tuple(PLANS), show_default=True, help="May be repeated.")
@click.option("--minutes", default=MINUTES, show_default=True, help="Time to end within.")
def main(parts: tuple[str, ...], path: Path, threads: int, device: str, names: tuple[str, ...], minutes: float) -> None:
    """Measure, print tables, and write the results."""
    start = time.perf_counter()
    torch.set_num_threads(threads)
    chosen = choose_device(device)
    peaks = {name: measure_peak_flops(chosen, name, MATRIX) for name in list_precisions(chosen)}
    measured: dict[str, Any] = {"machine": describe_machine(chosen, threads, peaks)}
    note(str(measured["machine"]))
    with tempfile.TemporaryDirectory() as name:
        folder, seconds = Path(name), 60 * PLANNED * minutes / len(parts)
        if "extraction" in parts:
            encoders = measure_extraction(chosen, names, folder, peaks, seconds)
            measured["extraction"] = {encoder: asdict(each) for encoder, each in encoders.items()}
        if "training" in parts:
            measured["training"] = asdict(measure_training(chosen, folder, peaks, threads, seconds))
    measured["minutes"] = round((time.perf_counter() - start) / 60, 1)
    write_json(path, measured)
    note(f"results after {measured['minutes']} minutes: {path}")


def describe_machine(device: torch.device, threads: int, peaks: dict[str, float]) -> dict[str, Any]:
    return {
        "processor": describe_processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
        "cores": count_cores(),
        "threads": threads,
        "peak_gflops": {name: round(value / 1e9, 1) for name, value in peaks.items()},
    }


def list_precisions(device: torch.device) -> tuple[str, ...]:
    """Those that the device multiplies in: a processor that only emulates bfloat16 may need minutes for a snippet."""
    if device.type == "cuda":
        return ("float32", "bfloat16") if torch.cuda.is_bf16_supported() else ("float32",)
    from ssrl.extract.runtimes.openvino_runtime import has_bfloat16

    return ("float32", "bfloat16") if has_bfloat16() else ("float32",)


if __name__ == "__main__":
    main()
