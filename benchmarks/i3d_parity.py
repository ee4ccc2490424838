"""Full-size I3D against pytorchvideo's own network: python -m benchmarks.i3d_parity

Writes random weights of pytorchvideo's network to a file, extracts one 480x840 snippet with `ssrl-extract --encoder
i3d_r50 --weights FILE` in a separate process, whose peak memory it measures, and compares every patch with
pytorchvideo's blocks run on that patch alone in float32.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorchvideo.models.hub import i3d_r50
from torch.nn import functional as F

from benchmarks.clip import write_clip
from benchmarks.peak_memory import measure_peak_bytes
from ssrl.extract.encoders.i3d import randomize_norms
from ssrl.extract.readers import open_reader
from ssrl.extract.snippets import resize
from ssrl.geometry import Geometry
from ssrl.store.reader import Store


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_clip(folder)
        (folder / "videos.csv").write_text("video,label,split\nclip.mp4,0,test\n")
        model = make_untrained()
        torch.save({"model_state": model.state_dict()}, folder / "i3d.pyth")
        peak = extract(folder)
        compare(model, clip, Store(folder / "store"))
        print(f"peak memory, including the decoder: {peak / 2**30:.2f} GiB")


def make_untrained() -> Any:
    torch.manual_seed(0)
    model = i3d_r50(pretrained=False).eval()
    randomize_norms(model)
    return model


def extract(folder: Path) -> int:
    """Run ssrl-extract on the clip; return the peak memory of it and its decoder in bytes."""
    arguments = ["--dataset", "manifest", "--root", folder, "--manifest", folder / "videos.csv"]
    arguments += ["--out", folder / "store", "--encoder", "i3d_r50", "--weights", folder / "i3d.pyth"]
    return measure_peak_bytes([*arguments, "--precision", "float32", "--dtype", "float32"])


def compare(model: Any, clip: Path, store: Store) -> None:
    blocks = model.blocks[:-1]
    with open_reader(clip) as reader:
        frames = [resize(frame, 480, 840) for frame in reader.frames()]
    pixels = (torch.from_numpy(np.stack(frames)).float() / 255 - 0.45) / 0.225
    pixels = pixels.permute(3, 0, 1, 2)[None]  # (1, 3, 16, 480, 840)
    for grid in Geometry().grids:
        features = store.features("clip", grid.scale)
        worst = 0.0
        for n in range(grid.num_patches):
            row, col = divmod(n, grid.cols)
            top, left = row * grid.window_height, col * grid.window_width
            hidden = pixels[..., top : top + grid.window_height, left : left + grid.window_width]
            with torch.inference_mode():
                for block in blocks:
                    hidden = block(hidden)
                expected = F.adaptive_avg_pool3d(hidden, 1).flatten().numpy()
            worst = max(worst, float(np.abs(features[0, n] - expected).max() / np.abs(expected).max()))
        print(f"scale {grid.scale}: shape {features.shape}, max difference {worst:.1e} of the max feature")


if __name__ == "__main__":
    main()
