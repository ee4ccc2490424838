"""Peak memory of an extraction: python -m benchmarks.peak_memory

Extracts a video of 1 minute and one of 30 in separate processes, and compares their peaks, including decoders.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import click
import numpy as np

from benchmarks.clip import write_clip
from ssrl.console import results

FRAMES_PER_MINUTE = 25 * 60
SCENE_FRAMES = 64
MAX_GROWTH = 1.10
EXTRACT = (
    "import resource, sys\n"
    "from ssrl.commands.extract import main\n"
    "try: main(sys.argv[1:])\n"
    "except SystemExit as end: assert not end.code, end.code\n"
    "kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "kib += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
    "print('peak KiB', kib)\n"
)


def measure_peak_bytes(arguments: Sequence[object]) -> int:
    """Run ssrl-extract with these arguments; return the peak resident size of it and its largest decoder."""
    command = [sys.executable, "-c", EXTRACT, *map(str, arguments)]
    outcome = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(outcome.stdout.split()[-1]) << 10


@click.command()
@click.option("--minutes", default=30, show_default=True, help="Length of the long video.")
@click.option("--size", default="240x420", show_default=True, help="--size of ssrl-extract.")
def main(minutes: int, size: str) -> None:
    """Compare the peaks of a short and a long video. Exits with 1 if the long one's is over 10% higher."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = read_frames(write_clip(folder, SCENE_FRAMES, 240, 428))
        for length in (1, minutes):
            (folder / "videos.csv").write_text("video,label,split\nlong.mp4,0,test\n")
            write_long(folder / "long.mp4", scene, length * FRAMES_PER_MINUTE)
            arguments = ["--dataset", "manifest", "--root", folder, "--manifest", folder / "videos.csv"]
            peaks[length] = measure_peak_bytes([*arguments, "--size", size, "--out", folder / f"store-{length}"])
            results.print(f"{length} min: peak {peaks[length] / 2**20:.0f} MiB, including the decoder")
    growth = peaks[minutes] / peaks[1]
    results.print(f"{minutes} min over 1 min: {growth:.3f}")
    if growth > MAX_GROWTH:
        sys.exit(1)


def read_frames(clip: Path) -> list[np.ndarray]:
    with av.open(str(clip)) as source:
        return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]


def write_long(path: Path, scene: list[np.ndarray], num_frames: int) -> None:
    """Write the scene as H.264, looped forward and backward."""
    loop = [*scene, *scene[::-1]]
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width = scene[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index in range(num_frames):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(loop[index % len(loop)], format="rgb24")))
        target.mux(stream.encode())


if __name__ == "__main__":
    main()
