"""Choosing where PyTorch computes."""

from __future__ import annotations

import torch

from ssrl.errors import UserError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one. Raises a UserError for unknown names, and for CUDA where there is none.

    float32 then means float32: cuDNN's convolutions, left alone, round their operands to 10 bits (TF32).
    """
    if name not in DEVICES:
        raise UserError(f"there is no device {name!r}; allowed are {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device was found; use --device cpu or auto")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
