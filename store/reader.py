"""Reading a store: its configuration, its videos and their features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.faults import raise_if_of_system
from ssrl.store.layout import (
    FILE_ATTRIBUTES,
    SECONDS,
    VIDEO_FOLDER,
    VIDEO_SUFFIX,
    StoredVideo,
    from_attributes,
    get_scale_name,
    get_video_path,
    read_config,
)
from ssrl.store.tables import read_named_ids

FileIdentity = tuple[int, int, int]


class Store:
    """A feature store opened for reading. No file stays open between calls, so workers may share it."""

    def __init__(self, root: str | PathLike[str]) -> None:
        self.root = Path(root)
        self.config = read_config(self.root)
        self._records: dict[str, tuple[FileIdentity | None, StoredVideo]] = {}

    def ids(self) -> list[str]:
        """The ids of all finished videos that the store's tables name, sorted."""
        named = read_named_ids(self.root)
        return [video_id for video_id in self._list_files() if named is None or video_id in named]

    def unnamed_ids(self) -> list[str]:
        """The ids of videos that the store's tables no longer name, sorted."""
        named = read_named_ids(self.root)
        return [] if named is None else [video_id for video_id in self._list_files() if video_id not in named]

    def _list_files(self) -> list[str]:
        folder = self.root / VIDEO_FOLDER
        files = [path for path in folder.rglob(f"*{VIDEO_SUFFIX}") if not path.name.startswith("._")]  # of macOS
        return sorted(path.relative_to(folder).as_posix()[: -len(VIDEO_SUFFIX)] for path in files)

    def records(self, split: Split | None = None) -> list[StoredVideo]:
        """The record of each video, of one split or both, sorted by id."""
        records = [self.record(video_id) for video_id in self.ids()]
        return [record for record in records if split in (None, record.video.split)]

    def record(self, video_id: str) -> StoredVideo:
        """The record of one video, cached until its file is replaced."""
        path = get_video_path(self.root, video_id)
        identity = _identify(path)
        if identity is None or self._records.get(video_id, (None,))[0] != identity:
            with self._open(video_id) as file:
                attributes = {name: value for name, value in file.attrs.items() if name not in FILE_ATTRIBUTES}
            self._records[video_id] = identity, from_attributes(attributes, path)
        return self._records[video_id][1]

    def num_rows(self, video_id: str) -> int:
        """Rows of features per scale: the video's snippets, or its segments."""
        with self._open(video_id) as file:
            return len(file[get_scale_name(self.config.scales[0])])

    def seconds(self, video_id: str) -> np.ndarray | None:
        """The times (num_frames,) of a video's frames, from the first on; None if they are not known."""
        with self._open(video_id) as file:
            return _read_seconds(file)

    def features(self, video_id: str, scale: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Snippets [start, stop) of one scale: (n, N_r, D) in the store's dtype. Checksums are verified."""
        return self.all_features(video_id, (scale,), start, stop)[scale]

    def all_features(
        self, video_id: str, scales: Sequence[int], start: int = 0, stop: int | None = None
    ) -> dict[int, np.ndarray]:
        """Snippets [start, stop) of several scales, as `features` reads them, opening the file once."""
        with self._open(video_id) as file:
            return {scale: each[start:stop] for scale, each in self._find_datasets(file, video_id, scales).items()}

    @contextmanager
    def open_video(
        self, video_id: str, scales: Sequence[int]
    ) -> Iterator[tuple[dict[int, StoredFeatures], np.ndarray | None]]:
        """The features of several scales, which are read as they are sliced, and the times of the frames (see
        `seconds`).
        """
        path = get_video_path(self.root, video_id)
        with self._open_file(video_id) as file:
            with _explain_damage(path):
                datasets, seconds = self._find_datasets(file, video_id, scales), _read_seconds(file)
            yield {scale: StoredFeatures(dataset, path) for scale, dataset in datasets.items()}, seconds

    def _find_datasets(self, file: h5py.File, video_id: str, scales: Sequence[int]) -> dict[int, h5py.Dataset]:
        missing = [scale for scale in scales if get_scale_name(scale) not in file]
        if missing:
            raise UserError(
                f"{video_id} has no features of scale {missing[0]} yet: the run that adds them to {self.root} "
                f"did not finish; rerun its command"
            )
        return {scale: file[get_scale_name(scale)] for scale in scales}

    def check_scales(self, scales: Sequence[int]) -> None:
        missing = [scale for scale in scales if scale not in self.config.scales]
        if missing:
            raise UserError(
                f"{self.root} has no features of scale {missing[0]}, only of scales "
                f"{','.join(map(str, self.config.scales))}; use those, or add it with ssrl-extract --scales"
            )

    @contextmanager
    def _open(self, video_id: str) -> Iterator[h5py.File]:
        """For reading at once: whatever fails in the block is damage."""
        with self._open_file(video_id) as file, _explain_damage(get_video_path(self.root, video_id)):
            yield file

    @contextmanager
    def _open_file(self, video_id: str) -> Iterator[h5py.File]:
        path = get_video_path(self.root, video_id)
        with ExitStack() as stack:
            try:
                with _explain_damage(path):
                    file = stack.enter_context(h5py.File(path, "r", locking=False))
                    self._check(file, path)
            except FileNotFoundError as error:
                hint = "list its videos with ssrl-store info"
                raise UserError(f"{self.root} has no video {video_id!r}; {hint}") from error
            yield file

    def _check(self, file: h5py.File, path: Path) -> None:
        if not file.attrs.get("complete", False):
            raise UserError(f"{path} is unfinished; delete it and extract again")
        fingerprint = file.attrs.get("configuration")
        if fingerprint != self.config.fingerprint:
            raise UserError(
                f"{path} was made with another configuration ({fingerprint}) than its store "
                f"({self.config.fingerprint}); delete it and extract again"
            )


class StoredFeatures:
    """The features (T, N_r, D) of one scale of a video whose file is open. Checksums are verified."""

    def __init__(self, dataset: h5py.Dataset, path: Path) -> None:
        self._dataset = dataset
        self._path = path

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, rows: Any) -> np.ndarray:
        with _explain_damage(self._path):
            return np.asarray(self._dataset[rows])


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise_if_of_system(error, path)
        raise UserError(f"{path} is damaged ({error}); delete it and extract again") from error
    except KeyError as error:
        raise UserError(f"{path} is damaged ({error}); delete it and extract again") from error


def _read_seconds(file: h5py.File) -> np.ndarray | None:
    return np.asarray(file[SECONDS][:]) if SECONDS in file else None


def _identify(path: Path) -> FileIdentity | None:
    """A value that changes whenever the file is replaced; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def find_store(parent: Path) -> Path:
    """The only store below `parent`. Raises a UserError if there is none, or several (it lists them)."""
    stores = sorted(path.parent for path in parent.glob("*/store.json"))
    if len(stores) == 1:
        return stores[0]
    if not stores:
        raise UserError(f"no feature store below {parent}/; create one with ssrl-extract, or pass --features")
    raise UserError(f"several feature stores; choose one with --features: {', '.join(map(str, stores))}")
