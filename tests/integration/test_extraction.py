"""Extraction from real encoded video: right features, bad videos named, and runs that can be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional as F

from ssrl.commands.extract import main
from ssrl.errors import UserError
from ssrl.extract.decoding import Decoded, Decoder, DecoderLost, Request
from ssrl.extract.encoders import load_encoder
from ssrl.extract.encoders.i3d import randomize_norms
from ssrl.extract.readers import open_reader
from ssrl.extract.runtimes import choose_runtime
from ssrl.extract.snippets import resize
from ssrl.geometry import Geometry
from ssrl.store.reader import Store
from tests.media import numbered_frames, truncate, write_audio_only, write_frames, write_h264, write_mpeg4

SMALL = "96x210"
GEOMETRY = Geometry.with_paper_grids(96, 210)
FLOAT32_TOLERANCE = 1e-4  # relative: sums in another order


def write_manifest(root: Path, videos: dict[str, int], split: str = "test") -> Path:
    path = root / "videos.csv"
    rows = "".join(f"{name},{label},{split}\n" for name, label in videos.items())
    path.write_text("video,label,split\n" + rows)
    return path


def extract(root: Path, out: Path, *more: str) -> Result:
    arguments = ["--dataset", "manifest", "--root", root, "--manifest", root / "videos.csv", "--out", out]
    return CliRunner().invoke(main, [str(part) for part in arguments] + ["--size", SMALL, *more])


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good videos: H.264, MPEG-4 AVI and a folder of frames."""
    root = tmp_path_factory.mktemp("videos")
    write_h264(root / "one.mp4", 40)
    write_mpeg4(root / "two.avi", 33)
    write_frames(root / "three", numbered_frames(16))
    write_manifest(root, {"one.mp4": 0, "two.avi": 1, "three": 0})
    return root


@pytest.fixture(scope="module")
def extracted(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("features") / "store"
    outcome = extract(videos, out, "--dtype", "float32", "--precision", "float32")
    assert outcome.exit_code == 0, outcome.output
    return Store(out)


def test_every_video_has_its_snippets(extracted: Store) -> None:
    assert {record.id: record.num_frames for record in extracted.records()} == {"one": 40, "two": 33, "three": 16}
    for video_id, num_snippets in (("one", 3), ("two", 3), ("three", 1)):
        shapes = [extracted.features(video_id, scale).shape for scale in (1, 2, 3, 4)]
        assert shapes == [(num_snippets, patches, 256) for patches in (1, 6, 15, 28)]


def test_features_are_those_of_the_patches_encoded_one_by_one(extracted: Store, videos: Path) -> None:
    """Cut with plain slices, encode each patch alone: the pipeline must give the same."""
    with open_reader(videos / "one.mp4") as reader:
        frames = [resize(frame, 96, 210) for frame in reader.frames()]
    frames += [frames[-1]] * (48 - len(frames))
    encoder = load_encoder("micro3d")
    for scale, (height, width) in enumerate(GEOMETRY.windows, 1):
        features = extracted.features("one", scale)
        for t in range(3):
            snippet = np.stack(frames[16 * t : 16 * t + 16])
            for n in range(features.shape[1]):
                row, col = divmod(n, 210 // width)
                patch = snippet[:, row * height : (row + 1) * height, col * width : (col + 1) * width]
                with torch.inference_mode():
                    prepared = encoder.prepare(torch.from_numpy(patch.copy())).permute(3, 0, 1, 2)
                    alone = encoder.network(prepared[None])[0]
                np.testing.assert_allclose(features[t, n], alone, rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE)


def test_a_second_run_keeps_what_is_there(extracted: Store, videos: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in extracted.root.rglob("*.h5")}
    outcome = extract(videos, extracted.root, "--dtype", "float32", "--precision", "float32")
    assert outcome.exit_code == 0 and "0 videos extracted" in outcome.stdout and "3 skipped" in outcome.stdout
    assert times == {path: path.stat().st_mtime_ns for path in extracted.root.rglob("*.h5")}


def test_another_configuration_is_refused(extracted: Store, videos: Path) -> None:
    outcome = extract(videos, extracted.root, "--dtype", "float16", "--precision", "float32")
    assert outcome.exit_code == 1 and "dtype: float16, not float32" in outcome.stderr


@pytest.mark.slow
def test_bad_videos_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    write_h264(tmp_path / "good.mp4", 17)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 40)
    write_audio_only(tmp_path / "sound.mp4")
    truncate(write_h264(tmp_path / "cut.mp4", 40), 0.3)
    (tmp_path / "frames").mkdir()
    write_h264(tmp_path / "last.mp4", 1)
    names = ["good.mp4", "empty.mp4", "text.mp4", "sound.mp4", "cut.mp4", "frames", "last.mp4"]
    write_manifest(tmp_path, dict.fromkeys([*names, "gone.mp4"], 0))
    outcome = extract(tmp_path, tmp_path / "store")
    assert outcome.exit_code == 1
    for name in ("empty.mp4", "text.mp4", "sound.mp4", "cut.mp4", "frames"):
        assert f"failed: {Path(name).stem}: {tmp_path / name}" in outcome.stdout, outcome.output
    assert "gone" in outcome.stderr
    assert Store(tmp_path / "store").ids() == ["good", "last"]


def test_a_frame_count_that_does_not_fit_the_table_is_refused(tmp_path: Path) -> None:
    write_h264(tmp_path / "one.mp4", 17)
    (tmp_path / "videos.csv").write_text("video,label,split,num_frames\none.mp4,0,test,20\n")
    outcome = extract(tmp_path, tmp_path / "store")
    assert outcome.exit_code == 1 and "17 frames, but its annotations are for 20" in outcome.stdout


def decode(decoder: Decoder, path: Path) -> tuple[int, Decoded]:
    """How many snippets come, and how the video ends."""
    decoder.begin(Request(path))
    count = 0
    while not isinstance(said := decoder.receive(), Decoded):
        if said is not None:
            count += 1
            decoder.give_back(said)
    return count, said


@pytest.mark.slow
def test_a_decoder_that_hangs_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs.mp4")  # opening it for reading waits for a writer that never comes
    with Decoder(GEOMETRY, time_limit_seconds=3) as decoder:
        began = time.monotonic()
        with pytest.raises(DecoderLost, match=r"hangs\.mp4.*3 seconds"):
            decode(decoder, tmp_path / "hangs.mp4")
        assert time.monotonic() - began < 20
        decoder.kill()
        write_h264(tmp_path / "good.mp4", 17)
        decoder.time_limit_seconds = 60
        assert decode(decoder, tmp_path / "good.mp4") == (2, Decoded(17, 25.0, 0))


def test_a_decoder_that_dies_is_reported_and_replaced(tmp_path: Path) -> None:
    write_h264(tmp_path / "good.mp4", 40)
    with Decoder(GEOMETRY) as decoder:
        decoder.begin(Request(tmp_path / "good.mp4"))
        while (slot := decoder.receive()) is None:
            pass  # it has started
        assert isinstance(slot, int)
        decoder.give_back(slot)
        decoder._process.kill()
        with pytest.raises(DecoderLost, match="crashed"):
            while True:
                decoder.receive()
        decoder.kill()
        assert decode(decoder, tmp_path / "good.mp4")[0] == 3


def features_of(root: Path) -> dict[tuple[str, int], bytes]:
    store = Store(root)
    return {(name, scale): store.features(name, scale).tobytes() for name in store.ids() for scale in (1, 2, 3, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_resumes_to_the_same_store(videos: Path, tmp_path: Path, end: signal.Signals) -> None:
    arguments = ["--dataset", "manifest", "--root", videos, "--manifest", videos / "videos.csv", "--size", SMALL]
    command = [sys.executable, "-m", "ssrl.extract", *map(str, arguments), "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[1/3]"):
            process.send_signal(end)
            break
    process.communicate()
    assert process.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL)
    kept = Store(tmp_path / "cut").ids()
    assert 1 <= len(kept) < 3
    again = subprocess.run([*command, str(tmp_path / "cut")], check=True, capture_output=True, text=True)
    assert f"{len(kept)} skipped" in again.stdout
    assert features_of(tmp_path / "cut") == features_of(tmp_path / "whole")


@pytest.mark.slow
def test_i3d_features_equal_pytorchvideos_own_network(tmp_path: Path) -> None:
    """Patch by patch in float32, through pytorchvideo's own model with its head's pool replaced."""
    from pytorchvideo.models.hub import i3d_r50

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = i3d_r50(pretrained=False).eval()
        randomize_norms(model)
    torch.save({"model_state": model.state_dict()}, tmp_path / "i3d.pyth")
    geometry = Geometry(96, 96, 16, ((96, 96), (48, 48)))
    settings = choose_runtime(load_encoder("i3d_r50", str(tmp_path / "i3d.pyth")), "torch", "cpu", "float32")
    snippet = np.random.default_rng(0).integers(0, 256, (16, 96, 96, 3), np.uint8)
    features = settings.make_runtimes(geometry)((1, 2)).encode_snippets(snippet[None])
    normalized = (torch.from_numpy(snippet).float() / 255 - 0.45) / 0.225
    pixels = normalized.permute(3, 0, 1, 2)[None]
    patches = {1: [pixels], 2: [pixels[..., r : r + 48, c : c + 48] for r in (0, 48) for c in (0, 48)]}
    for scale, cubes in patches.items():
        for n, cube in enumerate(cubes):
            with torch.inference_mode():
                hidden = cube
                for block in model.blocks[:-1]:
                    hidden = block(hidden)
                expected = F.adaptive_avg_pool3d(hidden, 1).flatten()
            largest = expected.abs().max()
            assert (torch.from_numpy(features[scale][0, n]) - expected).abs().max() < FLOAT32_TOLERANCE * largest


def test_every_residual_branch_of_a_random_i3d_counts() -> None:
    """Else most of the network would be left out of all comparisons with random weights."""
    network = load_encoder("i3d_r50", "random:0").network
    assert all(module.weight.min() > 0 for module in network.modules() if isinstance(module, torch.nn.BatchNorm3d))


@pytest.mark.parametrize("name", ["i3d_r50", "micro3d"])
def test_a_file_without_the_encoders_weights_is_refused(tmp_path: Path, name: str) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt does not hold"):
        load_encoder(name, str(tmp_path / "w.pt"))


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UserError, match="micro3d, i3d_r50"):
        load_encoder("c3d")
    with pytest.raises(UserError, match="float32, bfloat16"):
        choose_runtime(load_encoder("micro3d"), precision="float8")
