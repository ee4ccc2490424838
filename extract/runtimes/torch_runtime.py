"""PyTorch, on CUDA or as the CPU's fallback: channels last, batch norms folded into convolutions, bfloat16 on CUDA.

With torch.compile the whole path from uint8 snippets to features is one graph, and the operations between convolutions
fuse into a kernel or two. Compiling takes a minute or two the first time and is cached on disk.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssrl.cache import get_cache_folder, keep_within_limit, mark_used
from ssrl.errors import UserError
from ssrl.extract.encoders import Encoder
from ssrl.extract.patch_encoder import CubeEncoder, SnippetEncoder
from ssrl.geometry import Grid

logger = logging.getLogger(__name__)
CUDA_BATCH = 8  # snippets of 480x840; halved when out of GPU memory


class TorchRuntime:
    """See `ssrl.extract.runtimes.Runtime`."""

    def __init__(
        self, encoder: Encoder, grids: Sequence[Grid], device: torch.device, precision: str, compiled: bool = False
    ) -> None:
        self.name = "torch-compile" if compiled else "torch"
        self.encoder = encoder
        self.grids = tuple(grids)
        self.device = device
        self.precision = precision
        self.batch = CUDA_BATCH if device.type == "cuda" else 1
        network = fold_batch_norms(encoder.network).to(device, getattr(torch, precision))
        network = network.to(memory_format=torch.channels_last_3d)
        self._encode: Any = SnippetEncoder(encoder.prepare, network, self.grids).eval()
        self._encode_cubes: Any = CubeEncoder(encoder.prepare, network).eval()
        if compiled:
            self._encode, self._encode_cubes = Compiled(self._encode), Compiled(self._encode_cubes)

    def encode_snippets(self, snippets: np.ndarray) -> dict[int, np.ndarray]:
        try:
            return self._encode_batch(snippets)
        except torch.OutOfMemoryError as error:
            return self._encode_halves(snippets, error)

    @torch.inference_mode()
    def encode_cubes(self, cubes: np.ndarray) -> np.ndarray:
        per_batch = max(1, self.batch * self.grids[0].window_pixels // (cubes.shape[2] * cubes.shape[3]))
        parts = torch.from_numpy(cubes).split(per_batch)
        return torch.cat([self._encode_cubes(part.to(self.device)).cpu() for part in parts]).numpy()

    @torch.inference_mode()
    def _encode_batch(self, snippets: np.ndarray) -> dict[int, np.ndarray]:
        features = self._encode(torch.from_numpy(snippets).to(self.device))
        return {grid.scale: array.cpu().numpy() for grid, array in zip(self.grids, features, strict=True)}

    def _encode_halves(self, snippets: np.ndarray, error: Exception) -> dict[int, np.ndarray]:
        """Retry with half the batch size, which is kept from then on."""
        half = len(snippets) // 2
        if not half:
            raise UserError(
                f"one snippet of {self.encoder.name} does not fit in the memory of {self.device}; "
                f"close other programs on it, or use a smaller --size or --device cpu"
            ) from error
        self.batch = half
        torch.cuda.empty_cache()
        logger.warning(f"{self.device} is out of memory; continuing with batches of {half} snippets")
        parts = [self.encode_snippets(part) for part in (snippets[:half], snippets[half:])]
        return {grid.scale: np.concatenate([part[grid.scale] for part in parts]) for grid in self.grids}


class Compiled:
    """A network under torch.compile, or as it is if compilation fails: no C++ compiler, no Triton, an unsupported
    card. Batches of any size share one graph.
    """

    def __init__(self, network: nn.Module) -> None:
        folder = get_cache_folder() / "inductor" / f"torch-{torch.__version__}"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        mark_used(folder)
        keep_within_limit()
        self._network = network
        self._run: Any = torch.compile(network)

    def __call__(self, pixels: Tensor) -> Any:
        if self._run is self._network:
            return self._network(pixels)
        try:
            torch._dynamo.maybe_mark_dynamic(pixels, 0)
            return self._run(pixels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            logger.warning(f"torch.compile failed; running without it ({reason})")
            self._run = self._network
            return self._network(pixels)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Copy the network, in evaluation mode, with each batch norm folded into the convolution before it.

    The order of calls is read from a trace; a network that cannot be traced is returned unfolded.
    """
    network = copy.deepcopy(network).eval()
    try:
        traced = torch.fx.symbolic_trace(network)
    except Exception:  # tracing fails in many ways, e.g. on data-dependent control flow
        return network
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm3d):
            continue
        if not isinstance(before, torch.fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv = modules[before.target]
        if isinstance(conv, nn.Conv3d):
            _replace(traced, str(before.target), fuse_conv_bn_eval(conv, modules[node.target]))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
