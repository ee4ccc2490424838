"""UCF-Crime (Sultani et al., CVPR 2018), in the folders of the official download.

    Anomaly-Videos-Part-1/Abuse/Abuse001_x264.mp4, ...      files are found by name anywhere below the root
    Anomaly_Train.txt, Anomaly_Test.txt                     one "<class>/<file>" per line; if absent, `splits/`
    Temporal_Anomaly_Annotation_for_Testing_Videos.txt      "<file> <class> <first> <last> <first> <last>", -1 for none

Events are taken as counted from 1, both ends included: the frames [first - 1, last).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ssrl.datasets.video import Dataset, Split, Video
from ssrl.errors import UserError

SPLIT_LISTS: dict[Split, str] = {"train": "Anomaly_Train.txt", "test": "Anomaly_Test.txt"}
EVENTS = "Temporal_Anomaly_Annotation_for_Testing_Videos.txt"
BUNDLED = Path(__file__).parent / "splits"
NORMAL = "Normal"
Intervals = tuple[tuple[int, int], ...]


def load(root: Path) -> Dataset:
    """Find the 1,900 videos of the official lists, or those of the lists below `root`."""
    files = index_files(root)
    videos, missing = [], []
    for listed in _list_videos(files, root):
        path = _choose(files.get(listed.path.name, []), listed.path.parent.name)
        if path is None:
            missing.append(f"{listed.id}: {root}/**/{listed.path.name}")
            continue
        missing.extend(_find_missing_event(listed))
        videos.append(replace(listed, path=path))
    if not videos:
        raise UserError(
            f"no UCF-Crime videos below {root}: looked for files such as "
            f"{missing[0].partition(': ')[2] if missing else 'none, as the lists are empty'}. Point --root to the "
            f"folder that holds Anomaly-Videos-Part-1 and its neighbors, or get the dataset from the authors' page "
            f"(UCF-Crime, Center for Research in Computer Vision, University of Central Florida)"
        )
    return Dataset("ucf-crime", tuple(videos), tuple(missing))


def load_catalog(annotations: Path | None) -> Dataset:
    """List every video at its path in the official layout, present or not.

    `annotations` holds some or all of the official text files; None: the bundled lists, so labels only.
    """
    videos = list(_list_videos(index_files(annotations) if annotations else {}, annotations or BUNDLED))
    missing = [row for video in videos for row in _find_missing_event(video)] if annotations else []
    return Dataset("ucf-crime", tuple(videos), tuple(missing))


def _list_videos(files: dict[str, list[Path]], root: Path) -> Iterator[Video]:
    events = read_events(_prefer_root(files[EVENTS], root)) if EVENTS in files else {}
    for name, folder, split in _read_split_lists(files, root):
        label = 0 if is_normal_folder(folder) else 1
        anomalies: Intervals | None = () if label == 0 else events.get(name)
        path = root / folder / name
        yield Video(path.stem, path, label, split, folder if label else NORMAL, anomalies=anomalies)


def _find_missing_event(video: Video) -> list[str]:
    return [f"{video.id}: its row in {EVENTS}"] if video.anomalies is None and video.split == "test" else []


def index_files(root: Path) -> dict[str, list[Path]]:
    """Index every video and list below `root` by file name, in the order of their paths."""
    files: dict[str, list[Path]] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            if name.endswith((".mp4", ".txt")):
                files.setdefault(name, []).append(Path(folder) / name)
    return files


def is_normal_folder(folder: str) -> bool:
    """Tell whether a folder in a list holds normal videos, as Training_Normal_Videos_Anomaly does."""
    return "Normal" in folder


def _choose(paths: list[Path], folder: str) -> Path | None:
    """Choose the path in the listed folder if there is one: the download holds some normal videos twice."""
    in_folder = [path for path in paths if path.parent.name == folder]
    return next(iter([*in_folder, *paths]), None)


def _find_split_list(files: dict[str, list[Path]], root: Path, name: str) -> Path:
    """Find a split list below `root`, or the bundled one if `root` has neither."""
    if name in files:
        return _prefer_root(files[name], root)
    if any(other in files for other in SPLIT_LISTS.values()):
        raise UserError(
            f"{name} is not below {root}, but the other of {' and '.join(SPLIT_LISTS.values())} is. Get both from the "
            f"authors' page (UCF-Crime, Center for Research in Computer Vision, University of Central Florida) and "
            f"put them in {root} or {root / 'annotations'}, or remove the existing one to use the official lists"
        )
    return BUNDLED / name


def _prefer_root(paths: list[Path], root: Path) -> Path:
    """Choose among files of one name: in the root, else in root/annotations, else the first below."""
    preferred = [path for folder in (root, root / "annotations") for path in paths if path.parent == folder]
    return next(iter([*preferred, *paths]))


def _read_split_lists(files: dict[str, list[Path]], root: Path) -> Iterator[tuple[str, str, Split]]:
    """Read (file name, class folder, split) from each line of the two lists."""
    seen: dict[str, str] = {}
    for split, list_name in SPLIT_LISTS.items():
        path = _find_split_list(files, root, list_name)
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            folder, slash, name = line.strip().partition("/")
            if not slash or not name.endswith(".mp4") or "/" in name:
                raise UserError(f"{where}: expected <class>/<file>.mp4, got {line.strip()!r}; get the list again")
            if name in seen:
                raise UserError(f"{where}: {name} is already in {seen[name]}; a video belongs to one split")
            seen[name] = where
            yield name, folder, split


def read_events(path: Path) -> dict[str, Intervals]:
    """Read the frames [start, stop), counted from 0, of up to two events per file name."""
    events: dict[str, Intervals] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            name, intervals = _parse_event(line, f"{path}, line {number}")
            events[name] = intervals
    return events


def _parse_event(line: str, where: str) -> tuple[str, Intervals]:
    try:
        name, _, *numbers = line.split()
        first_1, last_1, first_2, last_2 = (int(number) for number in numbers)
    except ValueError as error:
        raise UserError(
            f"{where}: expected <file> <class> and four whole numbers, got {line.strip()!r}; get the list again"
        ) from error
    intervals = []
    for first, last in ((first_1, last_1), (first_2, last_2)):
        if first == -1 and last == -1:
            continue
        if not 0 <= first <= last or last == 0:
            raise UserError(f"{where}: the event {first} to {last} ends before it starts; use -1 -1 for none")
        intervals.append((max(first - 1, 0), last))
    return name, tuple(intervals)
