"""The configuration of a synthetic dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ssrl.errors import UserError

if TYPE_CHECKING:  # NumPy would slow down `ssrl-synth --help`
    from ssrl.datasets.video import Split

FORMAT_VERSION = 3  # increment when the same configuration gives different frames
SMALLEST_SIDE, LARGEST_SIDE = 96, 2160  # pixels
DEFAULT_WORKERS = 2


@dataclass(frozen=True)
class SynthConfig:
    """Everything that determines the bytes of a dataset."""

    seed: int = 0
    height: int = 240
    width: int = 428
    num_train: int = 60
    num_test: int = 30
    pixel_masks: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"the seed is {self.seed}; allowed are 0 and above")
        for side in (self.height, self.width):
            if side % 2 or not SMALLEST_SIDE <= side <= LARGEST_SIDE:
                raise UserError(
                    f"the size is {self.height}x{self.width}; both sides must be even numbers from "
                    f"{SMALLEST_SIDE} to {LARGEST_SIDE}, as in 240x428"
                )
        if self.num_train < 2 or self.num_test < 2:
            raise UserError(
                f"{self.num_train} training and {self.num_test} test videos are too few; each split "
                f"needs at least 2, one normal and one abnormal"
            )

    def num_abnormal(self, split: Split) -> int:
        """Half of the training videos, and 7 of 15 test videos."""
        return self.num_train // 2 if split == "train" else max(1, self.num_test * 7 // 15)

    def num_videos(self, split: Split) -> int:
        return self.num_train if split == "train" else self.num_test

    def num_labeled(self, label: int) -> int:
        abnormal = self.num_abnormal("train") + self.num_abnormal("test")
        return abnormal if label else self.num_train + self.num_test - abnormal

    def identity(self) -> dict[str, int | bool]:
        return {"format_version": FORMAT_VERSION, **asdict(self)}
