"""Running an encoder on a device: uint8 snippets and their patch cubes in, float32 features out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssrl.devices import choose_device
from ssrl.errors import UserError
from ssrl.extract.encoders import Encoder

PRECISIONS = ("auto", "float32", "bfloat16")
BATCH_PIXELS = 480 * 840 * 16  # of all frames of all cubes of a batch: one whole snippet of the paper


class TorchRuntime:
    """PyTorch on CPU or CUDA. `device` and `precision` tell what "auto" came to."""

    def __init__(self, encoder: Encoder, device: str = "auto", precision: str = "auto") -> None:
        self.encoder = encoder
        self.device = choose_device(device)
        self.precision = _precision(precision, self.device)
        self._dtype = getattr(torch, self.precision)
        self._network = encoder.network.to(self.device, self._dtype).to(memory_format=torch.channels_last_3d)

    def __str__(self) -> str:
        return f"{self.encoder.name} on {self.device.type} in {self.precision}"

    def prepare(self, snippet: np.ndarray) -> Tensor:
        """(L, H, W, 3) uint8 → what the encoder wants, (K, L, H, W) float32, on the device."""
        return self.encoder.prepare(torch.from_numpy(snippet).to(self.device))

    @torch.inference_mode()
    def encode(self, cubes: Tensor) -> np.ndarray:
        """Prepared patch cubes (B, K, L, h, w) → (B, D) float32, in batches of bounded size."""
        size = max(1, BATCH_PIXELS // (cubes.shape[2] * cubes.shape[3] * cubes.shape[4]))
        return torch.cat([self._network(batch).float().cpu() for batch in cubes.split(size)]).numpy()


def _precision(name: str, device: torch.device) -> str:
    if name not in PRECISIONS:
        raise UserError(f"there is no precision {name!r}; allowed are {', '.join(PRECISIONS)}")
    if name != "auto":
        return name
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
