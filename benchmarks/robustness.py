"""What extraction survives: python -m benchmarks.robustness

kills       SIGKILL at 20 random moments, the same command again after each
a rank      two ranks under torchrun, one of them killed with SIGKILL, the same command again
damage      twenty files that were cut off, overwritten in their stream or beheaded, among good ones

After each, the store must be equal to that of an undisturbed run, dataset by dataset and byte by byte. Exits with 1
where it is not.
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
@click.option("--kills", default=20, show_default=True, help="How often the run is killed.")
@click.option("--seed", default=0, show_default=True, help="Of moments and damage.")
def main(kills: int, seed: int) -> None:
    """Kill and damage, and compare with an undisturbed run."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = write_videos(folder / "videos")
        write_table(folder / "videos.csv", videos)
        seconds = timed(lambda: run(command(folder, "whole")))
        whole = contents(folder / "whole")
        note(f"an undisturbed run over {len(videos)} videos took {seconds:.0f} s")
        outcomes = [
            killed(folder, whole, kills, seconds, chance),
            one_rank_killed(folder, whole, seconds, chance),
            damaged(folder, whole, chance),
        ]
    if not all(outcomes):
        sys.exit(1)


def killed(folder: Path, whole: dict[str, bytes], kills: int, seconds: float, chance: random.Random) -> bool:
    """SIGKILL at random moments of runs that resume each other; one that ends before its moment begins a new store."""
    count = 0
    while count < kills:
        process = subprocess.Popen(command(folder, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.1, 0.9) * seconds)
            if process.returncode or contents(folder / "killed") != whole:
                return check(False, "a run that ended before its moment")
            shutil.rmtree(folder / "killed")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            count += 1
    run(command(folder, "killed"))
    return check(contents(folder / "killed") == whole, f"killed {kills} times and resumed")


def one_rank_killed(folder: Path, whole: dict[str, bytes], seconds: float, chance: random.Random) -> bool:
    """torchrun ends when a rank dies; the same command takes up what it left."""
    ranks = command(folder, "ranks", TORCHRUN)
    process = subprocess.Popen(ranks, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((folder / "ranks").rglob("*.h5"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = children(process.pid)
    os.kill(chance.choice(workers), signal.SIGKILL)
    status = process.wait()
    kept = len(contents(folder / "ranks")) // 4
    run(ranks)
    equal = contents(folder / "ranks") == whole
    return check(status != 0 and equal, f"one of two ranks killed with {kept} of {len(whole) // 4} videos done")


def damaged(folder: Path, whole: dict[str, bytes], chance: random.Random) -> bool:
    """Every good video whole, every bad one named, no hang and no crash."""
    good = sorted((folder / "videos").iterdir())
    bad = [damage(folder / "videos", good[i % len(good)], i, chance) for i in range(NUM_DAMAGED)]
    write_table(folder / "damaged.csv", [*good, *bad])
    began = time.monotonic()
    outcome = subprocess.run(
        command(folder, "damaged", table="damaged.csv"), capture_output=True, text=True, timeout=1800
    )
    found = contents(folder / "damaged")
    lines = [line for line in outcome.stdout.splitlines() if line.startswith(("failed:", "substituted:", "truncated:"))]
    named = {path.stem for path in bad if any(f": {path.stem}: " in line for line in lines)}
    for line in lines:
        note(line)
    silent = sorted({path.stem for path in bad} - named)
    note(f"{time.monotonic() - began:.0f} s; bad ones that nothing was said of: {', '.join(silent) or 'none'}")
    complete = all(found.get(name) == content for name, content in whole.items())
    return check(outcome.returncode == 1 and complete and not silent, f"{NUM_DAMAGED} damaged files among {len(good)}")


def damage(folder: Path, source: Path, number: int, chance: random.Random) -> Path:
    """A copy that is cut off, overwritten at some places of its second half, or robbed of its head."""
    content = bytearray(source.read_bytes())
    kind = ("cut", "overwritten", "beheaded")[number % 3]
    if kind == "cut":
        del content[int(len(content) * chance.uniform(0.05, 0.95)) :]
    elif kind == "overwritten":
        for _ in range(8):
            at = chance.randrange(len(content) // 5, len(content) * 4 // 5)
            content[at : at + 200] = chance.randbytes(min(200, len(content) - at))
    else:
        del content[: int(len(content) * chance.uniform(0.01, 0.5))]
    path = folder / f"bad-{number:02d}-{kind}{source.suffix}"
    path.write_bytes(content)
    return path


def write_videos(folder: Path) -> list[Path]:
    """MP4 (H.264) and AVI (MPEG-4) files of several lengths, cut from one street scene."""
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


def command(folder: Path, store: str, launcher: list[str] | None = None, table: str = "videos.csv") -> list[str]:
    arguments = ["--dataset", "manifest", "--root", folder / "videos", "--manifest", folder / table, "--size", SIZE]
    start = [sys.executable, "-m", *(launcher or []), "ssrl.extract"]
    return [*start, *map(str, [*arguments, "--out", folder / store])]


def run(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of every dataset of every video, by the video's file and the dataset's name."""
    found = {}
    for path in sorted((root / "videos").rglob("*.h5")):
        with h5py.File(path, "r") as file:
            found.update({f"{path.stem}/{name}": dataset[()].tobytes() for name, dataset in file.items()})
    return found


def children(parent: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    return [int(number) for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def check(holds: bool, what: str) -> bool:
    results.print(f"{'holds' if holds else 'FAILS'}: {what}")
    return holds


if __name__ == "__main__":
    main()
