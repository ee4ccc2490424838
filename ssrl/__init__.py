"""Weakly supervised video anomaly detection with SSRL (Li et al., ECCV 2022).

video ──extract──▶ store ──train──▶ best.pt ──evaluate──▶ AUC, report, heatmaps

The names below are the Python API (docs/python.md), imported on first use to keep `import ssrl` light. The stages are
called `extract_features`, `train_model`, ... because `ssrl.extract`, `ssrl.train`, ... are packages.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssrl.checkpoints import Checkpoint, load_checkpoint
    from ssrl.errors import UserError
    from ssrl.evaluate.plots import plot_scores
    from ssrl.evaluate.protocol import VideoScores
    from ssrl.store.reader import Store
    from ssrl.workflows.evaluate import EvaluateRequest, EvaluateResult, evaluate_model
    from ssrl.workflows.extract import ExtractRequest, ExtractResult, extract_features
    from ssrl.workflows.score import ScoreRequest, ScoreResult, score_videos
    from ssrl.workflows.train import TrainRequest, cross_validate, train_model
    from ssrl.workflows.watch import WatchRequest, WatchResult, watch_source

    __version__: str

__all__ = [
    "Checkpoint",
    "EvaluateRequest",
    "EvaluateResult",
    "ExtractRequest",
    "ExtractResult",
    "ScoreRequest",
    "ScoreResult",
    "Store",
    "TrainRequest",
    "UserError",
    "VideoScores",
    "WatchRequest",
    "WatchResult",
    "__version__",
    "cross_validate",
    "evaluate_model",
    "extract_features",
    "load_checkpoint",
    "plot_scores",
    "score_videos",
    "train_model",
    "watch_source",
]

_MODULES = {
    "ssrl.checkpoints": ("Checkpoint", "load_checkpoint"),
    "ssrl.errors": ("UserError",),
    "ssrl.evaluate.plots": ("plot_scores",),
    "ssrl.evaluate.protocol": ("VideoScores",),
    "ssrl.store.reader": ("Store",),
    "ssrl.workflows.evaluate": ("EvaluateRequest", "EvaluateResult", "evaluate_model"),
    "ssrl.workflows.extract": ("ExtractRequest", "ExtractResult", "extract_features"),
    "ssrl.workflows.score": ("ScoreRequest", "ScoreResult", "score_videos"),
    "ssrl.workflows.train": ("TrainRequest", "cross_validate", "train_model"),
    "ssrl.workflows.watch": ("WatchRequest", "WatchResult", "watch_source"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("ssrl")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'ssrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
