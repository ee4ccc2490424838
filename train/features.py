"""The features that a stage of training reads, from wherever they are kept, one batch ahead of the step.

Shapes: V videos of the view, B videos of a batch, S segments, C crops, N_r patches, D features.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from mmap import mmap
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ssrl.model.blend import BlendOutput
from ssrl.model.build import Network
from ssrl.model.network import SSRL, Output
from ssrl.store.segments import SegmentView

Cache = Literal["auto", "device", "memory", "disk"]
CHUNK_VIDEOS = 16  # whose frozen branches run at once
Key = TypeVar("Key")
Value = TypeVar("Value")


class TrainingFeatures(Protocol):
    """The videos of some bags, in the form in which a network takes them."""

    def run(self, network: Network, indices: np.ndarray) -> Output | BlendOutput:
        """The output of the network for some videos, by index into the view."""


@dataclass(frozen=True)
class Batch:
    """Some videos, as a network takes them."""

    scales: Mapping[int, Tensor]  # scale → (B, S, N_r, D)
    previous: Tensor | None = None  # (B, C, S, D), the sum over scales that are left out

    def run(self, network: SSRL, autocast: bool = False) -> Output:
        """The network's output. With `autocast`, PSR and MPA multiply in bfloat16, and what follows them, which costs
        little, in float32.
        """
        device = next(iter(self.scales.values())).device
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            (embedded,) = network.embed(self.scales, self.previous)
        return network.relate((embedded.float(),))


class Features:
    """The videos of a view in the scales that a stage trains, and the sum over scales that were trained before."""

    def __init__(
        self,
        view: SegmentView,
        scales: Sequence[int],
        device: torch.device,
        cache: Cache = "disk",
        previous: np.ndarray | None = None,
    ) -> None:
        self.device = device
        self.view = view
        self.previous = previous
        arrays = {scale: view.scales[scale] for scale in scales}
        kept = choose_cache(cache, sum(array.nbytes for array in arrays.values()), device)
        self.arrays = {scale: _keep(array, kept, device) for scale, array in arrays.items()}

    def load(self, indices: np.ndarray) -> Batch:
        """Some videos, by index into the view."""
        scales = {scale: self._gather(array, indices) for scale, array in self.arrays.items()}
        return Batch(scales, None if self.previous is None else self._gather(self.previous, indices))

    def run(self, network: Network, indices: np.ndarray) -> Output:
        assert isinstance(network, SSRL)
        return self.load(indices).run(network)

    def _gather(self, array: np.ndarray | Tensor, indices: np.ndarray) -> Tensor:
        """float32, on the device."""
        if isinstance(array, Tensor):
            return array[torch.from_numpy(indices).to(array.device)].float()
        on_gpu = self.device.type == "cuda"
        dtype = torch.from_numpy(array[:0].copy()).dtype if on_gpu else torch.float32
        gathered = torch.empty(len(indices), *array.shape[1:], dtype=dtype, pin_memory=on_gpu)
        for target, row in zip(gathered, read_rows(array, indices), strict=True):
            target.copy_(torch.from_numpy(row))
        return gathered.to(self.device, non_blocking=True).float()


def read_rows(array: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows (...) of an array; those of a mapped file, which is read faster than its mapping, share one buffer."""
    if not isinstance(array, np.memmap) or not isinstance(array.base, mmap):  # a part of one does not know its offset
        yield from (array[index] for index in indices)
        return
    row = np.empty(array.shape[1:], array.dtype)
    starts = [array.offset + int(index) * row.nbytes for index in indices]
    with open(array.filename, "rb", buffering=0) as file:
        for start, following in zip_longest(starts, starts[1:]):
            if following is not None and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), following, row.nbytes, os.POSIX_FADV_WILLNEED)  # no disk is idle
            file.seek(start)
            if file.readinto(row.data.cast("B")) != row.nbytes:
                raise OSError(errno.EIO, "the file has become shorter", str(array.filename))
            yield row


def choose_cache(cache: Cache, num_bytes: int, device: torch.device) -> Cache:
    """Where features of this size are kept: "auto" is the fastest place that has twice the room."""
    if cache != "auto":
        return cache
    if device.type == "cuda" and num_bytes <= torch.cuda.mem_get_info(device)[0] // 2:
        return "device"
    return "memory" if num_bytes <= measure_free_memory() // 2 else "disk"


def measure_free_memory() -> int:
    """Bytes that can be used without swapping; 0 where the system does not tell."""
    path = Path("/proc/meminfo")
    if path.exists():
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def _keep(array: np.ndarray, cache: Cache, device: torch.device) -> np.ndarray | Tensor:
    if cache == "disk":
        return array
    held = np.array(array)
    return torch.from_numpy(held).to(device) if cache == "device" else held


@torch.no_grad()
def sum_scales(network: SSRL, view: SegmentView, scales: Sequence[int], indices: np.ndarray) -> np.ndarray:
    """(V, C, S, D) float16: what some scales of some videos add up to once their branches stay as they are."""
    device = next(network.parameters()).device
    features = Features(view, scales, device)
    total: np.ndarray | None = None
    for start in range(0, len(indices), CHUNK_VIDEOS):
        chunk = indices[start : start + CHUNK_VIDEOS]
        sums = network.eval().aggregate(features.load(chunk).scales).cpu().numpy()
        if total is None:
            total = np.zeros((len(view.ids), *sums.shape[1:]), np.float16)
        total[chunk] = sums
    assert total is not None
    return total


def read_ahead(read: Callable[[Key], Value], keys: Iterable[Key]) -> Iterator[tuple[Key, Value]]:
    """Read what belongs to each key in turn, in a thread that is one ahead of the caller."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        following = None
        for key in keys:
            current, following = following, (key, pool.submit(read, key))
            if current is not None:
                yield current[0], current[1].result()
        if following is not None:
            yield following[0], following[1].result()
