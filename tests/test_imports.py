"""Imports run one way: command → stage → store → core. Stages never import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {  # folder → what it may import of the package, beside itself
    "ssrl": set(),
    "store": {"ssrl"},
    "extract": {"ssrl", "store"},
    "train": {"ssrl", "store"},
    "evaluate": {"ssrl", "store"},
    "ssrl/commands": {"ssrl", "store", "extract", "train", "evaluate"},
}
FOLDERS = ("ssrl", "store", "extract", "train", "evaluate")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def layer_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return "ssrl/commands" if relative.parts[:2] == ("ssrl", "commands") else relative.parts[0]


def imported_layers(path: Path) -> set[str]:
    """The layers whose modules a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    found = set()
    for parts in (name.split(".") for name in names):
        if parts[0] == "ssrl":
            second = parts[1] if len(parts) > 1 else ""
            found.add({"commands": "ssrl/commands"}.get(second, second if second in LAYERS else "ssrl"))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    layer = layer_of(path)
    if path.name == "__main__.py":
        return  # `python -m ssrl.extract` is a command
    forbidden = imported_layers(path) - LAYERS[layer] - {layer}
    assert not forbidden, f"{path.relative_to(ROOT)} must not import from {sorted(forbidden)}"


def test_every_module_has_a_docstring() -> None:
    bare = [str(path) for path in MODULES if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare
