"""The Python of the documentation runs as it stands, from top to bottom."""

import re
from pathlib import Path

import matplotlib
import pytest

from tests.media import write_h264

ROOT = Path(__file__).parents[2]


def code_of(page: str) -> str:
    """All blocks of Python of a page, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: videos and their table."""
    folder = tmp_path_factory.mktemp("user")
    rows = []
    for index, name in enumerate(("gate", "yard", "street", "hall", "bridge", "quay")):
        (folder / "videos").mkdir(exist_ok=True)
        write_h264(folder / "videos" / f"{name}.mp4", 17)
        rows.append(f"{name}.mp4,{index % 2},{'train' if index < 4 else 'test'}\n")
    (folder / "videos.csv").write_text("video,label,split\n" + "".join(rows))
    return folder


def test_the_pages_run_as_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    matplotlib.use("agg")
    code = code_of("docs/python.md").replace('out=Path("runs/mine")', 'steps=2, out=Path("runs/mine")')
    code = code.replace("cv=5", "steps=2, cv=2")
    exec(compile(code, "docs/python.md", "exec"), {"__name__": "python_page"})
    printed = capsys.readouterr().out
    assert "no abnormal video has frame labels" in printed  # why there is no frame-level AUC
    assert "yard 1 17 (2, 6, 256)" in printed
    assert (folder / "gate.png").stat().st_size > 1000
    (folder / "runs" / "mine" / "best.pt").rename(folder / "best.pt")
    (folder / "gate.png").unlink()
    (folder / "videos" / "gate.mp4").rename(folder / "gate.mp4")
    exec(compile(code_of("README.md"), "README.md", "exec"), {"__name__": "readme"})
    assert (folder / "gate.png").stat().st_size > 1000
