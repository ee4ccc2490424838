"""The paper's tables: which runs give which rows, who trains them, and what the page says."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from ssrl.commands import tables
from ssrl.config import StoreConfig
from ssrl.datasets.video import Split
from ssrl.errors import UserError
from ssrl.extract.flops import count_encoder_complexity
from ssrl.geometry import Geometry
from ssrl.model.flops import Complexity, measure_network
from ssrl.model.recipes import ablate, paper_model
from ssrl.paper_tables.cost import format_count
from ssrl.paper_tables.markdown import Page, with_sign
from ssrl.paper_tables.page import make_table_6
from ssrl.paper_tables.request import COMMAND, TablesRequest
from ssrl.paper_tables.rows import (
    PAPER_AUC,
    WHOLE,
    Setting,
    check_scales,
    list_omitted,
    list_settings,
    make_tables,
    plan_runs,
)
from ssrl.paper_tables.runs import open_runs
from ssrl.store.layout import VideoRecord
from ssrl.store.reader import Store
from ssrl.store.writer import StoreWriter
from tests.stores import CONFIG, D, planted_features, write_store

pytestmark = pytest.mark.slow

STEPS = 2
FULL = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("features") / "planted")


@pytest.fixture(scope="module")
def shared(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of all runs of all rows, at one seed, trained by two processes, and what they said."""
    folder = tmp_path_factory.mktemp("tables")
    outcome = make(store, folder, "--paper", "ucf-crime", "--jobs", "2")
    assert outcome.exit_code == 0, outcome.output
    return folder, outcome


@pytest.fixture(scope="module")
def whole(shared: tuple[Path, Result]) -> Path:
    return shared[0]


def make(store: Store, folder: Path, *more: str) -> Result:
    given = ["--features", str(store.root), "--out", str(folder), "--steps", str(STEPS), "--seeds", "0"]
    return CliRunner().invoke(tables.main, [*given, "--recipe", "paper", "--device", "cpu", *more])


def trained_steps(folder: Path) -> dict[str, int]:
    """Run → the steps in its log."""
    return {
        log.parent.name: sum('"total"' in line for line in log.read_text().splitlines())
        for log in sorted((folder / "runs").glob("*/log.jsonl"))
    }


def rows_of(page: str, number: int) -> dict[str, list[str]]:
    """First cell → the others, of one table."""
    part = page.split(f"## Table {number}:")[1].split("\n## ")[0]
    lines = [line.removeprefix("|").removesuffix("|").split(" | ") for line in part.splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line] for line in lines]
    return {first: rest for first, *rest in cells if first != "---"}


def test_eight_runs_give_all_rows() -> None:
    rows = list_settings(make_tables(FULL))
    runs = plan_runs(rows)
    plain = {run.scales for run in runs if run.variant == "plain"}
    assert plain == {(1, 2, 3, 4), (1, 3, 4), (1, 2, 4), (1, 4)}
    assert {run.variant for run in runs if run.scales == FULL} == {
        "plain",
        "shared",
        "no-psr",
        "no-dilated",
        "no-non-local",
    }
    assert len(runs) == 8
    assert all(any(run.covers(row) for run in runs) for row in rows)


def test_no_run_is_without_a_row_of_its_own() -> None:
    runs = plan_runs(list_settings(make_tables(FULL)))
    assert not any(run.covers(other) for run in runs for other in runs if run != other)


def test_table_3_has_every_subset_with_scale_1() -> None:
    table = next(table for table in make_tables(FULL) if table.number == 3)
    subsets = {(1, *rest) for size in range(4) for rest in combinations((2, 3, 4), size)}
    assert {row.setting.scales for row in table.rows} == subsets and len(table.rows) == 8


def test_every_row_at_all_scales_has_the_papers_figures() -> None:
    for figures in PAPER_AUC.values():
        assert set(figures) == set(list_settings(make_tables(FULL)))
    assert PAPER_AUC["ucf-crime"][Setting("plain", (1, 2, 4))] == 86.97
    assert PAPER_AUC["shanghaitech"][Setting("plain", (1, 2, 4))] == 97.71


def test_rows_that_need_other_scales_are_left_out() -> None:
    assert list_omitted(FULL) == ()
    assert list_omitted((1, 2, 3)) == ((1, 4), (1, 3, 4), (1, 2, 4), FULL)
    runs = plan_runs(list_settings(make_tables((1, 2, 3))))
    assert {run.scales for run in runs} == {(1, 2, 3), (1, 3)} and len(runs) == 6


@pytest.mark.parametrize("scales", [(1,), (2, 3), (1, 5)])
def test_scales_that_make_no_tables_are_refused(scales: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="--scales"):
        check_scales(scales)
    assert check_scales((3, 1)) == (1, 3)


def test_means_and_deviations_by_hand() -> None:
    aucs = {setting: [0.80, 0.84, 0.91] for setting in list_settings(make_tables(FULL))}
    aucs[WHOLE] = [0.78, 0.85, 0.80]
    page = str(
        Page("title", "command", {"seeds": "0, 1, 7"}, [], make_tables(FULL), (0, 1, 7), aucs, "shanghaitech", [], "")
    )
    rows = rows_of(page, 3)
    # 80, 84, 91: mean 85, squares 25 + 1 + 36 = 62, over two: 31, whose root is 5.568
    assert rows["1, 2, 3, 4"] == ["85.00", "5.57", "80.00", "84.00", "91.00", "97.98"]
    assert rows["scales"] == ["mean, n = 3", "deviation", "seed 0", "seed 1", "seed 7", "paper, ShanghaiTech"]
    # 2, -1, 11: mean 4, squares 4 + 25 + 49 = 78, over two: 39, whose root is 6.245
    difference = "mean +4.00 points, standard deviation 6.24 (seed 0 +2.00, seed 1 -1.00, seed 7 +11.00)."
    assert f"All scales minus the whole frame alone, seed by seed: {difference}" in page
    assert with_sign(-0.001) == "+0.00"


def test_every_row_is_filled(whole: Path) -> None:
    page = (whole / "tables.md").read_text()
    for table in make_tables(FULL):
        rows = rows_of(page, table.number)
        for title in (row.title for row in table.rows):
            mean, deviation, seed, paper = rows[title]
            assert mean == seed and 0 <= float(mean) <= 100 and deviation == "–" and float(paper) > 80
    assert rows_of(page, 3)["scales"][-1] == "paper, UCF-Crime" and "Omitted" not in page
    assert "| test videos | 8 (4 abnormal), 1,112 frames (192 anomalous) |" in page


def test_the_first_stage_of_plain_runs_is_the_same(store: Store, whole: Path) -> None:
    """The rows of a prefix may be taken from any run that has it."""
    runs = open_runs(TablesRequest(store.root, whole, "paper", seeds=(0,), scales=FULL, steps=STEPS, device="cpu"))
    finished = [runs.open_trainer(job).find_finished() for job in runs.jobs]
    assert len({run.stages[0].last_test_auc for run in finished if run}) == 1 and None not in finished


def test_what_is_finished_is_not_done_again(store: Store, whole: Path) -> None:
    before, page = trained_steps(whole), (whole / "tables.md").read_bytes()
    outcome = make(store, whole, "--paper", "ucf-crime")
    assert outcome.exit_code == 0 and "run " not in outcome.stderr
    assert trained_steps(whole) == before and (whole / "tables.md").read_bytes() == page


def test_runs_of_other_settings_are_refused(store: Store, whole: Path) -> None:
    outcome = make(store, whole, "--recipe", "small")
    assert outcome.exit_code == 1 and "other settings" in outcome.stderr


def test_two_processes_share_the_runs_and_do_none_twice(shared: tuple[Path, Result]) -> None:
    folder, _ = shared
    done = trained_steps(folder)
    scales = [len(name.split("-seed")[0].rsplit("-", 1)[1]) for name in done]
    assert len(done) == 8 and list(done.values()) == [STEPS * count for count in scales]


def test_a_run_that_another_is_at_is_left_to_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with FileLock(tmp_path / "runs" / "no-psr-12-seed0.lock"):
        outcome = make(store, tmp_path, "--scales", "1,2")
    assert outcome.exit_code == 0 and "1 of 5 runs are being trained by other processes" in outcome.stderr
    assert not (tmp_path / "tables.md").exists() and "no-psr-12-seed0" not in trained_steps(tmp_path)
    assert make(store, tmp_path, "--scales", "1,2").exit_code == 0
    page = (tmp_path / "tables.md").read_text()
    assert "for lack of scales: 1, 3; 1, 4; 1, 2, 3; 1, 3, 4; 1, 2, 4; 1, 2, 3, 4." in page and "paper, UCF" not in page
    assert list(rows_of(page, 3)) == ["scales", "1", "1, 2"]


def test_table_6_is_what_is_counted(whole: Path) -> None:
    rows = rows_of((whole / "tables.md").read_text(), 6)
    grids = {grid.scale: (grid.rows, grid.cols) for grid in CONFIG.geometry.grids}
    full = paper_model(D, FULL, grids)
    assert rows["baseline: scale 1 alone"] == cells(measure_network(full.with_scales((1,))))
    assert rows["SSRL"] == cells(measure_network(full))
    assert rows["SSRL, PSR shared"] == cells(measure_network(ablate(full, share_psr=True)))
    assert rows["encoder test"] == ["unknown"] * 3
    assert rows["paper: SSRL, PSR shared (I3D)"] == ["136M", "", "214.6G"]


def test_table_6_counts_crops_and_the_encoder() -> None:
    config = StoreConfig("any", "micro3d", "embedded", "0" * 64, 256, num_crops=10)
    rows = {name: list(counts) for name, *counts in make_table_6("paper", FULL, config)}
    assert rows["SSRL"] == cells(measure_network(paper_model(256, FULL), 32, 10))
    found = count_encoder_complexity("micro3d", Geometry(), FULL)
    assert rows["encoder micro3d, 32 snippets"] == cells(Complexity(found.parameters, 32 * found.macs))


def cells(found: Complexity) -> list[str]:
    return [f"{found.parameters:,}", format_count(found.macs), format_count(found.flops)]


def test_a_store_without_frame_labels_is_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "bare", CONFIG)
    splits: tuple[Split, ...] = ("train", "train", "test")
    for index, split in enumerate(splits):
        with writer.video(f"v{index}") as file:
            file.append(planted_features(np.random.default_rng(index), 144, 0, 0))
            file.finish(VideoRecord(f"v{index}", 144, index % 2, split))
    outcome = make(Store(tmp_path / "bare"), tmp_path / "tables")
    assert outcome.exit_code == 1
    assert "1 of the 1 test videos" in outcome.stderr and "--frame-labels" in outcome.stderr


def test_the_command_on_the_page_is_the_request(store: Store, whole: Path) -> None:
    page = (whole / "tables.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("    python -m"))
    given = f"--features {store.root} --out {whole} --recipe paper --seeds 0 --scales 1,2,3,4 --steps 2"
    assert line.strip() == f"{COMMAND} {given} --device cpu --paper ucf-crime"


@pytest.mark.parametrize(("option", "value"), [("--seeds", "0,0"), ("--seeds", "a"), ("--scales", "1,")])
def test_lists_that_are_none_are_refused(store: Store, tmp_path: Path, option: str, value: str) -> None:
    assert make(store, tmp_path, option, value).exit_code == 2
