"""Which precision is the faster one on this machine, measured on the actual graph.

A processor that announces bfloat16 may multiply in it four times as fast as in float32, or three times as slowly; its
name and flags do not tell. The figures are kept in the cache, by all that they depend on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from statistics import median

import numpy as np
import torch

from ssrl.cache import get_cache_folder, keep_within_limit, mark_used
from ssrl.files import write_json
from ssrl.geometry import Geometry
from ssrl.hardware import describe_processor

MIN_SECONDS, MAX_REPEATS = 1.0, 5  # of each measurement, after a warm-up
LIBRARIES = ("torch", "openvino")
Encode = Callable[[np.ndarray], object]  # snippets (1, L, H, W, 3) uint8


def measure_precisions(
    name: str, geometry: Geometry, scales: tuple[int, ...], loaders: Mapping[str, Callable[[], Encode]]
) -> dict[str, float]:
    """The seconds per snippet of an encoder in each precision; `loaders` make it ready. They are measured once."""
    versions = [f"{library} {version(library)}" for library in LIBRARIES]
    facts = (name, geometry, scales, tuple(loaders), describe_processor(), torch.get_num_threads(), versions)
    path = get_cache_folder() / "speed" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known, dict) and known.keys() == loaders.keys():
            mark_used(path)
            return {precision: float(seconds) for precision, seconds in known.items()}
    size = (1, geometry.frames_per_snippet, geometry.height, geometry.width, 3)
    snippet = np.random.default_rng(0).integers(0, 256, size, np.uint8)  # the time does not depend on the pixels
    measured = {precision: _measure(load(), snippet) for precision, load in loaders.items()}
    with suppress(OSError):  # an unwritable cache only costs time
        write_json(path, measured)
        keep_within_limit()
    return measured


def _measure(encode: Encode, snippet: np.ndarray) -> float:
    encode(snippet)  # compiles
    seconds: list[float] = []
    while not seconds or (sum(seconds) < MIN_SECONDS and len(seconds) < MAX_REPEATS):
        start = time.perf_counter()
        encode(snippet)
        seconds.append(time.perf_counter() - start)
    return median(seconds)
