"""One suite over every runtime: each must give what the encoder gives, patch by patch, in eager float32."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from benchmarks.peak import measure_peak_flops
from ssrl.cache import list_entries
from ssrl.errors import UserError
from ssrl.extract.encoders import Encoder, load_encoder
from ssrl.extract.encoders.i3d import normalized
from ssrl.extract.reuse import split_windows
from ssrl.extract.runtimes import Runtime, RuntimeSettings, _choose_faster, choose_runtime, measuring
from ssrl.extract.runtimes.torch_runtime import TorchRuntime, fold_batch_norms
from ssrl.geometry import Geometry
from ssrl.hardware import choose_device

pytestmark = pytest.mark.slow

GEOMETRY = Geometry(96, 96, 16, ((96, 96), (48, 48)))
SCALES = (1, 2)
TOLERANCE = {"float32": 1e-4}  # of the largest feature: sums in another order
LEAST_COSINE = 0.999  # in bfloat16
HAS_CUDA = torch.cuda.is_available()
RUNTIMES = [
    ("torch", "cpu", "float32"),
    ("torch", "cpu", "bfloat16"),
    ("openvino", "cpu", "float32"),
    ("openvino", "cpu", "bfloat16"),
    *(
        pytest.param(
            (runtime, "cuda", precision), marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="no GPU")]
        )
        for runtime in ("torch", "torch-compile")
        for precision in ("float32", "bfloat16")
    ),
]
ENCODERS = {"i3d_r50": "random:0", "micro3d": "embedded"}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SSRL_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return load_encoder(request.param, ENCODERS[request.param])


@pytest.fixture(scope="module", params=RUNTIMES, ids=lambda chosen: "-".join(chosen))
def runtime(request: pytest.FixtureRequest, encoder: Encoder) -> Runtime:
    name, device, precision = request.param
    if name == "openvino":
        pytest.importorskip("openvino")
        from ssrl.extract.runtimes.openvino_runtime import has_bfloat16

        if precision == "bfloat16" and not has_bfloat16():
            pytest.skip("this processor does not multiply in bfloat16")
    return choose_runtime(encoder, name, device, precision).make_runtimes(GEOMETRY)(SCALES)


@pytest.fixture(scope="module")
def snippets() -> np.ndarray:
    """Two snippets: a bright square that wanders over a smooth background."""
    y, x = np.mgrid[0:96, 0:96]
    video = np.repeat((x + y)[None, :, :, None] * 0.7 + 40, 32, axis=0) * [1.0, 0.8, 0.6]
    for number, frame in enumerate(video):
        frame[10 + number : 26 + number, 2 * number : 2 * number + 16] = (240, 40, 90)
    return video.astype(np.uint8).reshape(2, 16, 96, 96, 3)


def patch_by_patch(encoder: Encoder, snippet: np.ndarray) -> dict[int, np.ndarray]:
    features = {}
    for grid in GEOMETRY.grids:
        rows = []
        for cube in split_windows(snippet, grid):
            with torch.inference_mode():
                prepared = encoder.prepare(torch.from_numpy(cube.copy())).permute(3, 0, 1, 2)
                rows.append(encoder.network(prepared[None])[0].numpy())
        features[grid.scale] = np.stack(rows)
    return features


def assert_near(features: np.ndarray, expected: np.ndarray, runtime: Runtime) -> None:
    assert features.shape == expected.shape and features.dtype == np.float32
    if runtime.precision in TOLERANCE:
        assert np.abs(features - expected).max() < TOLERANCE[runtime.precision] * np.abs(expected).max()
    else:
        lengths = np.linalg.norm(features, axis=-1) * np.linalg.norm(expected, axis=-1)
        assert ((features * expected).sum(axis=-1) / lengths).min() > LEAST_COSINE


def test_snippets_give_what_their_patches_give(runtime: Runtime, snippets: np.ndarray) -> None:
    features = runtime.encode_snippets(snippets)
    assert set(features) == set(SCALES)
    for index, snippet in enumerate(snippets):
        for scale, expected in patch_by_patch(runtime.encoder, snippet).items():
            assert_near(features[scale][index], expected, runtime)


def test_cubes_give_what_they_give_alone(runtime: Runtime, snippets: np.ndarray) -> None:
    cubes = split_windows(snippets[0], GEOMETRY.grid(2))[:3]
    assert_near(runtime.encode_cubes(cubes), patch_by_patch(runtime.encoder, snippets[0])[2][:3], runtime)


def test_a_snippet_gives_the_same_bits_again(runtime: Runtime, snippets: np.ndarray) -> None:
    """On a CPU; it is what lets a resumed run end with the same bytes. GPUs choose their kernels by batch."""
    if runtime.device.type != "cpu":
        pytest.skip("not promised on a GPU")
    alone = [runtime.encode_snippets(snippet[None]) for snippet in snippets]
    again = [runtime.encode_snippets(snippet[None]) for snippet in snippets]
    for first, second in zip(alone, again, strict=True):
        assert all(np.array_equal(first[scale], second[scale]) for scale in SCALES)


def test_auto_takes_the_fastest_that_is_there_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("ssrl.extract.runtimes.openvino_runtime.has_bfloat16", lambda: False)
    settings = choose_runtime(load_encoder("micro3d"), device="cpu")
    assert str(settings) == "micro3d by openvino on cpu in float32"


def test_without_openvino_the_cpu_falls_back_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssrl.extract.runtimes._has_openvino", lambda: False)
    encoder = load_encoder("micro3d")
    assert choose_runtime(encoder, device="cpu").name == "torch"
    with pytest.raises(UserError, match=r"ssrl\[cpu\]"):
        choose_runtime(encoder, "openvino", "cpu")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="openvino, torch-compile, torch"):
        choose_runtime(load_encoder("micro3d"), "tensorflow")


def test_a_full_gpu_halves_the_batch_and_goes_on(snippets: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's answer to a batch of two is played; what follows is the real code."""
    settings = RuntimeSettings(load_encoder("micro3d"), "torch", torch.device("cpu"), "float32")
    runtime = settings.make_runtimes(GEOMETRY)(SCALES)
    assert isinstance(runtime, TorchRuntime)
    runtime.batch = 2
    whole, encode = runtime.encode_snippets(snippets), runtime._encode_batch

    def full(batch: np.ndarray) -> dict[int, np.ndarray]:
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(batch)

    monkeypatch.setattr(runtime, "_encode_batch", full)
    halved = runtime.encode_snippets(snippets)
    assert runtime.batch == 1
    for scale in SCALES:
        np.testing.assert_allclose(halved[scale], whole[scale], rtol=1e-5, atol=1e-5)

    monkeypatch.setattr(runtime, "_encode_batch", lambda batch: full(np.concatenate([batch, batch])))
    with pytest.raises(UserError, match="one snippet of micro3d does not fit"):
        runtime.encode_snippets(snippets[:1])


@pytest.fixture(scope="module")
def small_encoder() -> Encoder:
    """Quick to compile, with what the real ones have: a batch norm, and arithmetic in two precisions."""
    network = torch.nn.Sequential(
        torch.nn.Conv3d(3, 8, 3, 2, 1), torch.nn.BatchNorm3d(8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1)
    )
    weights = load_encoder("micro3d").weights
    return Encoder("small", 8, network.append(torch.nn.Flatten()).eval(), normalized, "", weights)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_graphs_give_what_the_network_gives(
    small_encoder: Encoder, snippets: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of any size, of which none is compiled twice."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    runtime = RuntimeSettings(small_encoder, "torch-compile", torch.device("cpu"), "float32").load(GEOMETRY.grids)
    counters.clear()
    for count in (2, 3, 5):
        batch = np.concatenate([snippets] * 3)[:count]
        features = runtime.encode_snippets(batch)
        for index, snippet in enumerate(batch):
            for scale, expected in patch_by_patch(small_encoder, snippet).items():
                assert_near(features[scale][index], expected, runtime)
    cubes = split_windows(snippets[0], GEOMETRY.grid(2))[:3]
    assert_near(runtime.encode_cubes(cubes), patch_by_patch(small_encoder, snippets[0])[2][:3], runtime)
    assert counters["stats"]["unique_graphs"] == 2  # of snippets and of cubes
    assert f"torch-{torch.__version__}" in [entry.path.name for entry in list_entries()]


def test_without_a_compiler_the_network_runs_as_it_is(
    small_encoder: Encoder, snippets: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(pixels: torch.Tensor) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda network: refuse)
    runtime = RuntimeSettings(small_encoder, "torch-compile", torch.device("cpu"), "float32").load(GEOMETRY.grids)
    for _ in range(2):
        features = runtime.encode_snippets(snippets[:1])
    assert_near(features[1][0], patch_by_patch(small_encoder, snippets[0])[1], runtime)
    assert caplog.text.count("without it (no C++ compiler)") == 1


def test_batch_norms_are_folded_into_convolutions() -> None:
    network = load_encoder("i3d_r50", "random:0").network
    count = sum(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
    folded = fold_batch_norms(network)
    assert isinstance(folded, torch.fx.GraphModule)
    left = {name for name, module in folded.named_modules() if isinstance(module, torch.nn.BatchNorm3d)}
    used = {node.target for node in folded.graph.nodes if node.op == "call_module"}
    assert count > 40 and not left & used


def test_compiled_networks_are_cached_on_disk(
    tmp_path: Path, snippets: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path))
    settings = RuntimeSettings(load_encoder("micro3d"), "openvino", torch.device("cpu"), "float32")
    first = settings.load(GEOMETRY.grids).encode_snippets(snippets[:1])
    [graph] = list_entries()
    os.utime(graph.path, (0, 0))
    second = settings.load(GEOMETRY.grids).encode_snippets(snippets[:1])
    [again] = list_entries()
    assert again.path == graph.path and again.path.stat().st_mtime == 0  # it was not compiled again
    assert again.last_used > time.time() - 60
    assert all(np.array_equal(first[scale], second[scale]) for scale in SCALES)


def test_the_peak_is_that_of_a_matrix_product() -> None:
    slow = measure_peak_flops("cpu", "float32", matrix=256)
    assert 1e8 < slow < 1e14


def test_openvino_reads_nothing_beyond_its_input() -> None:
    """Its gather of single bytes reads four: where a snippet ends at the end of mapped memory, that was a crash."""
    pytest.importorskip("openvino")
    code = (
        "import ctypes, mmap, numpy as np\n"
        "from ssrl.extract.encoders import load_encoder\n"
        "from ssrl.extract.runtimes.openvino_runtime import OpenVinoRuntime\n"
        "from ssrl.geometry import Geometry\n"
        "geometry = Geometry(64, 64, 16, ((64, 64),))\n"
        "size = 16 * 64 * 64 * 3\n"
        "memory = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)\n"
        "assert size % mmap.PAGESIZE == 0\n"
        "forbidden = ctypes.c_void_p(memory.ctypes.data + size)\n"
        "assert ctypes.CDLL(None).mprotect(forbidden, mmap.PAGESIZE, 0) == 0\n"
        "runtime = OpenVinoRuntime(load_encoder('micro3d'), geometry.grids, 'float32')\n"
        "runtime.encode_snippets(memory[:size].reshape(1, 16, 64, 64, 3))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_openvino_reports_nothing_and_forks_nothing() -> None:
    pytest.importorskip("openvino")
    code = (
        "import os, sys, numpy as np\n"
        "os.fork = None\n"
        "from ssrl.extract.encoders import load_encoder\n"
        "from ssrl.extract.runtimes.openvino_runtime import OpenVinoRuntime\n"
        "from ssrl.geometry import Geometry\n"
        "grids = Geometry(32, 32, 16, ((32, 32),)).grids\n"
        "black = np.zeros((1, 16, 32, 32, 3), np.uint8)\n"
        "OpenVinoRuntime(load_encoder('micro3d'), grids, 'float32').encode_snippets(black)\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__)\n"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0 and outcome.stdout.strip() == "openvino.tools.ovc.telemetry_stub", outcome.stderr


def test_float32_on_a_gpu_is_float32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    choose_device("auto")
    assert not torch.backends.cudnn.allow_tf32


# Precision, by measurement


@pytest.mark.parametrize(("float32", "bfloat16", "faster"), [(1.0, 2.65, "float32"), (1.0, 0.4, "bfloat16")])
def test_auto_takes_the_precision_that_is_faster_here(
    monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float, faster: str
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("ssrl.extract.runtimes.openvino_runtime.has_bfloat16", lambda: True)
    asked = []

    def measure(name: str, geometry: Geometry, scales: tuple[int, ...], loaders: Any) -> dict[str, float]:
        asked.append((name, geometry, scales, *loaders))
        return {"float32": float32, "bfloat16": bfloat16}

    monkeypatch.setattr("ssrl.extract.runtimes.measure_precisions", measure)
    i3d = load_encoder("i3d_r50", "random:0")
    settings = choose_runtime(i3d, device="cpu", geometry=GEOMETRY, scales=SCALES)
    assert settings.precision == faster and asked == [("i3d_r50", GEOMETRY, SCALES, "float32", "bfloat16")]
    assert str(settings).endswith(f"in {faster} (measured per snippet: float32 1.00 s, bfloat16 {bfloat16:.2f} s)")
    assert choose_runtime(i3d, device="cpu", precision="bfloat16").precision == "bfloat16"
    assert len(asked) == 1


def test_precisions_are_measured_on_the_graph_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSRL_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "MIN_SECONDS", 0.0)
    loaded, seen = [], []

    def load(precision: str, seconds: float) -> Callable[[np.ndarray], None]:
        loaded.append(precision)

        def encode(snippets: np.ndarray) -> None:
            seen.append((snippets.shape, snippets.dtype))
            time.sleep(seconds)

        return encode

    def measure(geometry: Geometry = GEOMETRY, **seconds: float) -> dict[str, float]:
        loaders = {name: partial(load, name, value) for name, value in seconds.items()}
        return measuring.measure_precisions("micro3d", geometry, SCALES, loaders)

    first = measure(float32=0.02, bfloat16=0.1)
    assert 0.02 <= first["float32"] < first["bfloat16"] and set(seen) == {((1, 16, 96, 96, 3), np.dtype("uint8"))}
    assert measure(float32=0.1, bfloat16=0.02) == first and loaded == ["float32", "bfloat16"]
    assert [entry.kind.title for entry in list_entries()] == ["measurements"]
    measure(replace(GEOMETRY, frames_per_snippet=8), float32=0.0, bfloat16=0.0)
    assert len(loaded) == 4  # another graph
    for file in (tmp_path / "speed").iterdir():
        file.write_text("damaged")
    assert measure(float32=0.1, bfloat16=0.02) != first and len(loaded) == 6


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_is_measured_in_each_precision(precision: str) -> None:
    """With the graph and the settings that an extraction uses."""
    pytest.importorskip("openvino")
    settings = RuntimeSettings(load_encoder("micro3d"), "openvino", torch.device("cpu"), "float32")
    measured = _choose_faster(settings, GEOMETRY, SCALES).measured
    assert measured[precision] > 0
