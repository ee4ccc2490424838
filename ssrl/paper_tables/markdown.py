"""The page of tables as Markdown: means and deviations over seeds, beside the paper's figures where asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ssrl.paper_tables.rows import PAPER_AUC, PAPER_NAMES, AucTable, Comparison, Setting

NOTHING = "–"


@dataclass(frozen=True)
class Page:
    """All that the page shows. Nothing in it changes between two calls with the same runs on the same machine."""

    title: str
    command: str
    facts: Mapping[str, str]
    remarks: Sequence[str]
    tables: Sequence[AucTable]
    seeds: Sequence[int]
    aucs: Mapping[Setting, Sequence[float]]  # shares of 1, one a seed
    paper: str | None  # a key of PAPER_AUC; None: without the paper's column
    complexity: Sequence[Sequence[str]]  # Table 6: name, parameters, multiply-adds, FLOPs
    complexity_note: str

    def __str__(self) -> str:
        blocks = [
            f"# {self.title}",
            f"    {self.command}",
            table_text(("", ""), self.facts.items(), "ll"),
            *self.remarks,
        ]
        for table in self.tables:
            blocks += self._auc_table(table)
        blocks += [
            "## Table 6: size and cost",
            table_text(("", "parameters", "multiply-adds", "FLOPs"), self.complexity, "lrrr"),
            self.complexity_note,
        ]
        return "\n\n".join(blocks) + "\n"

    def _auc_table(self, table: AucTable) -> list[str]:
        seeds = [f"seed {seed}" for seed in self.seeds]
        paper = [f"paper, {PAPER_NAMES[self.paper]}"] if self.paper else []
        header = ["scales" if table.number == 3 else "", f"mean, n = {len(seeds)}", "deviation", *seeds, *paper]
        rows = []
        for row in table.rows:
            values = in_percent(self.aucs[row.setting])
            cells = [row.title, f"{fmean(values):.2f}", deviation(values), *(f"{value:.2f}" for value in values)]
            rows.append(cells + ([paper_cell(self.paper, row.setting)] if self.paper else []))
        blocks = [f"## Table {table.number}: {table.title}", table_text(header, rows, "l" + "r" * (len(header) - 1))]
        return blocks if table.comparison is None else [*blocks, self._difference(table.comparison)]

    def _difference(self, comparison: Comparison) -> str:
        """One sentence: the mean of the differences seed by seed, and each of them, in points of AUC."""
        pairs = zip(in_percent(self.aucs[comparison.of]), in_percent(self.aucs[comparison.minus]), strict=True)
        differences = [of - minus for of, minus in pairs]
        each = ", ".join(f"seed {seed} {signed(value)}" for seed, value in zip(self.seeds, differences, strict=True))
        spread = f", standard deviation {deviation(differences)}" if len(differences) > 1 else ""
        return f"{comparison.title}, seed by seed: mean {signed(fmean(differences))} points{spread} ({each})."


def in_percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def deviation(values: Sequence[float]) -> str:
    """The sample standard deviation (ddof = 1), which one value does not have."""
    return f"{stdev(values):.2f}" if len(values) > 1 else NOTHING


def signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: no "-0.00"


def paper_cell(paper: str, setting: Setting) -> str:
    """The paper's figure for the same network and the same scales."""
    printed = PAPER_AUC[paper].get(setting)
    return NOTHING if printed is None else f"{printed:.2f}"


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """A Markdown table; `alignment` has an "l" or an "r" a column."""
    rules = ["---:" if side == "r" else "---" for side in alignment]
    lines = [header, rules, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in lines)
