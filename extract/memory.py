"""How many processes decode, and how many decoded snippets may wait, for a run to stay within its memory."""

from __future__ import annotations

import re
import resource

import numpy as np

from ssrl.errors import UserError
from ssrl.extract.decoding import NUM_SLOTS, snippet_bytes
from ssrl.extract.pipeline import Decoding
from ssrl.extract.runtimes import Runtime
from ssrl.geometry import Geometry

MIN_SLOTS, MAX_SLOTS = 2, 64
DECODER_BYTES = 400 << 20  # per decoding process, besides its slots: Python, PyTorch, FFmpeg
GPU_DECODERS = 4  # one cannot keep up with a GPU
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str) -> int:
    """Parse "3.5G" into bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UserError(f"cannot parse {text!r} as an amount of memory; write it as 4G or 3500M")
    return int(float(match[1]) * UNITS[match[2].upper()])


def plan_decoding(
    backend: str, num_decoders: int | None, memory: int | None, runtime: Runtime, geometry: Geometry
) -> Decoding:
    """Plan decoders and their slots. With a limit `memory` (bytes), measures the encoder's need on a black snippet."""
    decoders = num_decoders or (GPU_DECODERS if runtime.device.type == "cuda" else 1)
    if memory is not None:
        shape = (1, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
        runtime.encode_snippets(np.zeros(shape, np.uint8))
    return Decoding(backend, decoders, fit_slots(memory, measure_peak_bytes(), geometry, decoders))


def fit_slots(memory: int | None, encoder_bytes: int, geometry: Geometry, num_decoders: int) -> int:
    """Slots per decoder within `memory`, or NUM_SLOTS if it is None; `encoder_bytes` is the main process's need."""
    if memory is None:
        return NUM_SLOTS
    slot_bytes = snippet_bytes(geometry)
    fixed = encoder_bytes + num_decoders * DECODER_BYTES
    slots = (memory - fixed) // (slot_bytes * num_decoders)
    if slots < MIN_SLOTS:
        needed = fixed + MIN_SLOTS * slot_bytes * num_decoders
        raise UserError(
            f"--memory {memory / 2**30:.2f}G is too little: this encoder with {num_decoders} decoders needs "
            f"{needed / 2**30:.2f}G; allow that much, or use a smaller --size, fewer --decoders or another --encoder"
        )
    return min(slots, MAX_SLOTS)


def measure_peak_bytes() -> int:
    """The peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
