"""The structure of the package, read from its imports.

command → workflow → stage → store → core. Stages never import each other, and no two files import each other, be it
through others, for types alone, or within a function.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = {"extract", "train", "evaluate"}
LAYERS = {  # layer → the layers that it may import, beside itself
    "core": set(),
    "store": {"core"},
    **{stage: {"core", "store"} for stage in STAGES},
    "watch": {"core", "store", "extract", "evaluate"},
    "workflows": {"core", "store", *STAGES, "watch"},
    "paper_tables": {"core", "store", *STAGES, "workflows"},
    "commands": {"core", "store", *STAGES, "watch", "workflows", "paper_tables"},
}
FOLDERS = ("ssrl", "store", "extract", "train", "evaluate")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """extract/readers/packets.py → ssrl.extract.readers.packets"""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "ssrl" else ["ssrl", *parts])


MODULES = {module_name(path): path for path in FILES}


def layer_of(module: str) -> str:
    second = [*module.split("."), ""][1]
    return second if second in LAYERS else "core"


def imported_modules(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module or "" for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


IMPORTS = {module: imported_modules(path) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    if module == "ssrl" or MODULES[module].name == "__main__.py":
        return  # the public API, and `python -m ssrl.extract`, which is a command
    layer = layer_of(module)
    forbidden = [name for name in IMPORTS[module] if layer_of(name) not in LAYERS[layer] | {layer}]
    assert not forbidden, f"{module} must not import {sorted(forbidden)}"


def test_no_two_files_import_each_other() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"an import cycle: {' → '.join(error.args[1])}")


def test_a_cycle_between_files_is_seen() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"ssrl.a": {"ssrl.b"}, "ssrl.b": {"ssrl.a"}}).prepare()
    assert "ssrl.store.layout" in IMPORTS["ssrl.store.reader"]


def test_every_module_has_a_docstring() -> None:
    bare = [str(path) for path in FILES if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare
