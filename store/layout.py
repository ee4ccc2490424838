"""What a patch-feature store is, on disk and in words.

    features/<name>/
      store.json            StoreConfig
      videos/<video id>.h5  scale1 (T, C, D) · scale2 (T, 6, D) · ...   attributes: VideoRecord, complete
      segments-32.h5        the pooled training view (see segments.py)

A video's file is written under a temporary name, closed, synced and renamed: what carries its final name is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.geometry import Geometry, Rows

FORMAT_VERSION = 2
CONFIG_FILE = "store.json"
VIDEO_FOLDER = "videos"
VIDEO_SUFFIX = ".h5"
ARRAY_SUFFIX = ".npy"  # of the files that features are imported from
DTYPES = ("float16", "float32")
TrainSampling = Literal["dense", "segments"]


@dataclass(frozen=True)
class StoreConfig:
    """What all features of a store have in common. Two stores mix only where all of it is equal."""

    dataset: str
    encoder: str
    weights: str  # how the weights were named: "kinetics400", "embedded", "random:0", a file's name
    weights_sha256: str
    feature_dim: int  # D
    geometry: Geometry = Geometry()
    scales: tuple[int, ...] = (1, 2, 3, 4)
    num_crops: int = 1  # C of scale 1; 10 for released features
    normalisation: str = "(x / 255 - 0.45) / 0.225"
    precision: str = "float32"  # what the encoder computed in
    dtype: str = "float16"  # what is on disk
    train_sampling: TrainSampling = "dense"  # segments: a long training video has one snippet in each of 32 segments
    reuse_static: bool = False  # whether a patch cube that did not change took the feature of an earlier one
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"a store holds {' or '.join(DTYPES)}, not {self.dtype!r}")
        if self.train_sampling not in get_args(TrainSampling):
            raise UserError(f"train_sampling is {self.train_sampling!r}; allowed are dense and segments")
        for scale in self.scales:
            self.geometry.grid(scale)

    def shape(self, scale: int, num_snippets: int) -> tuple[int, int, int]:
        """(T, N_r, D), or (T, C, D) at scale 1."""
        num_patches = self.num_crops if scale == 1 else self.geometry.grid(scale).num_patches
        return num_snippets, num_patches, self.feature_dim

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that decides what a feature means; not of which scales there are."""
        value = {name: value for name, value in self.to_json().items() if name != "scales"}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "geometry": self.geometry.to_json(), "scales": list(self.scales)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], source: Path) -> StoreConfig:
        version = value.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{source} is of store format {version!r}; this version reads format {FORMAT_VERSION}. "
                f"Extract the features anew, or use the version of ssrl that wrote them"
            )
        names = {field.name for field in fields(cls)}
        if set(value) != names:
            odd = sorted(set(value) ^ names)
            raise UserError(f"{source} does not describe a store: unknown or missing {', '.join(odd)}")
        return cls(**{**value, "geometry": Geometry.from_json(value["geometry"]), "scales": tuple(value["scales"])})

    def differences(self, other: StoreConfig) -> list[str]:
        """What differs, as "name: ours, not theirs"."""
        return [
            f"{field.name}: {getattr(self, field.name)}, not {getattr(other, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


@dataclass(frozen=True)
class VideoRecord:
    """What a store remembers of one video beside its features."""

    id: str
    num_frames: int
    label: int | None  # None: not known
    split: Split
    category: str = ""
    fps: float | None = None
    source: str = ""
    source_bytes: int = 0
    substituted_frames: int = 0  # frames that did not decode and repeat their neighbour
    missing_frames: int = 0  # frames that the file declares, and that did not come: it was cut off
    anomalies: tuple[tuple[int, int], ...] | None = None  # frames [start, stop); None: no frame labels
    rows: Rows = "snippets"  # what a row of the features is
    reused_cubes: int = 0  # patch cubes that took the feature of an earlier one
    num_frames_known: bool = True  # False: nothing states it, and it was taken as 16 a row

    @property
    def imported(self) -> bool:
        """Whether the features were made from an array of features, so that there is no video to look at."""
        return Path(self.source).suffix == ARRAY_SUFFIX


def read_config(root: Path) -> StoreConfig:
    """The configuration of the store at `root`."""
    path = root / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{root} holds no feature store ({CONFIG_FILE} is not there); make one with ssrl-extract")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or extract into a new folder") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not describe a store; restore it, or extract into a new folder")
    return StoreConfig.from_json(value, path)


def video_path(root: Path, video_id: str) -> Path:
    """The file of one video. Ids may hold "/", which become folders."""
    return root / VIDEO_FOLDER / f"{video_id}{VIDEO_SUFFIX}"


def scale_name(scale: int) -> str:
    return f"scale{scale}"
