"""OpenVINO, the fastest on CPUs: one compiled graph of static shape from uint8 snippets to features.

The graph is exported without running it, within seconds, and its compiled form is cached on disk. OpenVINO has no
choice of precision: in bfloat16 it computes what the network with bfloat16 weights would compute in PyTorch. Left to
choose, it would also round pixel differences before the first convolution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ssrl.cache import get_cache_folder, keep_within_limit, mark_used
from ssrl.extract.encoders import Encoder
from ssrl.extract.patch_encoder import CubeEncoder, SnippetEncoder
from ssrl.extract.runtimes.untracked import openvino
from ssrl.geometry import Grid

SLACK_BYTES = 64
Kind = Literal["snippets", "cubes"]


class OpenVinoRuntime:
    """See `ssrl.extract.runtimes.Runtime`. A batch is one snippet: larger ones are no faster on a CPU."""

    name = "openvino"
    batch = 1

    def __init__(self, encoder: Encoder, grids: Sequence[Grid], precision: str) -> None:
        self.encoder = encoder
        self.grids = tuple(grids)
        self.device = torch.device("cpu")
        self.precision = precision
        self._core = openvino.Core()
        self._compiled: dict[Any, Any] = {}

    def encode_snippets(self, snippets: np.ndarray) -> dict[int, np.ndarray]:
        outputs = [self._run("snippets", snippet[None]) for snippet in snippets]
        scales = [grid.scale for grid in self.grids]
        return {scale: np.concatenate(parts) for scale, parts in zip(scales, zip(*outputs, strict=True), strict=True)}

    def encode_cubes(self, cubes: np.ndarray) -> np.ndarray:
        return np.concatenate([self._run("cubes", cube[None])[0] for cube in cubes])

    def _run(self, kind: Kind, pixels: np.ndarray) -> list[np.ndarray]:
        if (kind, pixels.shape) not in self._compiled:
            self._compiled[kind, pixels.shape] = self._compile(kind, pixels), _allocate(pixels)
        compiled, buffer = self._compiled[kind, pixels.shape]
        buffer[...] = pixels
        outputs = compiled(buffer)
        return [outputs[i].copy() for i in range(len(outputs))]

    def _make_network(self, kind: Kind) -> nn.Module:
        network = self.encoder.copy_for_cpu().to(getattr(torch, self.precision))
        if kind == "cubes":
            return CubeEncoder(self.encoder.prepare, network)
        return SnippetEncoder(self.encoder.prepare, network, self.grids)

    def _compile(self, kind: Kind, pixels: np.ndarray) -> Any:
        with torch.inference_mode():
            exported = torch.export.export(self._make_network(kind).eval(), (torch.from_numpy(pixels.copy()),))
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # at least
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # a thread tied to the decoder's core would hold up all others
        }
        folder = get_cache_folder() / "openvino" / self._hash(kind, pixels)
        with suppress(OSError):  # an unwritable cache only costs time
            folder.mkdir(parents=True, exist_ok=True)
            settings["CACHE_DIR"] = str(folder)
        compiled = self._core.compile_model(openvino.convert_model(exported), "CPU", settings)
        for blob in folder.glob("*.blob"):
            mark_used(blob)
        keep_within_limit()
        return compiled

    def _hash(self, kind: Kind, pixels: np.ndarray) -> str:
        """Of what tells graphs apart, so that it is known which file was used; OpenVINO checks the rest."""
        facts = (self.encoder.name, self.encoder.weights.sha256, self.precision, self.grids, kind, pixels.shape)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _allocate(pixels: np.ndarray) -> np.ndarray:
    """An array like `pixels` (uint8) with readable memory behind it: OpenVINO's gather of single bytes reads four."""
    return np.empty(pixels.size + SLACK_BYTES, np.uint8)[: pixels.size].reshape(pixels.shape)


def has_bfloat16() -> bool:
    """Whether this processor supports bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
