"""The precision of training, chosen by a measurement: processors announce bfloat16 that they multiply slowly in."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch

from ssrl.config import Precision
from ssrl.model.config import RelationConfig
from ssrl.model.relation import RelationNetwork

logger = logging.getLogger(__name__)
MIN_GAIN = 1.2  # of bfloat16 over float32; less is not worth its rounding
SEQUENCES, ELEMENTS = 16, 28  # of the relation network that is measured: half a video's finest patches
MIN_SECONDS, MIN_REPEATS = 0.5, 3  # of each precision, after a warm-up


@cache
def measure_gain(feature_dim: int, device: torch.device) -> float:
    """How many times as fast a relation network trains in bfloat16 as in float32, on this machine. Takes a few seconds
    at D = 2048. The fastest of several tries count, since other programs slow down some.
    """
    network = RelationNetwork(feature_dim, RelationConfig()).to(device)
    x = torch.randn(SEQUENCES, ELEMENTS, feature_dim, device=device)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    while min(map(len, seconds.values())) <= MIN_REPEATS or min(map(sum, seconds.values())) < MIN_SECONDS:
        for autocast, measured in seconds.items():
            measured.append(_measure_step(network, x, autocast))
    return min(seconds[False][1:]) / min(seconds[True][1:])


def choose_precision(feature_dim: int, device: torch.device) -> Precision:
    """The faster one, with its figure in the log."""
    gain = measure_gain(feature_dim, device)
    chosen: Precision = "bfloat16" if gain >= MIN_GAIN else "float32"
    logger.info(f"training in {chosen}: bfloat16 takes {1 / gain:.2f} times as long as float32 here")
    return chosen


def _measure_step(network: RelationNetwork, x: torch.Tensor, autocast: bool) -> float:
    """Seconds of a step forward and backward."""
    start = time.perf_counter()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
        related = network(x)
    related.float().square().mean().backward()
    network.zero_grad()
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
