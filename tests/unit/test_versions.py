"""The releases that setup.cfg allows: those at hand are among them, and the files of constraints stay within them."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METADATA = ConfigParser()
METADATA.read(ROOT / "setup.cfg", encoding="utf-8")
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9-]+)(\[\w+\])?>=(?P<oldest>[\d.]+)(,<(?P<below>[\d.]+))?(;.*)?")


EXTRAS = METADATA["options.extras_require"]
LINES = "\n".join([METADATA["options"]["install_requires"], EXTRAS["cpu"], EXTRAS["tensorboard"]])


def list_requirements() -> dict[str, re.Match[str]]:
    matches = [REQUIREMENT.fullmatch(line.strip()) for line in LINES.split("\n") if line.strip()]
    return {match["name"].lower(): match for match in matches if match}


def read_constraints(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    return {package.lower(): release for package, _, release in (line.partition("==") for line in lines)}


def to_numbers(release: str) -> tuple[int, ...]:
    """Without what follows numbers, and zeros at the end: 2.14.0+cpu → (2, 14)."""
    numbers = [int(part) for part in re.match(r"[\d.]+\d", release)[0].split(".")]  # type: ignore[index]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


@pytest.mark.parametrize("name", list_requirements())
def test_a_requirement_is_met_by_what_is_at_hand_and_by_the_constraints(name: str) -> None:
    requirement = list_requirements()[name]
    oldest = to_numbers(requirement["oldest"])
    assert to_numbers(read_constraints("constraints-oldest.txt")[name]) == oldest
    releases = [read_constraints("constraints.txt")[name]] if name in read_constraints("constraints.txt") else []
    try:
        releases.append(version(name))
    except PackageNotFoundError:
        assert name in ("openvino", "tensorboard", "decord")  # extras, and one for x86-64 alone
    for release in releases:
        assert to_numbers(release) >= oldest
        assert not requirement["below"] or to_numbers(release) < to_numbers(requirement["below"])


def test_every_requirement_has_an_oldest_release() -> None:
    assert len(list_requirements()) == sum(bool(line.strip()) for line in LINES.split("\n"))
    assert METADATA["options"]["python_requires"] == ">=3.11" and sys.version_info >= (3, 11)
