"""Video Swin tiny against torchvision's own network and pixels."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models.video import Swin3D_T_Weights, swin3d_t

from ssrl.errors import UserError
from ssrl.extract.encoders import Encoder, load_encoder

pytestmark = pytest.mark.slow

FLOAT32_TOLERANCE = 1e-4  # relative: sums in another order
PUBLISHED = Swin3D_T_Weights.KINETICS400_V1


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("swin3d_t", "random:3")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network: torch.nn.Module = swin3d_t()
        return network.eval()


@pytest.fixture(scope="module")
def weights_file(model: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "swin.pth"
    torch.save(model.state_dict(), path)
    return path


def what_the_head_gets(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(1, 3, L, h, w) → (768,): what torchvision's whole network hands to its classifier."""
    seen: list[torch.Tensor] = []
    handle = model.get_submodule("head").register_forward_hook(lambda head, inputs, output: seen.append(inputs[0]))
    with torch.inference_mode():
        model(pixels)
    handle.remove()
    return seen[0][0]


def random_pixels(patches: int, frames: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (patches, frames, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("patches", "frames", "height", "width"), [(3, 16, 64, 64), (2, 16, 120, 120), (2, 16, 50, 71), (1, 5, 30, 16)]
)
def test_features_equal_torchvisions_own_network_patch_by_patch(
    encoder: Encoder, model: torch.nn.Module, patches: int, frames: int, height: int, width: int
) -> None:
    """All patches at once through ours; one by one through torchvision's transform and its uncut network."""
    pixels = random_pixels(patches, frames, height, width)
    with torch.inference_mode():
        features = encoder.network(encoder.prepare(pixels).permute(0, 4, 1, 2, 3))
    assert features.shape == (patches, encoder.feature_dim)
    as_published = PUBLISHED.transforms(crop_size=(height, width), resize_size=(height, width))
    for n in range(patches):
        transformed = as_published(pixels[n].permute(0, 3, 1, 2))  # (3, L, h, w); of this size, it only normalizes
        expected = what_the_head_gets(model, transformed[None])
        assert (features[n] - expected).abs().max() < FLOAT32_TOLERANCE * expected.abs().max()


def test_a_file_gives_the_network_that_was_saved(encoder: Encoder, weights_file: Path) -> None:
    loaded = load_encoder("swin3d_t", str(weights_file))
    assert loaded.weights.name == "swin.pth"
    assert loaded.weights.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    expected, found = encoder.network.state_dict(), loaded.network.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_random_weights_say_that_they_mean_nothing(caplog: pytest.LogCaptureFixture) -> None:
    first, again, other = (load_encoder("swin3d_t", f"random:{seed}") for seed in (0, 0, 1))
    assert "weights are random" in caplog.text
    assert first.weights == again.weights and first.weights.sha256 != other.weights.sha256


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth does not hold torchvision's Video Swin tiny"):
        load_encoder("swin3d_t", str(tmp_path / "w.pth"))
    with pytest.raises(UserError, match="no weights file"):
        load_encoder("swin3d_t", str(tmp_path / "gone.pth"))


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, *rest: object, **more: object) -> None:
        raise URLError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UserError, match=rf"cannot download {PUBLISHED.url}.*unreachable.*--weights FILE"):
        load_encoder("swin3d_t")


def test_a_cached_file_that_was_not_published_is_refused(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / PUBLISHED.url.rsplit("/", 1)[-1]
    cached.parent.mkdir(parents=True)
    shutil.copy(weights_file, cached)
    with pytest.raises(UserError, match=r"swin3d_t-7615ae03\.pth is not what torchvision published"):
        load_encoder("swin3d_t", "kinetics400")


def test_the_registry_knows_it() -> None:
    with pytest.raises(UserError, match="swin3d_t"):
        load_encoder("swin")
