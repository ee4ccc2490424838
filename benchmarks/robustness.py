"""Failures that extraction survives: python -m benchmarks.robustness

kills       SIGKILL at 20 random moments, rerunning the command after each
a rank      two ranks under torchrun, one killed with SIGKILL, rerunning the command
damage      twenty files that are truncated, partly overwritten or without their header, among good ones

After each, the store must be bit-exact with that of an uninterrupted run, dataset by dataset. Exits with 1 if not.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import h5py
import numpy as np

from benchmarks.clip import write_clip
from ssrl.console import note, results

SIZE = "240x420"
NUM_VIDEOS, NUM_DAMAGED = 12, 20
LONGEST_FRAMES = 64
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


@click.command()
@click.option("--kills", default=20, show_default=True, help="Number of kills.")
@click.option("--seed", default=0, show_default=True, help="Seed of kill times and damage.")
def main(kills: int, seed: int) -> None:
    """Kill runs, damage files, and compare with an uninterrupted run."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = write_videos(folder / "videos")
        write_table(folder / "videos.csv", videos)
        seconds = measure_seconds(lambda: run(make_command(folder, "whole")))
        whole = read_datasets(folder / "whole")
        note(f"an uninterrupted run over {len(videos)} videos took {seconds:.0f} s")
        outcomes = [
            check_kills(folder, whole, kills, seconds, rng),
            check_killed_rank(folder, whole, seconds, rng),
            check_damage(folder, whole, rng),
        ]
    if not all(outcomes):
        sys.exit(1)


def check_kills(folder: Path, whole: dict[str, bytes], kills: int, seconds: float, rng: random.Random) -> bool:
    """Kill runs that resume each other at random moments; after a run that ends sooner, start a new store."""
    count = 0
    while count < kills:
        process = subprocess.Popen(make_command(folder, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.1, 0.9) * seconds)
            if process.returncode or read_datasets(folder / "killed") != whole:
                return check(False, "a run that ended before it was killed")
            shutil.rmtree(folder / "killed")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            count += 1
    run(make_command(folder, "killed"))
    return check(read_datasets(folder / "killed") == whole, f"killed {kills} times and resumed")


def check_killed_rank(folder: Path, whole: dict[str, bytes], seconds: float, rng: random.Random) -> bool:
    """torchrun ends when a rank dies; rerunning the command resumes."""
    ranks = make_command(folder, "ranks", TORCHRUN)
    process = subprocess.Popen(ranks, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((folder / "ranks").rglob("*.h5"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = list_children(process.pid)
    os.kill(rng.choice(workers), signal.SIGKILL)
    status = process.wait()
    num_done = len(read_datasets(folder / "ranks")) // 4
    run(ranks)
    equal = read_datasets(folder / "ranks") == whole
    return check(status != 0 and equal, f"one of two ranks killed with {num_done} of {len(whole) // 4} videos done")


def check_damage(folder: Path, whole: dict[str, bytes], rng: random.Random) -> bool:
    """Every good video is complete, every bad one reported, without a hang or a crash."""
    good = sorted((folder / "videos").iterdir())
    bad = [damage_copy(folder / "videos", good[i % len(good)], i, rng) for i in range(NUM_DAMAGED)]
    write_table(folder / "damaged.csv", [*good, *bad])
    start = time.monotonic()
    outcome = subprocess.run(
        make_command(folder, "damaged", table="damaged.csv"), capture_output=True, text=True, timeout=1800
    )
    datasets = read_datasets(folder / "damaged")
    lines = [line for line in outcome.stdout.splitlines() if line.startswith(("failed:", "substituted:", "truncated:"))]
    reported = {path.stem for path in bad if any(f": {path.stem}: " in line for line in lines)}
    for line in lines:
        note(line)
    unreported = sorted({path.stem for path in bad} - reported)
    note(f"{time.monotonic() - start:.0f} s; damaged files not reported: {', '.join(unreported) or 'none'}")
    complete = all(datasets.get(name) == content for name, content in whole.items())
    passed = outcome.returncode == 1 and complete and not unreported
    return check(passed, f"{NUM_DAMAGED} damaged files among {len(good)}")


def damage_copy(folder: Path, source: Path, number: int, rng: random.Random) -> Path:
    """Write a copy that is truncated, partly overwritten, or without its header."""
    content = bytearray(source.read_bytes())
    kind = ("truncated", "overwritten", "headless")[number % 3]
    if kind == "truncated":
        del content[int(len(content) * rng.uniform(0.05, 0.95)) :]
    elif kind == "overwritten":
        for _ in range(8):
            start = rng.randrange(len(content) // 5, len(content) * 4 // 5)
            content[start : start + 200] = rng.randbytes(min(200, len(content) - start))
    else:
        del content[: int(len(content) * rng.uniform(0.01, 0.5))]
    path = folder / f"bad-{number:02d}-{kind}{source.suffix}"
    path.write_bytes(content)
    return path


def write_videos(folder: Path) -> list[Path]:
    """Write MP4 (H.264) and AVI (MPEG-4) files of several lengths, cut from one street scene."""
    import av

    folder.mkdir(parents=True)
    clip = write_clip(folder, LONGEST_FRAMES, 240, 428)
    with av.open(str(clip)) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    paths = []
    for number in range(NUM_VIDEOS):
        path = folder / f"good-{number:02d}{('.mp4', '.avi')[number % 2]}"
        with av.open(str(path), "w") as target:
            stream = target.add_stream("libx264" if path.suffix == ".mp4" else "mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 428, 240, "yuv420p"
            for pixels in frames[: 17 + (number * 29) % (LONGEST_FRAMES - 16)]:
                target.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(pixels, 9 * number, 1), format="rgb24")))
            target.mux(stream.encode())
        paths.append(path)
    clip.unlink()
    shutil.rmtree(folder / "set")
    return paths


def write_table(path: Path, videos: Iterable[Path]) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows([("video", "label", "split"), *((video.name, 0, "test") for video in videos)])


def make_command(folder: Path, store: str, launcher: list[str] | None = None, table: str = "videos.csv") -> list[str]:
    arguments = ["--dataset", "manifest", "--root", folder / "videos", "--manifest", folder / table, "--size", SIZE]
    start = [sys.executable, "-m", *(launcher or []), "ssrl.extract"]
    return [*start, *map(str, [*arguments, "--out", folder / store])]


def run(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def read_datasets(root: Path) -> dict[str, bytes]:
    """The bytes of every HDF5 dataset of every video, by file and dataset name."""
    datasets = {}
    for path in sorted((root / "videos").rglob("*.h5")):
        with h5py.File(path, "r") as file:
            datasets.update({f"{path.stem}/{name}": dataset[()].tobytes() for name, dataset in file.items()})
    return datasets


def list_children(parent: int) -> list[int]:
    """List the child processes of a process (Linux)."""
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def measure_seconds(work: Callable[[], None]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def check(passed: bool, what: str) -> bool:
    results.print(f"{'passed' if passed else 'FAILED'}: {what}")
    return passed


if __name__ == "__main__":
    main()
