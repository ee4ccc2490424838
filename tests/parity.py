"""Outputs of the authors' released network, on weights and inputs drawn at random: `data/parity`."""

from pathlib import Path

import numpy as np
import torch

from ssrl.model.network import SSRL
from ssrl.model.recipes import released_model
from ssrl.model.released_weights import load_released

PARITY = Path(__file__).parent / "data" / "parity"
PATCHES = {1: 10, 2: 6, 3: 15, 4: 28}  # elements a scale in the parity inputs; scale 1 holds ten crops


def parity(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    with np.load(PARITY / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    weights = {key.removeprefix("weight/"): value for key, value in arrays.items() if key.startswith("weight/")}
    return weights, {key: value for key, value in arrays.items() if not key.startswith("weight/")}


def released_network(stage: int) -> tuple[SSRL, dict[str, torch.Tensor], dict[int, torch.Tensor]]:
    weights, arrays = parity(f"network_stage{stage}")
    scales = tuple(range(1, stage + 1))
    network = SSRL(released_model(64, scales)).eval()
    load_released(network, weights)
    snippets = arrays["input"].transpose(1, 2)  # (4, 32, 10 + N, 64)
    parts = torch.split(snippets, [PATCHES[scale] for scale in scales], dim=2)
    return network, arrays, dict(zip(scales, parts, strict=True))
