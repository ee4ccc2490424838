"""The machine: its processor, cores and PyTorch device."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ssrl.errors import UserError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


def describe_processor() -> str:
    """Return the processor's name, from Linux or else from Python."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def count_cores() -> int:
    return os.cpu_count() or 1


def choose_device(name: str) -> torch.device:
    """Choose a device; "auto" is CUDA if available. Raises a UserError for unknown names and unavailable CUDA.

    Turns off TF32, with which cuDNN rounds the operands of float32 convolutions to 10 bits.
    """
    import torch

    if name not in DEVICES:
        raise UserError(f"unknown device {name!r}; allowed are {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device found; use --device cpu or auto")
    torch.backends.cudnn.allow_tf32 = False
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """Run this thread's small PyTorch operations on one core. Where other threads compute too, waiting for one another
    in each operation takes longer than what is shared out. Threads that first use PyTorch meanwhile stay on one core.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_first_process() -> bool:
    """Whether this process speaks for those that torchrun started; without it, it does."""
    return os.environ.get("RANK", "0") == "0"


def is_restarted() -> bool:
    """Whether torchrun started this process again, after another had failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
