"""Who takes which video, where several processes fill one store.

    ssrl-extract --shard 2/8            the second of eight jobs that know nothing of each other
    torchrun -m ssrl.extract            ranks are handed the next video at run time, the longest first

Each video is one file, so nothing else needs to be agreed on. A process that is killed costs the video in its hands,
which the next run takes up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssrl.errors import UserError
from ssrl.files import measure_size

if TYPE_CHECKING:
    from ssrl.datasets.video import Video


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UserError(f"there is no shard {self.index} of {self.count}; shards are 1/N to N/N")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """ "2/8" → the second of eight."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UserError(f"a shard is named as in 2/8, not {text!r}")
        return cls(int(index), int(count))

    def of(self, videos: Iterable[Video]) -> list[Video]:
        """Every `count`-th video, the longest first, so that shards take about as long."""
        return longest_first(videos)[self.index - 1 :: self.count]


def longest_first(videos: Iterable[Video]) -> list[Video]:
    """By the bytes on disk; in the same order on every machine that sees the same files."""
    return sorted(videos, key=lambda video: (-measure_size(video.path), video.id))


def hand_out(videos: Iterable[Video], next_number: Callable[[], int]) -> Iterator[Video]:
    """The videos whose turn it is, longest first; `next_number` counts from 0 over all that share them."""
    ordered = longest_first(videos)
    while (number := next_number()) < len(ordered):
        yield ordered[number]


@dataclass(frozen=True)
class Rank:
    """This process among those that torchrun started."""

    rank: int
    local_rank: int
    world_size: int

    @classmethod
    def of_environment(cls) -> Rank | None:
        """None where torchrun did not start this process."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return None
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
        return cls(*(int(os.environ.get(name, "0")) for name in names))

    def counter(self) -> Callable[[], int]:
        """A count from 0 that all ranks share, kept by the store of torchrun's rendezvous."""
        import torch.distributed

        store, _, _ = next(iter(torch.distributed.rendezvous("env://")))
        return lambda: store.add("ssrl-extract/next-video", 1) - 1
