"""A clip to measure with: a synthetic street scene, encoded as H.264."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

from ssrl.datasets.synthetic.config import SynthConfig
from ssrl.datasets.synthetic.dataset import synthesize


def write_clip(folder: Path, num_frames: int = 16, height: int = 480, width: int = 856) -> Path:
    """Render one synthetic video at this size and encode its first frames as `folder`/clip.mp4."""
    synthesize(folder / "set", SynthConfig(height=height, width=width, num_train=2, num_test=2, pixel_masks=False), 1)
    frames = sorted(next((folder / "set" / "testing" / "frames").iterdir()).glob("*.jpg"))
    path = folder / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            image = np.asarray(Image.open(frames[index % len(frames)]).convert("RGB"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
