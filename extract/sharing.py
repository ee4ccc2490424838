"""How several processes that fill one store share the videos.

    ssrl-extract --shard 2/8            the second of eight independent jobs
    torchrun -m ssrl.extract            ranks take the next video at run time, longest first

Each video is one file, so no other coordination is needed. A killed process loses only the video in progress, which
the next run extracts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ssrl.errors import UserError
from ssrl.files import measure_size

if TYPE_CHECKING:
    from torch.distributed import Store

    from ssrl.datasets.video import Video

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UserError(f"no shard {self.index} of {self.count}; use 1/N to N/N")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse "2/8" as the second shard of eight."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UserError(f"cannot parse shard {text!r}; write it as 2/8")
        return cls(int(index), int(count))

    def select(self, videos: Iterable[Video]) -> list[Video]:
        """Every `count`-th video, longest first, so that all shards take about equally long."""
        return sort_longest_first(videos)[self.index - 1 :: self.count]


def sort_longest_first(videos: Iterable[Video]) -> list[Video]:
    """Sort by bytes on disk, in the same order on every machine that sees the same files."""
    return sorted(videos, key=lambda video: (-measure_size(video.path), video.id))


def hand_out(videos: Iterable[Video], next_number: Callable[[], int]) -> Iterator[Video]:
    """Yield this process's videos, longest first; `next_number` counts from 0 across all processes."""
    ordered = sort_longest_first(videos)
    while (number := next_number()) < len(ordered):
        yield ordered[number]


@dataclass(frozen=True)
class Rank:
    """This process among those started by torchrun."""

    rank: int
    local_rank: int
    world_size: int

    @classmethod
    def from_environment(cls) -> Rank | None:
        """None if torchrun did not start this process."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return None
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
        return cls(*(int(os.environ.get(name, "0")) for name in names))

    def take_number(self) -> int:
        """Count up from 0, across all ranks."""
        return int(self._store.add("ssrl-extract/next-video", 1)) - 1

    def agree(self, name: str, choose: Callable[[], str]) -> str:
        """What the first rank chooses, for all of them."""
        key = f"ssrl-extract/{name}"
        if self.rank == 0:
            self._store.set(key, choose())
        return self._store.get(key).decode()

    def wait_for_all(self) -> None:
        """Wait until all ranks have come here: torchrun kills the others when one exits with an error."""
        self._store.add("ssrl-extract/finished", 1)
        while self._store.add("ssrl-extract/finished", 0) < self.world_size:
            time.sleep(POLL_SECONDS)

    @cached_property
    def _store(self) -> Store:
        """The key-value store of torchrun's rendezvous."""
        import torch.distributed

        store: Store = next(iter(torch.distributed.rendezvous("env://")))[0]
        return store
