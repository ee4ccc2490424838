"""Heatmaps against pixel masks, and where masks are found."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.metrics import roc_auc_score

from ssrl.datasets.pixel_masks import find_pixel_masks
from ssrl.errors import UserError
from ssrl.evaluate.pixels import RASTER, TOLERANCE, Localization, LocalizationMeter, rasterize


def test_pixel_auc_is_that_of_all_pixels_together() -> None:
    generator = np.random.default_rng(0)
    meter, heats, masks = LocalizationMeter(), [], []
    for _ in range(3):
        mask = generator.random(RASTER) < 0.1
        heat = (generator.integers(0, 9, RASTER) + 2 * mask) / 10  # with ties
        meter.add(heat, mask)
        heats.append(heat)
        masks.append(mask)
    expected = roc_auc_score(np.ravel(masks), np.ravel(heats))
    assert meter.result().pixel_auc == pytest.approx(expected, abs=1e-6)


def test_pointing_counts_frames_whose_hottest_point_is_near_the_anomaly() -> None:
    meter = LocalizationMeter()
    mask = np.zeros(RASTER, np.bool_)
    mask[50:60, 100:110] = True
    reach = int(TOLERANCE * RASTER[0])
    for row in (55, 59 + reach, 59 + reach + 1, 0):  # on it, just near enough, just too far, far
        heat = np.zeros(RASTER)
        heat[row, 105] = 1
        meter.add(heat, mask)
    meter.add(np.zeros(RASTER), mask)  # points nowhere
    meter.add(np.ones(RASTER), np.zeros_like(mask))  # a frame without an anomaly does not count
    assert meter.result().pointing == pytest.approx(2 / 5) and meter.num_frames == 5
    assert LocalizationMeter().result() == Localization(None, None, 0)


def test_a_small_anomaly_is_not_lost_on_the_raster() -> None:
    mask = np.zeros((480, 840), np.bool_)
    mask[241:243, 401:403] = True
    raster = rasterize(mask)
    assert np.argwhere(raster).tolist() == [[60, 100]]
    assert not rasterize(np.zeros_like(mask)).any()


MASK = np.zeros((3, 4, 6), np.bool_)
MASK[1, 2:, 3:] = True


def write_shanghaitech(root: Path) -> Path:
    (root / "testing" / "test_pixel_mask").mkdir(parents=True)
    np.save(root / "testing" / "test_pixel_mask" / "01_0014.npy", MASK.astype(np.uint8))
    return root / "testing" / "frames" / "01_0014"


def write_ped2(root: Path) -> Path:
    (root / "Test" / "Test001_gt").mkdir(parents=True)
    for index, mask in enumerate(MASK):
        Image.fromarray(mask).save(root / "Test" / "Test001_gt" / f"{index + 1}.bmp")
    return root / "Test" / "Test001"


def write_avenue(root: Path) -> Path:
    (root / "ground_truth_demo" / "testing_label_mask").mkdir(parents=True)
    cells = np.empty((1, len(MASK)), object)
    cells[0] = list(MASK.astype(np.uint8))
    savemat(root / "ground_truth_demo" / "testing_label_mask" / "1_label.mat", {"volLabel": cells})
    return root / "testing_videos" / "01.avi"


@pytest.mark.parametrize("write", [write_shanghaitech, write_ped2, write_avenue])
def test_masks_are_found_beside_the_videos(tmp_path: Path, write: object) -> None:
    video = write(tmp_path)  # type: ignore[operator]
    masks = find_pixel_masks(video, "id")
    assert masks is not None and len(masks) == 3
    assert all(np.array_equal(masks[frame], MASK[frame]) for frame in range(3))
    assert find_pixel_masks(tmp_path / "elsewhere" / "a" / "02.avi", "02") is None


def test_masks_are_found_by_id_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    np.save(tmp_path / "gate" / "monday.npy", MASK)
    for folder in (tmp_path, tmp_path / "gate"):
        masks = find_pixel_masks(Path("absent.mp4"), "gate/monday", folder)
        assert masks is not None and masks.path == tmp_path / "gate" / "monday.npy"


def test_broken_masks_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"no array")
    np.save(tmp_path / "b.npy", MASK[0])
    for name in ("a", "b"):
        with pytest.raises(UserError, match=f"{name}.npy"):
            find_pixel_masks(Path("absent.mp4"), name, tmp_path)
