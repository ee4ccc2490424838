"""The machine: what it is called, and where PyTorch computes on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ssrl.errors import UserError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


def processor() -> str:
    """The processor's name as Linux tells it, or what Python knows of it elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    return os.cpu_count() or 1


def choose_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one. Raises a UserError for unknown names, and for CUDA where there is none.

    float32 then means float32: cuDNN's convolutions, left alone, round their operands to 10 bits (TF32).
    """
    import torch

    if name not in DEVICES:
        raise UserError(f"there is no device {name!r}; allowed are {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device was found; use --device cpu or auto")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
