"""Checkpoints: weights, with all that is needed to use them and to trace their origin.

A checkpoint is a `torch.save` archive of tensors and plain values, read with `weights_only=True` so that an untrusted
file cannot run code.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssrl.config import Calibration, LossConfig, StoreConfig, TrainConfig, check_false_alarms
from ssrl.errors import UserError
from ssrl.files import replacing
from ssrl.model.build import Network, build_network
from ssrl.model.config import AnyModelConfig
from ssrl.model.domain import Domain
from ssrl.plain import from_plain, to_plain

FORMAT = "ssrl-checkpoint-5"


@dataclass(frozen=True)
class FeatureSource:
    """The features a network was trained on."""

    path: str  # of the store at that time
    config: StoreConfig


@dataclass(frozen=True)
class StageResult:
    """The result of one training stage. Test AUCs select nothing unless `selection` is "test"."""

    stage: int
    scales: tuple[int, ...]
    selection: str
    selected_step: int
    selection_value: float | None
    last_step: int
    selected_test_auc: float | None  # frame-level; None without frame labels
    last_test_auc: float | None
    linear_test_auc: float | None  # of a linear model on the same features
    held_out_auc: float | None  # video-level, on training videos held out in turn; None if none were
    linear_held_out_auc: float | None
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """A network, the features it takes, and how it was trained."""

    model: AnyModelConfig
    weights: Mapping[str, Tensor]
    features: FeatureSource | None = None  # None: unknown, as for imported weights
    training: TrainConfig | None = None
    stages: tuple[StageResult, ...] = ()  # up to the one that gave these weights
    calibration: Calibration | None = None  # of its scores; None if no training video was held out
    domain: Domain | None = None  # of the training videos; None if none was held out
    imported_from: str = ""  # file name of imported weights

    def build_network(self, device: str | torch.device = "cpu") -> Network:
        """Build the network in evaluation mode."""
        network = build_network(self.model)
        network.load_state_dict(dict(self.weights))
        return network.to(device).eval()

    def get_threshold(self, false_alarms: float) -> float | None:
        """The score that at most this share of a normal video's snippets reaches, as measured on held-out training
        videos; None if none were. Raises a UserError for a share that was not measured.
        """
        check_false_alarms(false_alarms)
        return None if self.calibration is None else self.calibration.thresholds[false_alarms]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    weights = {name: value.detach().cpu() for name, value in checkpoint.weights.items()}
    save_tensors(path, {"format": FORMAT, **to_plain(replace(checkpoint, weights=weights))})


def load_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Read a checkpoint. Raises a UserError for anything else."""
    path = Path(path)
    value = load_tensors(path)
    version = value.get("format") if isinstance(value, Mapping) else None
    if isinstance(version, str) and version in UPGRADES and {"model", "weights"} <= value.keys():
        value = _from_before_the_fifth(UPGRADES[version](value))
    elif version != FORMAT:
        raise UserError(
            f"{path} is not a checkpoint of this program (format {FORMAT}); "
            f"convert a state dict of the authors' release with ssrl-import checkpoint"
        )
    checkpoint = from_plain(Checkpoint, {name: item for name, item in value.items() if name != "format"}, path)
    try:
        checkpoint.build_network()
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not match its model: {error}") from error
    return checkpoint


# What pickles of NumPy arrays and scalars name: harmless
_NUMPY_TYPES = [np.dtype(code) for code in "?bhilqBHILQefd"]
_NUMPY_MAKERS: list[Any] = [np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]]
NUMPY_GLOBALS: list[Any] = [
    np.ndarray,
    np.dtype,
    *{type(dtype) for dtype in _NUMPY_TYPES},
    *_NUMPY_MAKERS,
    *((make, f"numpy.core.multiarray.{make.__name__}") for make in _NUMPY_MAKERS),  # its name in NumPy 1
]


def save_tensors(path: Path, value: Any) -> None:
    """`torch.save`, atomically."""
    with replacing(path) as temporary:
        torch.save(value, temporary)


def load_tensors(path: Path) -> Any:
    """`torch.load` of tensors and plain values only, to the CPU. Raises a UserError for any other file."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the checkpoint in it, such as {path / 'best.pt'}")
    if not path.is_file():
        raise UserError(f"{path} does not exist; train a checkpoint with ssrl-train or give another path")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; copy or download it again")
    try:
        with torch.serialization.safe_globals(NUMPY_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))
        objects = f"Python objects ({names[0]})" if names else "Python objects"
        raise UserError(
            f"{path} is not a checkpoint, or holds {objects} that could run code, and was not loaded; only tensors, "
            f"arrays and plain values are allowed. If you trust its origin, save its tensors alone: python -c "
            f"\"import torch; torch.save({{k: v for k, v in torch.load('{path}', weights_only=False)['state_dict']"
            f".items()}}, 'tensors.pth')\" (the key may be another than state_dict)"
        ) from error
    except Exception as error:  # the unpickler fails on arbitrary bytes in arbitrary ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or not a checkpoint ({reason}); restore it, download it again, or train again"
        ) from error


def _from_first_format(value: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint of the first format to the current one."""
    store, training, metrics = (dict(value.get(name) or {}) for name in ("store", "training", "metrics"))
    stages = metrics.get("stages", [])
    imported = next((stage["selection"] for stage in stages if set(stage) == {"selection"}), "")
    trained = {name: setting for name, setting in training.items() if name not in ("stage", "step")}
    weights = {name.replace("standardise.", "standardize."): weight for name, weight in value["weights"].items()}
    return {
        "model": _rename(value["model"]),
        "weights": weights,
        "features": {"path": store["path"], "config": store["config"]} if "config" in store else None,
        "training": _complete(_rename(trained)) if "scales" in trained else None,
        "stages": [] if imported else [{**stage, "linear_test_auc": None, **NOT_HELD_OUT} for stage in stages],
        "calibration": None,
        "domain": None,
        "imported_from": imported.removeprefix("imported from "),
    }


def _from_second_format(value: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint of the second format: nothing was held out, and scores were not calibrated."""
    model, weights = dict(value["model"]), dict(value["weights"])
    if "losses" in model:
        model["cross_fit"] = False
        weights["calibration"] = torch.tensor([1.0, 0.0])
    stages = [{**stage, **NOT_HELD_OUT} for stage in value.get("stages", ())]
    training = value.get("training") and {**LATER_SETTINGS, **value["training"]}
    return {
        **value,
        "model": model,
        "weights": weights,
        "training": training,
        "stages": stages,
        "calibration": None,
        "domain": None,
    }


def _from_third_format(value: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint of the third format: everything was trained, in float32, in whole batches."""
    return {**value, "training": value.get("training") and {**LATER_SETTINGS, **value["training"]}}


def _from_before_the_fifth(value: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a checkpoint that scored the snippets of long videos one by one; its domain had components alone."""
    domain = value["domain"] and dict(value["domain"])
    if domain:
        projection = domain["projection"]
        domain["std"] = {scale: torch.full_like(mean, torch.inf) for scale, mean in domain["mean"].items()}
        domain["variances"], domain["rest"] = torch.zeros(next(iter(projection.values())).shape[1]), 1.0
    return {**value, "model": {**value["model"], "segment_length": 1.0}, "domain": domain}


def _rename(settings: Any) -> Any:
    """Rename settings of the first format to their current names."""
    names = {"standardise": "standardize", "regularisers": "regularizers"}
    if not isinstance(settings, Mapping):
        return settings
    return {names.get(name, name): _rename(value) for name, value in settings.items()}


def _complete(training: dict[str, Any]) -> dict[str, Any]:
    """Add the training settings that came later, at the values that were fixed then."""
    loss = {**training["loss"], "top_segments": LossConfig.top_segments}
    return {**training, "optimizer": "adam", "schedule": "constant", "later_share": 1.0, **LATER_SETTINGS, "loss": loss}


NOT_HELD_OUT = {"held_out_auc": None, "linear_held_out_auc": None}
LATER_SETTINGS = {"precision": "float32", "freeze_previous": False, "accumulate": 1}
UPGRADES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "ssrl-checkpoint-1": _from_first_format,
    "ssrl-checkpoint-2": _from_second_format,
    "ssrl-checkpoint-3": _from_third_format,
    "ssrl-checkpoint-4": dict,
}
