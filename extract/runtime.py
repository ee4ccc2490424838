"""Running an encoder on a device: uint8 patch cubes in, float32 features out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssrl.devices import choose_device
from ssrl.errors import UserError
from ssrl.extract.encoders import MEAN, STD, Encoder

PRECISIONS = ("auto", "float32", "bfloat16")
BATCH_PIXELS = 480 * 840 * 16  # of all frames of all cubes of a batch: one whole snippet of the paper


class TorchRuntime:
    """PyTorch on CPU or CUDA. `device` and `precision` tell what "auto" came to."""

    def __init__(self, encoder: Encoder, device: str = "auto", precision: str = "auto") -> None:
        self.encoder = encoder
        self.device = choose_device(device)
        self.precision = _precision(precision, self.device)
        self._dtype = getattr(torch, self.precision)
        self._network = encoder.network.to(self.device, self._dtype, memory_format=torch.channels_last_3d)

    def __str__(self) -> str:
        return f"{self.encoder.name} on {self.device.type} in {self.precision}"

    @torch.inference_mode()
    def encode(self, cubes: np.ndarray) -> np.ndarray:
        """(B, L, h, w, 3) uint8 → (B, D) float32, in batches of bounded size."""
        size = max(1, BATCH_PIXELS // int(np.prod(cubes.shape[1:4])))
        parts = [self._encode_batch(torch.from_numpy(cubes[i : i + size])) for i in range(0, len(cubes), size)]
        return torch.cat(parts).numpy()

    def _encode_batch(self, cubes: Tensor) -> Tensor:
        pixels = cubes.to(self.device).permute(0, 4, 1, 2, 3)  # (B, 3, L, h, w), channels last
        normalised = pixels.to(torch.float32).sub_(MEAN * 255).div_(STD * 255)
        return self._network(normalised.to(self._dtype)).float().cpu()


def _precision(name: str, device: torch.device) -> str:
    if name not in PRECISIONS:
        raise UserError(f"there is no precision {name!r}; allowed are {', '.join(PRECISIONS)}")
    if name != "auto":
        return name
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
