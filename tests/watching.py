"""A checkpoint that tells busy from quiet, videos of both, and a watch in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssrl.checkpoints import Checkpoint, FeatureSource, save_checkpoint
from ssrl.config import StoreConfig
from ssrl.extract.encoders import load_encoder
from ssrl.extract.runtimes import choose_runtime
from ssrl.geometry import Geometry
from ssrl.model.blend import Blend, LinearModel
from ssrl.model.build import build_network
from ssrl.model.recipes import RECIPES
from ssrl.workflows.watch import WatchRequest, WatchResult, watch_source
from tests.media import write_video
from tests.receivers import wait_for

GEOMETRY = Geometry.with_paper_grids(96, 210)
SCALES = (1, 2)
QUIET_LOGIT, BUSY_LOGIT = -4.0, 4.0  # scores of 0.02 and 0.98


def draw_quiet(count: int) -> list[np.ndarray]:
    return [np.full((GEOMETRY.height, GEOMETRY.width, 3), 120, np.uint8) for _ in range(count)]


def draw_busy(count: int) -> list[np.ndarray]:
    """A checkered field in the left upper corner that jumps."""
    frames = draw_quiet(count)
    rows, cols = np.indices((48, 105)) // 8
    for index, frame in enumerate(frames):
        frame[:48, :105] = (255 * ((rows + cols + index) % 2)).astype(np.uint8)[..., None]
    return frames


def draw(snippets: str) -> list[np.ndarray]:
    """ "..##." → five snippets of 16 frames, the third and fourth of them busy."""
    return [frame for kind in snippets for frame in (draw_busy if kind == "#" else draw_quiet)(16)]


def write_scene(path: Path, snippets: str, fps: int = 25, codec: str = "libx264") -> Path:
    options = {"g": "8", "bf": "0", "preset": "ultrafast", "crf": "18"} if codec == "libx264" else {"qscale": "3"}
    pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
    return write_video(path, draw(snippets), fps=fps, codec=codec, options=options, pix_fmt=pix_fmt)


def make_checkpoint(path: Path) -> Path:
    """A linear model from the features of a quiet and a busy snippet: its scores follow by hand."""
    encoder = load_encoder("micro3d", "embedded")
    config = StoreConfig(
        "made", "micro3d", "embedded", encoder.weights.sha256, encoder.feature_dim, GEOMETRY, scales=SCALES
    )
    network = build_network(RECIPES["linear"].model(config.feature_dim, SCALES))
    assert isinstance(network, Blend)
    runtime = choose_runtime(encoder, "torch", "cpu").make_runtimes(GEOMETRY)(SCALES)
    quiet, busy = (
        {
            scale: torch.from_numpy(features[0])[None]
            for scale, features in runtime.encode_snippets(np.stack(frames)[None]).items()
        }
        for frames in (draw_quiet(16), draw_busy(16))
    )
    low, high = (network.prepare({scale: each[None] for scale, each in part.items()}) for part in (quiet, busy))
    steps = {scale: (high.scales[scale][0] - low.scales[scale][0])[0] for scale in SCALES}
    length = sum(float(step.square().sum()) for step in steps.values())
    weights = {scale: step * (BUSY_LOGIT - QUIET_LOGIT) / length for scale, step in steps.items()}
    offset = sum(float(low.scales[scale][0][0] @ weight) for scale, weight in weights.items())
    network.set_linear(LinearModel(weights, torch.tensor(QUIET_LOGIT - offset)))
    save_checkpoint(path, Checkpoint(network.config, network.state_dict(), FeatureSource("gone", config)))
    return path


class Watch:
    """A watch in a thread, and the lines that it has told so far."""

    def __init__(self, source: str, checkpoint: Path, **settings: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self.result: WatchResult | None = None
        self._stop = threading.Event()
        self._request = WatchRequest(source, checkpoint, **settings)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def of(self, kind: str, state: str | None = None) -> list[dict[str, Any]]:
        """The lines of a type, and in a state."""
        return [line for line in list(self.lines) if line["type"] == kind and state in (None, line.get("state"))]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        wait_for(lambda: self.error or condition(), seconds)
        assert self.error is None, self.error

    def wait_for_lines(self, count: int, kind: str, state: str, seconds: float = 30.0) -> None:
        self.wait_for(lambda: len(self.of(kind, state)) >= count, seconds)

    def stop(self) -> WatchResult:
        self._stop.set()
        return self.finish()

    def finish(self, seconds: float = 60.0) -> WatchResult:
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def _run(self) -> None:
        try:
            self.result = watch_source(self._request, self.lines.append, self._stop)
        except BaseException as error:
            self.error = error


def read_lines(text: str | Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (text.splitlines() if isinstance(text, str) else text)]
