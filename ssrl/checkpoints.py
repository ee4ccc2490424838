"""Checkpoints: weights, with all that is needed to use them again and to say how they came about.

A checkpoint is a `torch.save` archive of tensors and plain values. It is read with `weights_only=True`, so that a file
from a stranger cannot run code.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssrl.errors import UserError
from ssrl.files import replacing
from ssrl.model.network import SSRL, ModelConfig

FORMAT = "ssrl-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """One network, where its features came from, and how it did."""

    model: ModelConfig
    weights: Mapping[str, Tensor]
    store: Mapping[str, Any] = field(default_factory=dict)  # path, fingerprint and configuration of the store
    training: Mapping[str, Any] = field(default_factory=dict)  # the training configuration, stage and step
    metrics: Mapping[str, Any] = field(default_factory=dict)  # what was measured while training

    def network(self, device: str | torch.device = "cpu") -> SSRL:
        """The network in evaluation mode."""
        network = SSRL(self.model)
        network.load_state_dict(dict(self.weights))
        return network.to(device).eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    save_tensors(
        path,
        {
            "format": FORMAT,
            "model": checkpoint.model.to_json(),
            "weights": {name: value.detach().cpu() for name, value in checkpoint.weights.items()},
            "store": dict(checkpoint.store),
            "training": dict(checkpoint.training),
            "metrics": dict(checkpoint.metrics),
        },
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises a UserError for anything else than a whole one of ours."""
    value = load_tensors(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a checkpoint of this program (format {FORMAT}); "
            f"a state dict of the authors' release is made into one by ssrl-import checkpoint"
        )
    checkpoint = Checkpoint(
        ModelConfig.from_json(value["model"]), value["weights"], value["store"], value["training"], value["metrics"]
    )
    try:
        checkpoint.network()
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the model it describes: {error}") from error
    return checkpoint


def save_tensors(path: Path, value: Any) -> None:
    """`torch.save`, atomically."""
    with replacing(path) as temporary:
        torch.save(value, temporary)


def load_tensors(path: Path) -> Any:
    """`torch.load` of tensors and plain values alone, to the CPU. Raises a UserError for any other file."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; train one with ssrl-train, or name another")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a checkpoint, or holds Python objects that could run code on loading; it was not loaded. "
            f"Only tensors and plain values are allowed"
        ) from error
    except Exception as error:  # the unpickler fails on arbitrary bytes in arbitrary ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged, or not a checkpoint ({reason}); restore it or train again") from error
