"""Runtimes of an encoder: uint8 snippets in, float32 features out.

runtime          where                precision
openvino         CPU                  bfloat16 if the processor supports it and is faster in it, else float32
torch-compile    CUDA, else CPU       bfloat16 on CUDA, float32 on the CPU
torch            the same, without torch.compile

"auto" chooses OpenVINO on a CPU (plain PyTorch if OpenVINO is not installed) and torch.compile on CUDA.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from ssrl.errors import UserError
from ssrl.extract.encoders import Encoder
from ssrl.extract.runtimes.measuring import measure_precisions
from ssrl.extract.runtimes.torch_runtime import TorchRuntime
from ssrl.geometry import Geometry, Grid
from ssrl.hardware import choose_device

AUTO = "auto"
RUNTIMES = (AUTO, "openvino", "torch-compile", "torch")
PRECISIONS = (AUTO, "float32", "bfloat16")
PAPER_GEOMETRY = Geometry()


class Runtime(Protocol):
    """An encoder on a device. `name`, `device` and `precision` are what "auto" was resolved to."""

    name: str
    encoder: Encoder
    grids: tuple[Grid, ...]
    device: torch.device
    precision: str
    batch: int  # snippets to encode at once; may shrink at run time

    def encode_snippets(self, snippets: np.ndarray) -> dict[int, np.ndarray]:
        """(B, L, H, W, 3) uint8 → one array (B, N_r, D) float32 per scale."""

    def encode_cubes(self, cubes: np.ndarray) -> np.ndarray:
        """Patch cubes of one window, (n, L, h, w, 3) uint8 → (n, D) float32."""


@dataclass(frozen=True)
class RuntimeSettings:
    """What "auto" was resolved to for an encoder on this machine."""

    encoder: Encoder
    name: str
    device: torch.device
    precision: str
    measured: Mapping[str, float] = field(default_factory=dict)  # precision → seconds per snippet

    def load(self, grids: Sequence[Grid]) -> Runtime:
        if self.name != "openvino":
            return TorchRuntime(self.encoder, grids, self.device, self.precision, self.name == "torch-compile")
        from ssrl.extract.runtimes.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(self.encoder, grids, self.precision)

    def __str__(self) -> str:
        figures = ", ".join(f"{precision} {seconds:.2f} s" for precision, seconds in self.measured.items())
        by_measurement = f" (measured per snippet: {figures})" if figures else ""
        return f"{self.encoder.name} by {self.name} on {self.device} in {self.precision}{by_measurement}"

    def make_runtimes(self, geometry: Geometry) -> Callable[[tuple[int, ...]], Runtime]:
        """A cached function from scales to their runtime."""
        return functools.cache(lambda scales: self.load([geometry.grid(scale) for scale in scales]))


def choose_runtime(
    encoder: Encoder,
    runtime: str = AUTO,
    device: str = AUTO,
    precision: str = AUTO,
    local_rank: int = 0,
    geometry: Geometry = PAPER_GEOMETRY,
    scales: tuple[int, ...] = (1, 2, 3, 4),
) -> RuntimeSettings:
    """Resolve the requested runtime, or the fastest available. Raises a UserError for unknown or unavailable ones.

    With several GPUs, each local rank uses its own. The precision of OpenVINO is measured on snippets of `geometry`.
    """
    for name, value, allowed in (("runtime", runtime, RUNTIMES), ("precision", precision, PRECISIONS)):
        if value not in allowed:
            raise UserError(f"unknown {name} {value!r}; choose from {', '.join(allowed)}")
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local_rank % torch.cuda.device_count())
    if runtime == AUTO:
        on_cpu = "openvino" if _has_openvino() else "torch"
        runtime = "torch-compile" if chosen.type == "cuda" else on_cpu
    if runtime != "openvino":
        fast = chosen.type == "cuda" and torch.cuda.is_bf16_supported()
        return RuntimeSettings(encoder, runtime, chosen, _choose_precision(precision, fast))
    if not _has_openvino():
        raise UserError("OpenVINO is not installed; install it with pip install 'ssrl[cpu]', or use --runtime torch")
    if chosen.type != "cpu":
        raise UserError(f"the OpenVINO runtime supports the CPU, not {chosen}; use --device cpu or --runtime torch")
    from ssrl.extract.runtimes.openvino_runtime import has_bfloat16

    settings = RuntimeSettings(encoder, runtime, chosen, _choose_precision(precision, False))
    if precision == AUTO and has_bfloat16():
        return _choose_faster(settings, geometry, scales)
    return settings


def _choose_faster(settings: RuntimeSettings, geometry: Geometry, scales: tuple[int, ...]) -> RuntimeSettings:
    def load(precision: str) -> Callable[[np.ndarray], object]:
        return replace(settings, precision=precision).make_runtimes(geometry)(scales).encode_snippets

    loaders = {precision: functools.partial(load, precision) for precision in PRECISIONS if precision != AUTO}
    measured = measure_precisions(settings.encoder.name, geometry, scales, loaders)
    return replace(settings, precision=min(measured, key=measured.__getitem__), measured=measured)


def _choose_precision(name: str, fast_bfloat16: bool) -> str:
    if name != AUTO:
        return name
    return "bfloat16" if fast_bfloat16 else "float32"


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None
