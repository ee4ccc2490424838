"""Import features that others released as NumPy arrays (see `ssrl.store.feature_files`).

First the shapes of all files are looked at together: they tell how the axes are to be read, and the number of crops and
features that most files share. Files that differ are named, and the others imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssrl.config import Dtype, StoreConfig
from ssrl.datasets import MANIFEST
from ssrl.datasets.annotations import annotate
from ssrl.datasets.video import Dataset, Video
from ssrl.errors import UserError
from ssrl.geometry import ROWS, Geometry, Rows
from ssrl.store.axes import CROPS, FEATURES, TIME, Axes, Shape, infer_axes, parse_axes
from ssrl.store.feature_files import FOLDERS, SCALES, FeatureFile, Features, FileMissing, Finder, Layout
from ssrl.store.layout import CONFIG_FILE, KEPT, StoredVideo, get_video_path, read_config
from ssrl.store.sources import Source
from ssrl.store.tables import write_table
from ssrl.store.writer import StoreWriter

BLOCK_ROWS = 32  # copied at a time: 32 x 59 x 2048 float32 are 15 MB
UNKNOWN = "not known"  # as stores record it


@dataclass(frozen=True)
class ImportConfig:
    """What to import, and how to store it."""

    dataset: str
    layout: Layout
    rows: Rows = "snippets"
    dtype: Dtype = "float32"  # as the released features were computed
    encoder: str = "imported"
    axes: str = ""  # names of the arrays' axes; empty: as the release has them, or inferred from all files' shapes

    def __post_init__(self) -> None:
        if self.layout not in SCALES:
            raise UserError(f"unknown layout {self.layout!r}; choose from {', '.join(SCALES)}")
        if self.rows not in ROWS:
            raise UserError(f"unknown rows {self.rows!r}; choose from {', '.join(ROWS)}")
        if self.layout != "npy" and self.dataset not in FOLDERS:
            hint = "; import custom features with --layout npy" if self.dataset == MANIFEST else ""
            raise UserError(f"layout {self.layout} is for {' and '.join(FOLDERS)}, not for {self.dataset!r}{hint}")
        if self.axes:
            parse_axes(self.axes)

    @property
    def scales(self) -> tuple[int, ...]:
        return SCALES[self.layout]

    def to_store_config(self, num_crops: int, feature_dim: int) -> StoreConfig:
        return StoreConfig(
            dataset=self.dataset,
            encoder=self.encoder,
            weights=UNKNOWN,
            weights_sha256="",
            feature_dim=feature_dim,
            scales=self.scales,
            num_crops=num_crops,
            normalisation=UNKNOWN,
            precision=UNKNOWN,
            dtype=self.dtype,
        )


@dataclass
class Summary:
    """The outcome of an import."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # already in the store
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict)  # id → what of a stored video has changed
    missing: dict[str, str] = field(default_factory=dict)  # id → the file not found
    failed: dict[str, str] = field(default_factory=dict)  # id → why its files were refused
    guessed: list[str] = field(default_factory=list)  # num_frames is unknown, assumed to be 16 per row
    unplaced: list[str] = field(default_factory=list)  # frame labels dropped, since they need a known num_frames
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)  # id → what is wrong with its annotations
    zeros: dict[str, int] = field(default_factory=dict)  # done; id → rows whose features are all zero
    reading: str = ""  # how the axes were read, where that was not given by the release
    num_rows: int = 0


@dataclass(frozen=True)
class Reading:
    """How all arrays are read."""

    layout: Layout
    axes: Mapping[int, Axes]  # number of axes → their names; empty: those of the release
    num_crops: int
    feature_dim: int

    def get_axes(self, file: FeatureFile, ndim: int) -> Axes:
        """Raises a UserError if such arrays have no reading."""
        if not self.axes and self.layout != "npy":
            return file.get_released_axes(ndim)
        if ndim not in self.axes:
            given = " or ".join(",".join(axes) for axes in self.axes.values())
            raise UserError(f"{file} has {ndim} axes, not {given}")
        return self.axes[ndim]

    def read(self, files: Sequence[FeatureFile]) -> dict[int, Features]:
        """Scale → features. Raises a UserError that names the first file that is not as the others."""
        return {file.scale: file.read(self.get_axes(file, file.open()[0].ndim)) for file in files}

    def __str__(self) -> str:
        sizes = {TIME: "T", CROPS: str(self.num_crops), FEATURES: str(self.feature_dim)}
        readings = (f"{','.join(axes)} ({' x '.join(sizes[name] for name in axes)})" for axes in self.axes.values())
        return " or ".join(readings)


Found = dict[str, tuple[FeatureFile, ...]]


def import_features(
    config: ImportConfig,
    videos: Dataset,
    root: Path,
    out: Path,
    on_video: Callable[[str], None] | None = None,
    table: str = "",
) -> Summary:
    """Write the features of `videos` found below `root` into the store at `out`, skipping videos already there.
    `table` names what lists the videos; a later import with the same name replaces the list.

    Videos with missing or invalid files are listed in the summary; the rest are imported. Raises a UserError where
    nothing can be: no file at all, axes that can be read in several ways, a store of another configuration at `out`, a
    full disk.
    """
    if not root.is_dir():
        raise UserError(f"the root {root} {'is a file' if root.exists() else 'does not exist'}; it must be a folder")
    _refuse_seconds(videos)
    finder = Finder(config.layout, config.dataset, root)
    finder.check_scales(videos.videos)
    summary = Summary()
    found = _find_files(finder, videos, out, summary)
    reading = _choose_reading(config, videos, found, out, summary)
    summary.reading = str(reading)
    writer = StoreWriter(out, config.to_store_config(reading.num_crops, reading.feature_dim))
    write_table(out, table or f"{config.dataset} {root.resolve()}", (video.id for video in videos.videos))
    for video in videos.videos:
        if video.id in found:
            _import_or_report(video, found[video.id], config.rows, reading, writer, summary)
        if on_video is not None:
            on_video(video.id)
    return summary


def _refuse_seconds(videos: Dataset) -> None:
    video = next((video for video in videos.videos if video.anomalous_seconds is not None), None)
    if video is not None:
        raise UserError(
            f"imported features do not tell the times of frames, so anomalous intervals in seconds, as those of "
            f"{video.id}, cannot be placed; give them in frames, as first_frame,last_frame"
        )


def _find_files(finder: Finder, videos: Dataset, out: Path, summary: Summary) -> Found:
    """The readable files of each video; the others go to the summary."""
    found: Found = {}
    for video in videos.videos:
        try:
            files = finder.find(video)
            for file in files:
                file.open()
            found[video.id] = files
        except FileMissing as error:
            if get_video_path(out, video.id).is_file():
                summary.skipped.append(video.id)
            else:
                summary.missing[video.id] = str(error)
        except UserError as error:
            kept = f" ({KEPT})" if get_video_path(out, video.id).is_file() else ""
            summary.failed[video.id] = f"{error}{kept}"
    if not found:
        problems = {**summary.failed, **summary.missing}
        example = next((f"{video_id}: {problem}" for video_id, problem in problems.items()), "it lists none")
        raise UserError(f"none of the {len(videos.videos)} videos can be imported from {finder.root}, e.g. {example}")
    return found


def _choose_reading(config: ImportConfig, videos: Dataset, found: Found, out: Path, summary: Summary) -> Reading:
    """Read the arrays as most of them, or the store at `out`, allow. Raises a UserError if they do not tell."""
    stored = read_config(out) if (out / CONFIG_FILE).exists() else None
    sizes = None if stored is None else (stored.num_crops, stored.feature_dim)
    axes: dict[int, Axes] = {}
    if config.axes:
        given = parse_axes(config.axes)
        axes = {len(given): given}
    elif config.layout == "npy":
        lengths = {video.id: video.num_frames for video in videos.videos}
        axes = infer_axes(_list_shapes(found, lengths, config), sizes)
    reading = Reading(config.layout, axes, 0, 0)
    measured: dict[str, tuple[int, int]] = {}
    for video_id, files in list(found.items()):
        try:
            _, crops, features = reading.read(files[:1])[1].shape
            measured[video_id] = crops, features
        except UserError as error:
            summary.failed[video_id] = str(error)
            del found[video_id]
    if sizes is None or sizes not in measured.values():
        sizes = _choose_sizes(measured, summary)
    return replace(reading, num_crops=sizes[0], feature_dim=sizes[1])


def _list_shapes(found: Found, lengths: Mapping[str, int | None], config: ImportConfig) -> list[Shape]:
    shapes = []
    for video_id, (file, *_) in found.items():
        num_frames = lengths[video_id] if config.rows == "snippets" else None
        num_rows = None if num_frames is None else Geometry().num_snippets(num_frames)
        shapes.append(Shape(str(file), file.open()[0].shape, num_rows))
    return shapes


def _choose_sizes(measured: Mapping[str, tuple[int, int]], summary: Summary) -> tuple[int, int]:
    """C and D of most videos."""
    if not measured:
        raise UserError(f"no video can be imported, e.g. {next(iter(summary.failed.values()))}")
    (sizes, count), *others = Counter(measured.values()).most_common()
    if others and others[0][1] == count:
        examples = {value: name for name, value in measured.items()}
        listed = " and ".join(f"{examples[c, d]} has {_name_crops(c)} and D = {d}" for c, d in (sizes, others[0][0]))
        raise UserError(
            f"the files do not agree, and as many are one way as the other: {listed}. All videos of a store must "
            f"match: leave some out of the table, or say with --axes how to read them"
        )
    return sizes


def _import_or_report(
    video: Video,
    files: tuple[FeatureFile, ...],
    rows: Rows,
    reading: Reading,
    writer: StoreWriter,
    summary: Summary,
) -> None:
    try:
        source = Source.of([path for file in files for path in file.paths])
        features = reading.read(files)
        _check_shapes(files, features, writer.config)
        if reading.layout != "npy" and any(file.crops_first for file in files):
            rows = "segments"
        record, problems = _make_record(video, files, len(features[1]), rows, writer.config.geometry)
        plan = writer.plan(video.id, source, lambda stored: _keep_source(record, stored))
        zeros = 0
        if plan.scales:
            zeros = _write(writer, source.record(record), features)
        elif plan.record is not None:
            writer.update(plan.record)
    except UserError as error:
        kept = f" ({KEPT})" if get_video_path(writer.root, video.id).is_file() else ""
        summary.failed[video.id] = f"{error}{kept}"
        return
    except OSError as error:  # from writing: mapped arrays raise none
        raise UserError(
            f"cannot write {video.id} to {writer.root} ({error.strerror or error}); free some space or fix its "
            f"permissions, then rerun the command: it skips the videos already imported"
        ) from error
    if plan.changes:
        summary.changed[video.id] = plan.changes
    if problems:
        summary.warnings[video.id] = problems
    if not record.num_frames_known:
        summary.guessed.append(video.id)
    if record.video.anomalies is None and video.anomalies is not None and not problems:
        summary.unplaced.append(video.id)
    if not plan.scales:
        summary.skipped.append(video.id)
        return
    summary.done.append(video.id)
    summary.num_rows += len(features[1])
    if zeros:
        summary.zeros[video.id] = zeros


def _name_crops(count: int) -> str:
    return f"{count} crop{'' if count == 1 else 's'}"


def _check_shapes(files: Sequence[FeatureFile], features: Mapping[int, Features], config: StoreConfig) -> None:
    """Raise a UserError with both numbers if an array does not match the store, or scale 1 of its video."""
    for file in files:
        num_rows, num_patches, dim = features[file.scale].shape
        expected_rows, expected_patches, expected_dim = config.shape(file.scale, len(features[1]))
        if dim != expected_dim:
            raise UserError(f"{file} has D = {dim}, but the store has D = {expected_dim}; all videos must match")
        if num_patches < expected_patches and file.is_per_crop:
            raise UserError(
                f"{file.get_crop_path(num_patches)} not found, and the store has {expected_patches} crops; add the "
                f"files of the missing crops"
            )
        if num_patches != expected_patches and file.scale == 1:
            raise UserError(
                f"{file} has {_name_crops(num_patches)}, but the store has {expected_patches}; all videos must match"
            )
        if num_patches != expected_patches:
            raise UserError(f"{file} has {num_patches} patches, but scale {file.scale} has {expected_patches}")
        if num_rows != expected_rows:
            raise UserError(
                f"{file} has {num_rows} rows, but scale 1 of this video has {expected_rows}; download both again"
            )


def _make_record(
    video: Video, files: Sequence[FeatureFile], num_rows: int, rows: Rows, geometry: Geometry
) -> tuple[StoredVideo, tuple[str, ...]]:
    """The store's record of a video, and what is wrong with its anomalous intervals. Raises a UserError if its snippets
    do not match its number of frames.
    """
    num_frames = video.num_frames
    if num_frames is None:
        num_frames = num_rows * geometry.frames_per_snippet
        if rows == "segments" and video.anomalies:
            video = replace(video, anomalies=None)  # cannot be placed in a guessed length
    elif rows == "snippets" and geometry.num_snippets(num_frames) != num_rows:
        raise UserError(
            f"{files[0]} has {num_rows} rows, but the video's {num_frames} frames make "
            f"{geometry.num_snippets(num_frames)} snippets of {geometry.frames_per_snippet}; correct the frame "
            f"count, or pass --rows segments if the rows are spread evenly over the video"
        )
    is_known = video.num_frames is not None
    annotated, problems = annotate(replace(video, path=files[0].paths[0]), num_frames)
    return StoredVideo(annotated, num_frames, rows=rows, num_frames_known=is_known), problems


def _keep_source(record: StoredVideo, stored: StoredVideo) -> StoredVideo:
    """The record of today with the source of the stored one."""
    names = ("source_bytes", "source_modified", "source_sha256")
    return replace(record, **{name: getattr(stored, name) for name in names})


def _write(writer: StoreWriter, record: StoredVideo, features: Mapping[int, Features]) -> int:
    """Copy the features; return how many rows of a scale are all zero, at most."""
    zeros: Counter[int] = Counter()
    with writer.video(record.id) as file:
        for start in range(0, len(features[1]), BLOCK_ROWS):
            block = {scale: each[start : start + BLOCK_ROWS] for scale, each in features.items()}
            zeros.update({scale: int((array == 0).all(axis=(1, 2)).sum()) for scale, array in block.items()})
            file.append(block)
        file.finish(record)
    return max(zeros.values())
