"""Features in the layouts of others: small copies of their files, made into stores and measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from sklearn.metrics import roc_auc_score

from ssrl.commands import evaluate, import_, train
from ssrl.commands import store as store_command
from ssrl.config import StoreConfig
from ssrl.evaluate.protocol import Protocol, expand_to_frames
from ssrl.evaluate.report.svg import merge_steps
from ssrl.evaluate.report.write import format_csv
from ssrl.geometry import compute_row_bounds
from ssrl.store.importing import ImportConfig
from ssrl.store.layout import get_video_path
from ssrl.store.reader import Store
from ssrl.store.segments import open_segment_view
from ssrl.store.verify import verify
from tests.parity import parity, released_network
from tests.scores import make_scores

D = 64
PATCHES = {1: 10, 2: 6, 3: 15, 4: 28}
TAGS = {2: "patch23", 3: "patch35", 4: "patch47"}
AUC_TOLERANCE = 1e-6
EVENTS = "Temporal_Anomaly_Annotation_for_Testing_Videos.txt"
Scales = dict[int, np.ndarray]


def arrays_of(num_rows: int, seed: int = 0) -> Scales:
    """One array (T, N, D) float32 a scale."""
    generator = np.random.default_rng(seed)
    return {scale: generator.normal(size=(num_rows, n, D)).astype(np.float32) for scale, n in PATCHES.items()}


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def shanghaitech_file(root: Path, video_id: str, scale: int, part: str = "Test") -> Path:
    if scale == 1:
        return root / f"SH_{part}_i3d" / f"{video_id}_i3d.npy"
    return root / f"SH_{TAGS[scale].upper()}_i3d" / f"{video_id}_{TAGS[scale]}_i3d.npy"


def ucf_crime_file(root: Path, name: str, scale: int, part: str) -> Path:
    i3d = "_i3d" if scale == 1 else f"_{TAGS[scale]}_i3d"
    return root / f"UCF_{part}{i3d}{'_32' if part == 'Train' else ''}" / f"{name}{i3d}.npy"


def save_shanghaitech(root: Path, video_id: str, arrays: Scales, part: str = "Test") -> None:
    for scale, array in arrays.items():
        save(shanghaitech_file(root, video_id, scale, part), array)


def save_annotations(folder: Path, train_ids: str, test_ids: str, masks: dict[str, np.ndarray]) -> Path:
    """Split lists of a few videos, and masks."""
    for video_id, mask in masks.items():
        save(folder / "test_frame_mask" / f"{video_id}.npy", mask)
    (folder / "SH_Train.txt").write_text("\n".join(train_ids.split()))
    (folder / "SH_Test.txt").write_text("\n".join(test_ids.split()))
    return folder


def mask_of(num_frames: int, start: int, stop: int) -> np.ndarray:
    mask = np.zeros(num_frames, dtype=np.uint8)
    mask[start:stop] = 1
    return mask


def run(main: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(main, [str(part) for part in arguments])


def import_features(layout: str, dataset: str, root: Path, out: Path, *options: object) -> Result:
    arguments = ("features", "--layout", layout, "--dataset", dataset, "--root", root, "--out", out, *options)
    return run(import_.main, *arguments)


@pytest.fixture
def three_videos(tmp_path: Path) -> tuple[Path, Path]:
    """Released features of a training and two test videos, and their annotations; 3, 4 and 5 snippets."""
    root, lengths = tmp_path / "released", {"01_0014": 3, "01_0015": 4, "01_001": 5}
    for seed, (video_id, num_rows) in enumerate(lengths.items()):
        save_shanghaitech(root, video_id, arrays_of(num_rows, seed), "Train" if video_id == "01_0014" else "Test")
    masks = {"01_0014": mask_of(48, 5, 20), "01_0015": mask_of(60, 30, 60)}
    return root, save_annotations(tmp_path / "annotations", "01_0014", "01_001 01_0015", masks)


@pytest.fixture(scope="module")
def released_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released network of stage 4 at D = 64, imported."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save(parity("network_stage4")[0], folder / "released.pkl")
    outcome = run(import_.main, "checkpoint", folder / "released.pkl", "--out", folder / "imported.pt")
    assert outcome.exit_code == 0, outcome.output
    return folder / "imported.pt"


# Released numbers


def test_a_released_checkpoint_on_released_features_gives_its_auc(tmp_path: Path, released_checkpoint: Path) -> None:
    """Both imported, the AUC is that of the network run on the arrays themselves, labels padded."""
    network, _, scales = released_network(4)
    ids, masks = (
        ["01_001", "01_0015", "01_002", "01_0016"],
        [None, mask_of(505, 200, 290), None, mask_of(498, 400, 498)],
    )
    for row, video_id in enumerate(ids):
        save_shanghaitech(tmp_path, video_id, {scale: part[row].numpy() for scale, part in scales.items()})
    there = {video_id: mask for video_id, mask in zip(ids, masks, strict=True) if mask is not None}
    annotations = save_annotations(tmp_path / "annotations", "", " ".join(ids), there)
    outcome = import_features("released", "shanghaitech", tmp_path, tmp_path / "store", "--annotations", annotations)
    assert outcome.exit_code == 0, outcome.output
    arguments = ["--ckpt", released_checkpoint, "--features", tmp_path / "store", "--protocol", "released"]
    outcome = run(evaluate.main, *arguments, "--json", tmp_path / "m.json")
    assert outcome.exit_code == 0, outcome.output

    with torch.inference_mode():
        scores = network(scales).scores.numpy().repeat(16, axis=1).ravel()  # (4 * 512,)
    labels = [np.zeros(512) if mask is None else np.pad(mask, (0, 512 - len(mask)), mode="edge") for mask in masks]
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["num_frames"] == 4 * 512 and metrics["num_anomalous_frames"] == 90 + 112
    assert metrics["auc"] == pytest.approx(roc_auc_score(np.concatenate(labels), scores), abs=AUC_TOLERANCE)


def test_a_store_holds_the_released_numbers_exactly(tmp_path: Path, three_videos: tuple[Path, Path]) -> None:
    root, annotations = three_videos
    outcome = import_features("released", "shanghaitech", root, tmp_path / "store", "--annotations", annotations)
    assert outcome.exit_code == 0, outcome.output
    assert "3 videos imported (12 rows), 0 skipped, 0 failed, 0 missing" in outcome.stdout
    store = Store(tmp_path / "store")
    assert store.config == StoreConfig(
        dataset="shanghaitech",
        encoder="imported",
        weights="not known",
        weights_sha256="",
        feature_dim=D,
        num_crops=10,
        normalisation="not known",
        precision="not known",
        dtype="float32",
    )
    for seed, video_id in enumerate(("01_0014", "01_0015", "01_001")):
        for scale, array in arrays_of(3 + seed, seed).items():
            np.testing.assert_array_equal(store.features(video_id, scale), array)
    record = store.record("01_0015")
    assert (record.num_frames, record.video.label, record.video.split, record.video.anomalies) == (
        60,
        1,
        "test",
        ((30, 60),),
    )
    assert (record.rows, record.num_frames_known, record.imported) == ("snippets", True, True)
    assert store.record("01_0014").video.split == "train"
    record = store.record("01_001")
    assert (record.num_frames, record.num_frames_known, record.video.anomalies) == (16 * 5, False, ())
    assert not [finding for finding in verify(store) if finding.problem]


def test_half_precision_and_a_name_for_the_encoder_on_request(tmp_path: Path, three_videos: tuple[Path, Path]) -> None:
    root, annotations = three_videos
    options = ("--annotations", annotations, "--dtype", "float16", "--encoder", "i3d-caffe2")
    assert import_features("released", "shanghaitech", root, tmp_path / "store", *options).exit_code == 0
    config = Store(tmp_path / "store").config
    assert (config.dtype, config.encoder) == ("float16", "i3d-caffe2")


def test_long_videos_are_copied_in_blocks(tmp_path: Path, three_videos: tuple[Path, Path]) -> None:
    root, annotations = three_videos
    save_shanghaitech(root, "01_001", arrays_of(70))
    assert import_features("rtfm", "shanghaitech", root, tmp_path / "s", "--annotations", annotations).exit_code == 0
    np.testing.assert_array_equal(Store(tmp_path / "s").features("01_001", 1), arrays_of(70)[1])


# UCF-Crime


def save_ucf_crime(root: Path, annotations: Path) -> dict[str, Scales]:
    """A training and a test video of each kind, with lists; training arrays have their crops or patches in front."""
    videos = {
        "Abuse001_x264": arrays_of(32, 1),
        "Normal_Videos001_x264": arrays_of(32, 2),
        "Abuse028_x264": arrays_of(11, 3),
        "Normal_Videos_003_x264": arrays_of(40, 4),
    }
    for name, arrays in videos.items():
        part = "Train" if len(arrays[1]) == 32 else "Test"
        for scale, array in arrays.items():
            stored = array.transpose(1, 0, 2) if part == "Train" else array
            save(ucf_crime_file(root, name, scale, part), stored)
    annotations.mkdir()
    (annotations / "Anomaly_Train.txt").write_text(
        "Abuse/Abuse001_x264.mp4\nTraining_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4\n"
    )
    (annotations / "Anomaly_Test.txt").write_text(
        "Abuse/Abuse028_x264.mp4\nTesting_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4\n"
    )
    (annotations / EVENTS).write_text("Abuse028_x264.mp4  Abuse  31  90  -1  -1\n")
    return videos


def test_ucf_crime_with_crops_in_front_trains_and_is_measured(tmp_path: Path) -> None:
    videos = save_ucf_crime(tmp_path / "ucf", tmp_path / "lists")
    store_root, options = tmp_path / "store", ("--annotations", tmp_path / "lists")
    outcome = import_features("released", "ucf-crime", tmp_path / "ucf", store_root, *options)
    assert outcome.exit_code == 0, outcome.output
    store = Store(store_root)
    for name, arrays in videos.items():
        for scale, array in arrays.items():
            np.testing.assert_array_equal(store.features(name, scale), array)
    kinds = {
        record.id: (record.rows, record.num_frames, record.video.split, record.video.label)
        for record in store.records()
    }
    assert kinds["Abuse001_x264"] == ("segments", 512, "train", 1)
    assert kinds["Normal_Videos_003_x264"] == ("snippets", 640, "test", 0)
    assert store.record("Abuse028_x264").video.anomalies == ((30, 90),)
    assert not [finding for finding in verify(store) if finding.problem]
    view = open_segment_view(store)
    np.testing.assert_array_equal(view.scales[2][view.ids.index("Abuse001_x264")], videos["Abuse001_x264"][2])

    arguments = ["--recipe", "released", "--features", store_root, "--scales", "1,2", "--steps", "2"]
    outcome = run(train.main, *arguments, "--out", tmp_path / "run")
    assert outcome.exit_code == 0, outcome.output
    outcome = run(evaluate.main, "--ckpt", tmp_path / "run" / "best.pt", "--report", tmp_path / "report")
    assert outcome.exit_code == 0, outcome.output
    assert "2 videos are of unknown length: assuming 16 frames per snippet" in outcome.stderr
    assert outcome.stderr.count("unknown length") == 1
    assert "no pictures of 2 videos: their features were imported" in outcome.stderr
    assert (tmp_path / "report" / "index.html").is_file() and not (tmp_path / "report" / "where").exists()


def test_the_lists_of_ucf_crime_are_bundled(tmp_path: Path) -> None:
    save_ucf_crime(tmp_path / "ucf", tmp_path / "lists")
    outcome = import_features("released", "ucf-crime", tmp_path / "ucf", tmp_path / "store")
    assert outcome.exit_code == 1 and "4 videos imported" in outcome.stdout and "1896 missing" in outcome.stdout
    assert "missing: 1891 more" in outcome.stdout
    assert "test videos without frame labels: 1 of 2" in outcome.stderr
    record = Store(tmp_path / "store").record("Abuse028_x264")
    assert (record.video.label, record.video.split, record.video.category, record.video.anomalies) == (
        1,
        "test",
        "Abuse",
        None,
    )


# Ten crops alone, and files of one's own


def test_ten_crops_alone_in_other_folders(tmp_path: Path, three_videos: tuple[Path, Path]) -> None:
    """RTFM's folders have other names, and its users link them."""
    root, annotations = three_videos
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(root / "SH_Train_i3d")
    (tmp_path / "data" / "test").symlink_to(root / "SH_Test_i3d")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    outcome = import_features(
        "rtfm", "shanghaitech", tmp_path / "data", tmp_path / "store", "--annotations", annotations
    )
    assert outcome.exit_code == 0, outcome.output
    store = Store(tmp_path / "store")
    assert store.config.scales == (1,) and store.features("01_0014", 1).shape == (3, 10, D)


def test_a_release_without_patches_points_at_the_other_layout(tmp_path: Path) -> None:
    save(shanghaitech_file(tmp_path, "01_001", 1), arrays_of(2)[1])
    outcome = import_features("released", "shanghaitech", tmp_path, tmp_path / "store")
    assert outcome.exit_code == 1 and "none of scale 2" in outcome.stderr and "--layout rtfm" in outcome.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("crops", [None, 5])
def test_files_of_ones_own(tmp_path: Path, crops: int | None) -> None:
    shape = (9,) if crops is None else (crops, 9)
    save(tmp_path / "gate" / "monday.npy", np.ones((3, *shape)))
    save(tmp_path / "yard.npy", np.zeros((2, *shape), dtype=np.float16))
    (tmp_path / "videos.csv").write_text("video,label,split,num_frames\ngate/monday.mp4,0,train,\nyard,1,test,20\n")
    (tmp_path / "frames.csv").write_text("video,first_frame,last_frame\nyard,3,9\n")
    tables = ("--manifest", tmp_path / "videos.csv", "--frame-labels", tmp_path / "frames.csv")
    outcome = import_features("npy", "manifest", tmp_path, tmp_path / "store", *tables)
    assert outcome.exit_code == 0, outcome.output
    store = Store(tmp_path / "store")
    assert store.features("gate/monday", 1).shape == (3, crops or 1, 9) and store.config.scales == (1,)
    assert (store.record("gate/monday").num_frames, store.record("gate/monday").num_frames_known) == (48, False)
    assert (store.record("yard").num_frames, store.record("yard").video.anomalies) == (20, ((2, 9),))


# Segments


def test_segments_lie_evenly_over_the_frames_by_hand() -> None:
    assert compute_row_bounds("segments", 3, 40, 16).tolist() == [0, 13, 26, 40]
    assert compute_row_bounds("segments", 4, 2, 16).tolist() == [0, 0, 1, 1, 2]  # more segments than frames
    assert compute_row_bounds("snippets", 3, 40, 16).tolist() == [0, 16, 32, 40]


@pytest.mark.parametrize("protocol", ["true", "released"])
def test_scores_of_segments_hold_for_their_frames(protocol: Protocol) -> None:
    video = make_scores("v", 1, "", 7, None, np.array([0.25, 0.5, 0.75]), 16, ((5, 7),), rows="segments")
    scores, labels = expand_to_frames(video, protocol)
    assert scores.tolist() == [0.25] * 2 + [0.5] * 2 + [0.75] * 3  # bounds 0, 2, 4, 7
    assert labels.tolist() == [0] * 5 + [1] * 2
    assert [line.split(",")[1] for line in format_csv(video).split()[1:]] == [f"{score:g}" for score in scores]
    starts, shown = merge_steps(video)
    assert (starts.tolist(), shown.tolist()) == ([0, 2, 4], [0.25, 0.5, 0.75])


def test_rows_that_are_segments(tmp_path: Path, three_videos: tuple[Path, Path], released_checkpoint: Path) -> None:
    root, annotations = three_videos
    save(annotations / "test_frame_mask" / "01_0015.npy", mask_of(1000, 300, 500))
    options = ("--annotations", annotations, "--rows", "segments")
    outcome = import_features("released", "shanghaitech", root, tmp_path / "store", *options)
    assert outcome.exit_code == 0, outcome.output
    record = Store(tmp_path / "store").record("01_0015")
    assert (record.rows, record.num_frames, record.video.anomalies) == ("segments", 1000, ((300, 500),))
    assert not [finding for finding in verify(Store(tmp_path / "store")) if finding.problem]
    assert "1000 frames, 4 segments, 200 anomalous" in run(store_command.main, "info", tmp_path / "store").stdout
    arguments = ["--ckpt", released_checkpoint, "--features", tmp_path / "store", "--json", tmp_path / "m.json"]
    assert run(evaluate.main, *arguments).exit_code == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert (metrics["num_frames"], metrics["num_anomalous_frames"]) == (1000 + 80, 200)


def test_segments_of_a_guessed_length_have_no_place_for_frame_labels(tmp_path: Path) -> None:
    save(tmp_path / "yard.npy", np.ones((32, 9)))
    (tmp_path / "videos.csv").write_text("video,label,split\nyard,1,test\n")
    (tmp_path / "frames.csv").write_text("video,first_frame,last_frame\nyard,3,9\n")
    tables = ("--manifest", tmp_path / "videos.csv", "--frame-labels", tmp_path / "frames.csv")
    options = ("--rows", "segments", "--axes", "time,features")
    outcome = import_features("npy", "manifest", tmp_path, tmp_path / "store", *tables, *options)
    assert outcome.exit_code == 0 and "frame labels cannot be used: 1, e.g. yard" in outcome.stderr
    assert Store(tmp_path / "store").record("yard").video.anomalies is None
    again = import_features("npy", "manifest", tmp_path, tmp_path / "store", *tables, *options)
    assert "1 skipped" in again.stdout and "frame labels cannot be used: 1, e.g. yard" in again.stderr


def test_an_interval_beyond_the_stated_frames_costs_that_interval(tmp_path: Path) -> None:
    save(tmp_path / "yard.npy", np.ones((3, 9)))
    (tmp_path / "videos.csv").write_text("video,label,split,num_frames\nyard,1,test,40\n")
    (tmp_path / "frames.csv").write_text("video,first_frame,last_frame\nyard,3,9\nyard,30,45\nyard,60,70\n")
    tables = ("--manifest", tmp_path / "videos.csv", "--frame-labels", tmp_path / "frames.csv")
    for _ in range(2):  # also told of a stored video
        outcome = import_features("npy", "manifest", tmp_path, tmp_path / "store", *tables)
        assert outcome.exit_code == 0, outcome.output
        assert "yard: the anomalous frames 30 to 45 go beyond its 40 frames: cut there" in outcome.stderr
        assert "the anomalous frames 60 to 70 go beyond its 40 frames: left out" in outcome.stderr
    assert Store(tmp_path / "store").record("yard").video.anomalies == ((2, 9), (29, 40))


def test_arrays_have_no_times_to_place_seconds_by(tmp_path: Path) -> None:
    save(tmp_path / "yard.npy", np.ones((3, 9)))
    (tmp_path / "videos.csv").write_text("video,label,split\nyard,1,test\n")
    (tmp_path / "frames.csv").write_text("video,first_second,last_second\nyard,3,9\n")
    tables = ("--manifest", tmp_path / "videos.csv", "--frame-labels", tmp_path / "frames.csv")
    outcome = import_features("npy", "manifest", tmp_path, tmp_path / "store", *tables)
    assert outcome.exit_code == 1 and not (tmp_path / "store").exists()
    assert "error: imported features do not tell the times of frames" in outcome.stderr


# What is not as it should be


def test_a_number_of_rows_that_does_not_fit_the_frames_names_both(
    tmp_path: Path, three_videos: tuple[Path, Path]
) -> None:
    root, annotations = three_videos
    save(annotations / "test_frame_mask" / "01_0015.npy", mask_of(65, 30, 60))
    outcome = import_features("released", "shanghaitech", root, tmp_path / "store", "--annotations", annotations)
    assert outcome.exit_code == 1 and Store(tmp_path / "store").ids() == ["01_001", "01_0014"]
    assert "failed: 01_0015:" in outcome.stdout
    assert "has 4 rows, but the video's 65 frames make 5 snippets of 16" in outcome.stdout
    assert "--rows segments" in outcome.stdout


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def not_a_number(path: Path) -> None:
    array = np.load(path)
    array[1, 2, 3] = np.nan
    np.save(path, array)


def archive(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), array=np.ones(3))
    path.with_suffix(".npz").rename(path)


def with_shape(*shape: int) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.ones(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("scale", "damage", "reason"),
    [
        (1, truncated, "is not a readable NumPy array"),
        (2, lambda path: path.write_bytes(b""), "is not a readable NumPy array"),
        (3, lambda path: path.write_text("no array"), "is not a readable NumPy array"),
        (1, lambda path: np.save(path, np.array([{}], dtype=object)), "is not a readable NumPy array"),
        (4, archive, "is an archive of arrays"),
        (2, lambda path: np.save(path, np.ones((4, 6, D), dtype=np.int64)), "holds int64"),
        (1, with_shape(4), "has shape (4,)"),
        (1, with_shape(0, 10, D), "01_0015_i3d.npy"),
        (1, with_shape(4, 9, D), "has 9 crops, but the store has 10"),
        (3, with_shape(4, 14, D), "has 14 patches, but scale 3 has 15"),
        (2, with_shape(3, 6, D), "has 3 rows, but scale 1 of this video has 4"),
        (1, with_shape(4, 10, 65), "has D = 65, but the store has D = 64"),
        (4, with_shape(4, 28, 63), "has D = 63, but the store has D = 64"),
        (4, not_a_number, "scale 4 has features that are not finite"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_imported(
    tmp_path: Path, three_videos: tuple[Path, Path], scale: int, damage: Callable[[Path], None], reason: str
) -> None:
    root, annotations = three_videos
    damage(shanghaitech_file(root, "01_0015", scale))
    outcome = import_features("released", "shanghaitech", root, tmp_path / "store", "--annotations", annotations)
    assert outcome.exit_code == 1, outcome.output
    assert "2 videos imported (8 rows), 0 skipped, 1 failed, 0 missing" in outcome.stdout
    assert "failed: 01_0015: " in outcome.stdout and reason in outcome.stdout
    assert Store(tmp_path / "store").ids() == ["01_001", "01_0014"]


def test_the_first_file_may_be_damaged(tmp_path: Path, three_videos: tuple[Path, Path]) -> None:
    root, annotations = three_videos
    truncated(shanghaitech_file(root, "01_001", 1))
    outcome = import_features("released", "shanghaitech", root, tmp_path / "store", "--annotations", annotations)
    assert outcome.exit_code == 1 and "2 videos imported (7 rows), 0 skipped, 1 failed" in outcome.stdout


def test_missing_files_are_named_and_a_second_run_completes(tmp_path: Path, three_videos: tuple[Path, Path]) -> None:
    root, annotations = three_videos
    absent = shanghaitech_file(root, "01_0015", 3)
    absent.rename(tmp_path / "elsewhere.npy")
    arguments = ("released", "shanghaitech", root, tmp_path / "store", "--annotations", annotations)
    outcome = import_features(*arguments)
    assert outcome.exit_code == 1 and "2 videos imported (8 rows), 0 skipped, 0 failed, 1 missing" in outcome.stdout
    assert f"missing: 01_0015: SH_PATCH35_i3d/01_0015_patch35_i3d.npy not found below {root}" in outcome.stdout
    (tmp_path / "elsewhere.npy").rename(absent)
    written = get_video_path(tmp_path / "store", "01_001").stat().st_mtime_ns
    outcome = import_features(*arguments)
    assert outcome.exit_code == 0 and "1 videos imported (4 rows), 2 skipped" in outcome.stdout
    assert get_video_path(tmp_path / "store", "01_001").stat().st_mtime_ns == written
    outcome = import_features(*arguments, "--dtype", "float16")
    assert outcome.exit_code == 1 and "dtype: float16, not float32" in outcome.stderr


def test_two_files_of_one_name_are_told_apart_by_the_folder_or_named(
    tmp_path: Path, three_videos: tuple[Path, Path]
) -> None:
    root, annotations = three_videos
    save(root / "copy" / "01_0015_i3d.npy", np.ones((4, 10, D), dtype=np.float32))
    arguments = ("rtfm", "shanghaitech", root)
    assert import_features(*arguments, tmp_path / "a", "--annotations", annotations).exit_code == 0
    np.testing.assert_array_equal(Store(tmp_path / "a").features("01_0015", 1), arrays_of(4, 1)[1])
    (root / "SH_Test_i3d").rename(root / "another")
    outcome = import_features(*arguments, tmp_path / "b", "--annotations", annotations)
    assert outcome.exit_code == 1 and "failed: 01_0015: duplicate files" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("released", "manifest", "--manifest", "videos.csv"), "--layout npy"),
        (("released", "ucsd-ped2"), "is for shanghaitech and ucf-crime, not for 'ucsd-ped2'"),
        (("npy", "manifest"), "give it with --manifest"),
        (("released", "shanghaitech", "--annotations", "."), "holds no frame labels of shanghaitech"),
        (("released", "shanghaitech"), "no shanghaitech features below"),
        (("released", "shanghaitech", "--manifest", "videos.csv"), "are only for --dataset manifest"),
        (("npy", "manifest", "--manifest", "videos.csv", "--annotations", "."), "--frame-labels"),
    ],
)
def test_what_cannot_be_imported_at_all_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    Path("videos.csv").write_text("video,label,split\nyard,1,test\n")
    layout, dataset, *options = arguments
    outcome = import_features(layout, dataset, Path("root"), Path("store"), *options)
    is_wrong_use = arguments[:2] in (("released", "manifest"), ("released", "ucsd-ped2"))  # these never go together
    assert outcome.exit_code == (2 if is_wrong_use else 1) and complaint in outcome.stderr, outcome.output
    assert not Path("store").exists()


def test_without_annotations_evaluation_says_what_it_cannot_tell(
    tmp_path: Path, three_videos: tuple[Path, Path], released_checkpoint: Path
) -> None:
    root, _ = three_videos
    outcome = import_features("released", "shanghaitech", root, tmp_path / "store")
    assert outcome.exit_code == 1 and "3 videos imported" in outcome.stdout and "434 missing" in outcome.stdout
    assert "test videos without frame labels: 1 of 2" in outcome.stderr and "--annotations" in outcome.stderr
    arguments = ["--ckpt", released_checkpoint, "--features", tmp_path / "store", "--json", tmp_path / "m.json"]
    outcome = run(evaluate.main, *arguments)
    assert outcome.exit_code == 0, outcome.output
    assert "not defined (no abnormal video has frame labels)" in outcome.stdout
    assert "without frame labels, counted by video_auc only: 01_0015" in outcome.stderr
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["auc"] is None and metrics["video_auc"] is not None
    assert metrics["undefined"]["auc"] == "no abnormal video has frame labels"


def test_options_have_the_defaults_of_the_configuration() -> None:
    defaults = {parameter.name: parameter.default for parameter in import_.features.params}
    config = ImportConfig("shanghaitech", "released")
    assert (defaults["rows"], defaults["dtype"], defaults["encoder"]) == (config.rows, config.dtype, config.encoder)
