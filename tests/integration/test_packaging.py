"""The wheel: what is in it. The installed package, editable or not: that it works outside its sources."""

import os
import shutil
import subprocess
import sys
import venv
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDERS = ("ssrl", "store", "extract", "train", "evaluate")
METADATA = ConfigParser()
METADATA.read(ROOT / "setup.cfg", encoding="utf-8")
VERSION = METADATA["metadata"]["version"]
COMMANDS = [
    line.split("=")[0].strip() for line in METADATA["options.entry_points"]["console_scripts"].split("\n") if line
]


def packaged_files() -> set[str]:
    """Every file of the package's folders, as the wheel should name it: extract/sharing.py → ssrl/extract/sharing.py"""
    paths = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    paths = [path for path in paths if "__pycache__" not in path.parts and not path.name.startswith(".")]
    return {path.as_posix() if path.parts[0] == "ssrl" else f"ssrl/{path.as_posix()}" for path in paths}


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    outcome = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def pip(*arguments: object, cwd: Path) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built of, as a build leaves its traces."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in ("src", *FOLDERS):
        shutil.copytree(ROOT / folder, tree / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, tree, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def python(request: pytest.FixtureRequest, tree: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the package and, by way of a path file, the dependencies installed beside these tests."""
    home = tmp_path_factory.mktemp("home")
    venv.create(home, symlinks=True)
    executable = home / "bin" / "python"
    site_packages = Path(
        run(executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    )
    (site_packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    package = [wheel] if request.param == "wheel" else ["--no-build-isolation", "--editable", tree]
    pip("--python", executable, "install", "--ignore-installed", "--no-deps", "--no-index", *package, cwd=home)
    return executable


def test_the_wheel_has_every_file_of_the_package_and_nothing_beside_it(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    notes = {name for name in names if name.startswith(f"ssrl-{VERSION}.dist-info/")}
    assert names - notes == packaged_files()
    assert {
        "ssrl/py.typed",
        "ssrl/extract/encoders/micro3d.pt",
        "ssrl/datasets/splits/SH_Test.txt",
        "ssrl/datasets/splits/ucsd_ped2_weak.csv",
    } <= names


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_its_help(python: Path, command: str, tmp_path: Path) -> None:
    assert run(python.with_name(command), "--help", cwd=tmp_path).startswith(f"Usage: {command}")


def test_the_package_finds_its_data(python: Path, tmp_path: Path) -> None:
    code = """
from importlib.metadata import version
import ssrl.store.layout, ssrl.datasets.ucsd_ped2, ssrl.extract.encoders.micro3d
print(version("ssrl"))
print(ssrl.store.layout.__file__)
print(ssrl.datasets.ucsd_ped2.BUNDLED)
print(ssrl.extract.encoders.micro3d.EMBEDDED_WEIGHTS)
"""
    version, *files = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert version == VERSION
    assert all(Path(file).is_file() and not Path(file).is_relative_to(ROOT) for file in files)


def test_the_installed_commands_go_from_video_to_metrics(python: Path, tmp_path: Path) -> None:
    def command(line: str) -> None:
        name, *arguments = line.split()
        run(python.with_name(name), *arguments, cwd=tmp_path)

    command("ssrl-synth --out data --train 2 --test 2 --size 120x214 --no-pixel-masks")
    command("ssrl-extract --dataset shanghaitech --root data --size 96x210 --scales 1 --out features")
    command("ssrl-train --features features --recipe small --scales 1 --steps 2 --out run")
    command("ssrl-eval --ckpt run/best.pt --features features --report report")
    assert (tmp_path / "report" / "index.html").is_file()


def test_a_type_checker_sees_the_types(python: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import ssrl\nfrom ssrl.store.layout import StoreConfig\n"
        "reveal_type(ssrl.score_videos(ssrl.ScoreRequest(['a.mp4'], 'best.pt', 'out')).videos)\n"
        "def encoder(config: StoreConfig) -> None: reveal_type(config.geometry)\n"
    )
    told = run(sys.executable, "-m", "mypy", "--python-executable", python, "script.py", cwd=tmp_path)
    assert 'Revealed type is "tuple[ssrl.evaluate.protocol.VideoScores, ...]"' in told
    assert 'Revealed type is "ssrl.geometry.Geometry"' in told


def test_the_changelog_has_this_version() -> None:
    assert f"\n## {VERSION} - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
