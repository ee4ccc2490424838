"""The rows of the paper's Tables 1, 3, 4 and 5, their settings, and the few runs that cover them all.

A run is trained step by step, so each of its stages is a row:

    run 1,2,3,4    rows  1 · 1,2 · 1,2,3 · 1,2,3,4        run 1,2,4    row  1,2,4
    run 1,3,4      rows  1,3 · 1,3,4                      run 1,4      row  1,4
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ssrl.errors import UserError

Variant = Literal["plain", "shared", "no-psr", "no-dilated", "no-non-local"]
VARIANTS: Mapping[Variant, Mapping[str, bool]] = {
    "plain": {},
    "shared": {"share_psr": True},
    "no-psr": {"no_psr": True},
    "no-dilated": {"no_dilated": True},
    "no-non-local": {"no_non_local": True},
}


@dataclass(frozen=True)
class Setting:
    """A network variant and its scales, in order of introduction."""

    variant: Variant
    scales: tuple[int, ...]

    def __str__(self) -> str:
        scales = ",".join(map(str, self.scales))
        return scales if self.variant == "plain" else f"{self.variant} {scales}"

    @property
    def folder_name(self) -> str:
        return f"{self.variant}-{''.join(map(str, self.scales))}"

    @property
    def ablation(self) -> Mapping[str, Any]:
        """Arguments of `ssrl.model.recipes.ablate`."""
        return VARIANTS[self.variant]

    def covers(self, row: Setting) -> bool:
        """Whether `row` is a stage of this run."""
        return self.variant == row.variant and self.scales[: len(row.scales)] == row.scales


@dataclass(frozen=True)
class Row:
    title: str
    setting: Setting


@dataclass(frozen=True)
class Comparison:
    """A difference between two rows."""

    title: str
    of: Setting
    minus: Setting


@dataclass(frozen=True)
class AucTable:
    """One table of frame AUCs."""

    number: int
    title: str
    rows: tuple[Row, ...]
    comparison: Comparison | None = None


ALL = (1, 2, 3, 4)
WHOLE = Setting("plain", (1,))
SUBSETS = ((1,), (1, 2), (1, 3), (1, 4), (1, 2, 3), (1, 3, 4), (1, 2, 4), ALL)  # Table 3, in its order
PAPER_NAMES = {"shanghaitech": "ShanghaiTech", "ucf-crime": "UCF-Crime"}
_PRINTED = {  # AUC in per cent: UCF-Crime, ShanghaiTech
    WHOLE: (84.30, 97.21),
    Setting("plain", (1, 2)): (86.38, 97.60),
    Setting("plain", (1, 3)): (85.69, 97.69),
    Setting("plain", (1, 4)): (85.29, 97.55),
    Setting("plain", (1, 2, 3)): (86.70, 97.85),
    Setting("plain", (1, 3, 4)): (86.32, 97.77),
    Setting("plain", (1, 2, 4)): (86.97, 97.71),
    Setting("plain", ALL): (87.43, 97.98),
    Setting("shared", ALL): (86.85, 97.84),
    Setting("no-psr", ALL): (85.98, 97.45),
    Setting("no-dilated", ALL): (86.57, 97.82),
    Setting("no-non-local", ALL): (86.22, 97.63),
}
PAPER_AUC: Mapping[str, Mapping[Setting, float]] = {
    name: {setting: printed[column] for setting, printed in _PRINTED.items()}
    for column, name in enumerate(("ucf-crime", "shanghaitech"))
}


def check_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """Sort the scales. Raises a UserError if they do not suffice for the tables."""
    ordered = tuple(sorted(scales))
    if not set(ordered) <= set(ALL) or ordered[:1] != (1,) or len(ordered) < 2:
        raise UserError(
            f"the tables need scale 1 and some of {','.join(map(str, ALL[1:]))}, "
            f"not {','.join(map(str, scales))}; select them with --scales, e.g. --scales 1,2"
        )
    return ordered


def make_tables(scales: tuple[int, ...]) -> tuple[AucTable, ...]:
    """Make Tables 1, 3, 4 and 5 for `scales`; the full network has all of them."""
    full, shared, no_psr, no_dilated, no_non_local = (Setting(variant, scales) for variant in VARIANTS)
    subsets = tuple(
        Row(", ".join(map(str, subset)), Setting("plain", subset)) for subset in SUBSETS if set(subset) <= set(scales)
    )
    ours, baseline = Row("SSRL", full), Row("baseline: scale 1 alone", WHOLE)
    without_psr = Row("SSRL without PSR", no_psr)
    return (
        AucTable(1, "the whole method", (baseline, Row("SSRL, PSR shared", shared), ours)),
        AucTable(3, "scales", subsets, Comparison("All scales minus the whole frame alone", full, WHOLE)),
        AucTable(
            4,
            "spatio-temporal relations",
            (Row("baseline: VTR", WHOLE), Row("SSRL without PSR: VTR, MPA", no_psr), Row("SSRL: VTR, MPA, PSR", full)),
            Comparison("SSRL minus SSRL without PSR", full, no_psr),
        ),
        AucTable(
            5,
            "the two sub-networks of PSR",
            (
                ours,
                Row("without dilated convolutions", no_dilated),
                Row("without non-local network", no_non_local),
                without_psr,
            ),
        ),
    )


def list_omitted(scales: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """List the subsets of Table 3 that need other scales."""
    return tuple(subset for subset in SUBSETS if not set(subset) <= set(scales))


def list_settings(tables: Iterable[AucTable]) -> tuple[Setting, ...]:
    """List the settings of all rows without duplicates."""
    return tuple(dict.fromkeys(row.setting for table in tables for row in table.rows))


def plan_runs(rows: Iterable[Setting]) -> tuple[Setting, ...]:
    """Plan the runs that cover all rows: from the longest to the shortest, each uncovered row becomes a run."""
    runs: list[Setting] = []
    for row in sorted(rows, key=lambda row: -len(row.scales)):  # stable: ties in the order of the tables
        if not any(run.covers(row) for run in runs):
            runs.append(row)
    return tuple(runs)
