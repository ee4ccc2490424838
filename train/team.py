"""The processes of one training run: torchrun --nproc-per-node 2 -m ssrl.train ...

The paper's network takes one batch, whose videos are divided among the ranks; statistics, losses and gradients are
those of the whole batch. The networks of a blend are independent, so each rank trains some of them. The first rank
alone measures, writes and prints.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ssrl.errors import UserError
from ssrl.model.norm import Division

TIMEOUT = timedelta(hours=6)  # for the first rank to fit and to measure
T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process among those of its run."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Team:
        """Join the processes that torchrun started; alone without it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            rank = int(os.environ["RANK"])
            dist.init_process_group(backend, store=_open_store(), rank=rank, world_size=size, timeout=TIMEOUT)
            atexit.register(dist.destroy_process_group)  # its threads must not outlive the interpreter
        return cls(dist.get_rank(), size)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def run_once(self, work: Callable[[], T]) -> T:
        """What the work of the first process returns, for all of them; they also share its UserError."""
        if not self.leads:
            return self.receive()  # type: ignore[no-any-return]
        try:
            result = work()
        except UserError as error:
            self.send(error)
            raise
        self.send(result)
        return result

    def send(self, value: object) -> None:
        """From the first process to the others."""
        if self.size > 1:
            dist.broadcast_object_list([value])

    def receive(self) -> Any:
        """What the first process sends. Raises a UserError that it sends."""
        box: list[Any] = [None]
        dist.broadcast_object_list(box)
        if isinstance(box[0], UserError):
            raise box[0]
        return box[0]

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def deal(self, count: int) -> range:
        """The numbers below `count` that are this process's."""
        return range(self.rank, count, self.size)

    def share_dealt(self, values: Iterable[tuple[int, Tensor]]) -> None:
        """Give each tensor of a number that was dealt the value that it has in the process that has the number."""
        if self.size > 1:
            for number, value in values:
                dist.broadcast(value, number % self.size)

    def merge(self, dealt: dict[int, T]) -> dict[int, T]:
        """The values of all processes, by number."""
        if self.size == 1:
            return dealt
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, dealt)
        return {number: value for part in parts for number, value in part.items()}

    def add_up(self, x: Tensor) -> Tensor:
        """The sum over all processes, with gradients."""
        total: Tensor = _AddUp.apply(x)
        return total

    def gather(self, x: Tensor, division: Division) -> Tensor:
        """The rows of a whole batch (total, ...) from those of each process (b, ...). All processes must compute the
        same from it: gradients reach each one's own rows.
        """
        whole: Tensor = _Gather.apply(x, division.videos, division.total)
        return whole


ALONE = Team()


def _open_store() -> dist.Store:
    """The key-value store of torchrun's rendezvous. On one machine, torchrun keeps it when it starts the processes
    again, and with it where those of before listened, so each start has keys of its own.
    """
    store: dist.Store = next(iter(dist.rendezvous("env://")))[0]
    if os.environ.get("LOCAL_WORLD_SIZE") != os.environ["WORLD_SIZE"]:
        return store  # machines count their starts apart
    return dist.PrefixStore(f"ssrl-train/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def explain_lost_rank(team: Team) -> Iterator[None]:
    """Turn what a broken connection raises into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if team.size == 1 or (not isinstance(error, dist.DistError) and "gloo" not in str(error)):
            raise
        raise UserError(
            f"rank {team.rank}: another process of this run has ended. What was saved is intact: start the run again "
            f"with --resume, or let torchrun do so with --max-restarts"
        ) from error


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, videos: Tensor, total: int) -> Tensor:
        whole = x.new_zeros(total, *x.shape[1:])
        whole[videos] = x.detach()
        dist.all_reduce(whole)
        context.save_for_backward(videos)
        return whole

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (videos,) = context.saved_tensors
        return gradient[videos], None, None
