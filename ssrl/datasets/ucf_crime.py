"""UCF-Crime (Sultani et al., CVPR 2018), in the folders of the official download.

    Anomaly-Videos-Part-1/Abuse/Abuse001_x264.mp4, ...      files are found by name anywhere below the root
    Anomaly_Train.txt, Anomaly_Test.txt                     "<class>/<file>" a line; else those in `splits/`
    Temporal_Anomaly_Annotation_for_Testing_Videos.txt      "<file> <class> <first> <last> <first> <last>", -1 for none

First and last frame of an event are taken as counted from 1, both included: the frames [first - 1, last).
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
CARRIED = Path(__file__).parent / "splits"
NORMAL = "Normal"
Intervals = tuple[tuple[int, int], ...]


def load(root: Path) -> Dataset:
    """The 1,900 videos of the official lists, or of the lists found below `root`."""
    files = files_by_name(root)
    videos, missing = [], []
    for listed in _listed_videos(files, root):
        path = _choose(files.get(listed.path.name, []), listed.path.parent.name)
        if path is None:
            missing.append(f"{listed.id}: {root}/**/{listed.path.name}")
            continue
        missing.extend(_missing_row(listed))
        videos.append(replace(listed, path=path))
    if not videos:
        raise UserError(
            f"no video of UCF-Crime below {root}: looked for files such as "
            f"{missing[0].partition(': ')[2] if missing else 'none, as the lists are empty'}. Point --root at the "
            f"folder that holds Anomaly-Videos-Part-1 and its neighbors, or get the dataset from the authors' page "
            f"(UCF-Crime, Center for Research in Computer Vision, University of Central Florida)"
        )
    return Dataset("ucf-crime", tuple(videos), tuple(missing))


def catalog(annotations: Path | None) -> Dataset:
    """Every video of the lists, at its place in the official layout, whether it is there or not.

    `annotations` holds the official text files, or some of them; None: the carried lists, so labels alone.
    """
    videos = list(_listed_videos(files_by_name(annotations) if annotations else {}, annotations or CARRIED))
    missing = [row for video in videos for row in _missing_row(video)] if annotations else []
    return Dataset("ucf-crime", tuple(videos), tuple(missing))


def _listed_videos(files: dict[str, list[Path]], root: Path) -> Iterator[Video]:
    events = read_events(_first(files[EVENTS], root)) if EVENTS in files else {}
    for name, folder, split in _listed(files, root):
        label = 0 if folder_is_normal(folder) else 1
        anomalies: Intervals | None = () if label == 0 else events.get(name)
        path = root / folder / name
        yield Video(path.stem, path, label, split, folder if label else NORMAL, anomalies=anomalies)


def _missing_row(video: Video) -> list[str]:
    return [f"{video.id}: its row in {EVENTS}"] if video.anomalies is None and video.split == "test" else []


def files_by_name(root: Path) -> dict[str, list[Path]]:
    """Every video and list below `root`, in one walk, in the order of their paths."""
    files: dict[str, list[Path]] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            if name.endswith((".mp4", ".txt")):
                files.setdefault(name, []).append(Path(folder) / name)
    return files


def folder_is_normal(folder: str) -> bool:
    """Whether the folder in a list, such as Training_Normal_Videos_Anomaly, is that of normal videos."""
    return "Normal" in folder


def _choose(paths: list[Path], folder: str) -> Path | None:
    """The download holds some normal videos twice: prefer the folder that the list names."""
    in_folder = [path for path in paths if path.parent.name == folder]
    return next(iter([*in_folder, *paths]), None)


def _split_list(files: dict[str, list[Path]], root: Path, name: str) -> Path:
    """A split list below `root`, or the carried one where `root` has neither of the two."""
    if name in files:
        return _first(files[name], root)
    if any(other in files for other in SPLIT_LISTS.values()):
        raise UserError(
            f"{name} is not below {root}, but the other of {' and '.join(SPLIT_LISTS.values())} is. Get both from the "
            f"authors' page (UCF-Crime, Center for Research in Computer Vision, University of Central Florida) and "
            f"put them into {root} or {root / 'annotations'}, or remove the one that is there to use the official lists"
        )
    return CARRIED / name


def _first(found: list[Path], root: Path) -> Path:
    """Of several files of one name: that in the root, else in root/annotations, else the first anywhere below."""
    preferred = [path for folder in (root, root / "annotations") for path in found if path.parent == folder]
    return next(iter([*preferred, *found]))


def _listed(files: dict[str, list[Path]], root: Path) -> Iterator[tuple[str, str, Split]]:
    """(file name, class folder, split) of each line of the two lists."""
    seen: dict[str, str] = {}
    for split, list_name in SPLIT_LISTS.items():
        path = _split_list(files, root, list_name)
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            folder, slash, name = line.strip().partition("/")
            if not slash or not name.endswith(".mp4") or "/" in name:
                raise UserError(f"{where}: expected <class>/<file>.mp4, got {line.strip()!r}; get the list again")
            if name in seen:
                raise UserError(f"{where}: {name} stands in {seen[name]} too; a video belongs to one split")
            seen[name] = where
            yield name, folder, split


def read_events(path: Path) -> dict[str, Intervals]:
    """File name to the frames [start, stop), counted from 0, of up to two events."""
    events: dict[str, Intervals] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            name, found = _parse_event(line, f"{path}, line {number}")
            events[name] = found
    return events


def _parse_event(line: str, where: str) -> tuple[str, Intervals]:
    try:
        name, _, *numbers = line.split()
        first_1, last_1, first_2, last_2 = (int(number) for number in numbers)
    except ValueError as error:
        raise UserError(
            f"{where}: expected <file> <class> and four whole numbers, got {line.strip()!r}; get the list again"
        ) from error
    found = []
    for first, last in ((first_1, last_1), (first_2, last_2)):
        if first == -1 and last == -1:
            continue
        if not 0 <= first <= last or last == 0:
            raise UserError(f"{where}: the event {first} to {last} ends before it begins; -1 -1 stands for none")
        found.append((max(first - 1, 0), last))
    return name, tuple(found)
