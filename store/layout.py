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
from typing import Any

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.geometry import Geometry

FORMAT_VERSION = 1
CONFIG_FILE = "store.json"
VIDEO_FOLDER = "videos"
VIDEO_SUFFIX = ".h5"
DTYPES = ("float16", "float32")


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
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"a store holds {' or '.join(DTYPES)}, not {self.dtype!r}")
        for scale in self.scales:
            self.geometry.grid(scale)

    def shape(self, scale: int, num_snippets: int) -> tuple[int, int, int]:
        """(T, N_r, D), or (T, C, D) at scale 1."""
        num_patches = self.num_crops if scale == 1 else self.geometry.grid(scale).num_patches
        return num_snippets, num_patches, self.feature_dim

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that decides what the features mean; not of where they lie."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

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
    anomalies: tuple[tuple[int, int], ...] | None = None  # frames [start, stop); None: no frame labels


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
