"""The page of tables as Markdown: means and deviations over seeds, optionally beside the paper's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ssrl.paper_tables.rows import PAPER_AUC, PAPER_NAMES, AucTable, Comparison, Setting

NOTHING = "–"


@dataclass(frozen=True)
class Page:
    """The content of the page, the same for the same runs on the same machine."""

    title: str
    command: str
    facts: Mapping[str, str]
    remarks: Sequence[str]
    tables: Sequence[AucTable]
    seeds: Sequence[int]
    aucs: Mapping[Setting, Sequence[float]]  # fractions, one per seed
    paper: str | None  # a key of PAPER_AUC; None: without the paper's column
    complexity: Sequence[Sequence[str]]  # Table 6: name, parameters, multiply-adds, FLOPs
    complexity_note: str

    def __str__(self) -> str:
        blocks = [
            f"# {self.title}",
            f"    {self.command}",
            format_table(("", ""), self.facts.items(), "ll"),
            *self.remarks,
        ]
        for table in self.tables:
            blocks += self._format_auc_table(table)
        blocks += [
            "## Table 6: size and cost",
            format_table(("", "parameters", "multiply-adds", "FLOPs"), self.complexity, "lrrr"),
            self.complexity_note,
        ]
        return "\n\n".join(blocks) + "\n"

    def _format_auc_table(self, table: AucTable) -> list[str]:
        seeds = [f"seed {seed}" for seed in self.seeds]
        paper = [f"paper, {PAPER_NAMES[self.paper]}"] if self.paper else []
        header = ["scales" if table.number == 3 else "", f"mean, n = {len(seeds)}", "deviation", *seeds, *paper]
        rows = []
        for row in table.rows:
            values = to_percent(self.aucs[row.setting])
            cells = [row.title, f"{fmean(values):.2f}", format_deviation(values), *(f"{value:.2f}" for value in values)]
            rows.append(cells + ([format_paper_auc(self.paper, row.setting)] if self.paper else []))
        blocks = [f"## Table {table.number}: {table.title}", format_table(header, rows, "l" + "r" * (len(header) - 1))]
        return blocks if table.comparison is None else [*blocks, self._format_comparison(table.comparison)]

    def _format_comparison(self, comparison: Comparison) -> str:
        """One sentence: the mean difference over seeds, and the difference per seed, in points of AUC."""
        pairs = zip(to_percent(self.aucs[comparison.of]), to_percent(self.aucs[comparison.minus]), strict=True)
        differences = [of - minus for of, minus in pairs]
        each = ", ".join(f"seed {seed} {with_sign(value)}" for seed, value in zip(self.seeds, differences, strict=True))
        spread = f", standard deviation {format_deviation(differences)}" if len(differences) > 1 else ""
        return f"{comparison.title}, seed by seed: mean {with_sign(fmean(differences))} points{spread} ({each})."


def to_percent(fractions: Sequence[float]) -> list[float]:
    return [100 * fraction for fraction in fractions]


def format_deviation(values: Sequence[float]) -> str:
    """The sample standard deviation (ddof = 1), undefined for one value."""
    return f"{stdev(values):.2f}" if len(values) > 1 else NOTHING


def with_sign(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: no "-0.00"


def format_paper_auc(paper: str, setting: Setting) -> str:
    """The paper's AUC for the same network and scales."""
    printed = PAPER_AUC[paper].get(setting)
    return NOTHING if printed is None else f"{printed:.2f}"


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """Format a Markdown table; `alignment` has one "l" or "r" per column."""
    rules = ["---:" if side == "r" else "---" for side in alignment]
    lines = [header, rules, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in lines)
