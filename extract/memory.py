"""How many processes decode, and how many snippets may wait decoded, so that a run stays within its memory."""

from __future__ import annotations

import re
import resource

import numpy as np

from ssrl.errors import UserError
from ssrl.extract.decoding import NUM_SLOTS, snippet_bytes
from ssrl.extract.pipeline import Decoding
from ssrl.extract.runtimes import Runtime
from ssrl.geometry import Geometry

LEAST_SLOTS, MOST_SLOTS = 2, 64
DECODER_BYTES = 400 << 20  # a decoding process beside its slots: Python, PyTorch, FFmpeg
GPU_DECODERS = 4  # a GPU is faster than one
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str) -> int:
    """ "3.5G" → bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UserError(f"{text!r} is no amount of memory; write it as 4G or 3500M")
    return int(float(match[1]) * UNITS[match[2].upper()])


def plan_decoding(
    backend: str, num_decoders: int | None, memory: int | None, runtime: Runtime, geometry: Geometry
) -> Decoding:
    """Decoders and their slots. To learn what the encoder needs of `memory` (bytes), it encodes a black snippet."""
    decoders = num_decoders or (GPU_DECODERS if runtime.device.type == "cuda" else 1)
    if memory is not None:
        runtime.snippets(np.zeros((1, geometry.frames_per_snippet, geometry.height, geometry.width, 3), np.uint8))
    return Decoding(backend, decoders, slots_within(memory, peak_bytes(), geometry, decoders))


def slots_within(memory: int | None, encoder_bytes: int, geometry: Geometry, num_decoders: int) -> int:
    """Slots a decoder; `encoder_bytes` is what the main process needs to encode. Without a limit, a few."""
    if memory is None:
        return NUM_SLOTS
    slot = snippet_bytes(geometry)
    fixed = encoder_bytes + num_decoders * DECODER_BYTES
    slots = (memory - fixed) // (slot * num_decoders)
    if slots < LEAST_SLOTS:
        least = fixed + LEAST_SLOTS * slot * num_decoders
        raise UserError(
            f"--memory {memory / 2**30:.2f}G is too little: this encoder with {num_decoders} decoders needs "
            f"{least / 2**30:.2f}G; allow that much, or take a smaller --size, fewer --decoders or another --encoder"
        )
    return min(slots, MOST_SLOTS)


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
