"""Several processes on one store: shards, ranks, and what a killed rank costs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed
from click.testing import CliRunner

from ssrl.commands.extract import main
from ssrl.datasets.video import Video
from ssrl.errors import UserError
from ssrl.extract.sharing import Rank, Shard, hand_out, sort_longest_first
from ssrl.store.reader import Store
from tests.media import write_h264

pytestmark = pytest.mark.slow

COUNTS = (17, 90, 33, 48, 20, 64)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    root = tmp_path_factory.mktemp("videos")
    names = [f"{number}.mp4" for number in range(len(COUNTS))]
    paths = [write_h264(root / name, count) for name, count in zip(names, COUNTS, strict=True)]
    (root / "videos.csv").write_text("video,label,split\n" + "".join(f"{name},0,test\n" for name in names))
    return [Video(path.stem, path, 0, "test") for path in paths]


def arguments(videos: list[Video], out: Path) -> list[str]:
    root = videos[0].path.parent
    return [
        *("--dataset", "manifest", "--root", str(root), "--manifest", str(root / "videos.csv")),
        *("--size", "96x210", "--runtime", "torch", "--out", str(out)),
    ]


def features_of(root: Path) -> dict[tuple[str, int], bytes]:
    store = Store(root)
    return {(name, scale): store.features(name, scale).tobytes() for name in store.ids() for scale in (1, 2, 3, 4)}


def test_shards_hold_each_video_once_and_begin_with_the_longest(videos: list[Video]) -> None:
    parts = [Shard(index, 4).select(videos) for index in (1, 2, 3, 4)]
    assert sorted(video.id for part in parts for video in part) == [video.id for video in videos]
    assert [part[0].id for part in parts] == [video.id for video in sort_longest_first(videos)[:4]]
    assert sort_longest_first(videos)[0].id == "1"


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="shard"):
        Shard.parse(text)


def test_ranks_are_handed_each_video_once(videos: list[Video]) -> None:
    count = itertools.count()
    first, second = (hand_out(videos, lambda: next(count)) for _ in range(2))
    taken = [next(first), next(second), next(second), *first, *second]
    assert [video.id for video in taken] == [video.id for video in sort_longest_first(videos)]


def test_shards_fill_one_store(videos: list[Video], tmp_path: Path) -> None:
    whole = CliRunner().invoke(main, arguments(videos, tmp_path / "whole"))
    assert whole.exit_code == 0, whole.output
    for index in (1, 2):
        outcome = CliRunner().invoke(main, [*arguments(videos, tmp_path / "parts"), "--shard", f"{index}/2"])
        assert outcome.exit_code == 0 and "3 videos extracted" in outcome.stdout, outcome.output
    assert features_of(tmp_path / "parts") == features_of(tmp_path / "whole")


def test_a_killed_rank_costs_the_video_in_its_hands(videos: list[Video], tmp_path: Path) -> None:
    """Two ranks under torchrun; one is killed, torchrun ends, and the same command takes up what is left."""
    whole = CliRunner().invoke(main, arguments(videos, tmp_path / "whole"))
    assert whole.exit_code == 0, whole.output
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "ssrl.extract", *arguments(videos, tmp_path / "ranks")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not list((tmp_path / "ranks").rglob("*.h5")) and process.poll() is None:
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert features_of(tmp_path / "ranks") == features_of(tmp_path / "whole")


def test_a_bad_video_of_one_rank_does_not_cost_the_videos_of_others(tmp_path: Path) -> None:
    """The bad one is the largest file, so it comes first; the other rank is still in its long video then."""
    (tmp_path / "bad.mp4").write_bytes(b"not a video" * 100_000)
    write_h264(tmp_path / "long.mp4", 200)
    (tmp_path / "videos.csv").write_text("video,label,split\nbad.mp4,0,train\nlong.mp4,1,test\nmissing.mp4,1,test\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--dataset", "manifest", "--root", tmp_path, "--manifest", tmp_path / "videos.csv", "--size", "96x210"]
    command = [*launcher, "-m", "ssrl.extract", *map(str, options), "--out", str(tmp_path / "store")]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert outcome.returncode != 0
    assert "failed: bad" in outcome.stdout
    assert Store(tmp_path / "store").ids() == ["long"]


def test_ranks_take_the_precision_that_the_first_one_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = torch.distributed.HashStore()
    monkeypatch.setattr(Rank, "_store", shared)
    first, second = (Rank(rank, rank, 2) for rank in range(2))
    assert first.agree("precision", lambda: "float32") == "float32"
    assert second.agree("precision", lambda: "bfloat16") == "float32"
