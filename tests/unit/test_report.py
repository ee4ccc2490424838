"""The report as a folder on disk, and the drawings in it, read back by parsers that are not ours."""

import csv
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.patches import StepPatch
from PIL import Image

from ssrl.errors import UserError
from ssrl.evaluate.events import Event, find_events
from ssrl.evaluate.heatmaps import combine_masks, compute_attention_mask, draw_overlay
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.plots import plot_scores
from ssrl.evaluate.protocol import Protocol, VideoScores
from ssrl.evaluate.report import figures, svg
from ssrl.evaluate.report.comparison import Comparison
from ssrl.evaluate.report.distribution import count_scores
from ssrl.evaluate.report.media import Media
from ssrl.evaluate.report.outcomes import Outcome, judge
from ssrl.evaluate.report.write import format_csv, write_report, write_scores
from tests.scores import Intervals, make_scores

VOID = {"meta", "input", "img", "br", "hr", "link"}
HOSTILE = "<script>alert(1)</script>"
Attributes = list[tuple[str, str | None]]


def video(
    video_id: str,
    label: int | None = 1,
    num_frames: int = 40,
    anomalies: Intervals | None = ((16, 30),),
    category: str = "",
    fps: float | None = None,
    seed: int = 0,
) -> VideoScores:
    scores = np.random.default_rng(seed).random(-(-num_frames // 16)).astype(np.float32)
    return make_scores(video_id, label, category, num_frames, fps, scores, 16, anomalies)


class Page(HTMLParser):
    """A strict reading: every tag is closed in order; collects tags, text and what the page refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.links: list[str] = []
        self.rows: list[dict[str, Any]] = []  # what the script is given of each video
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attributes: Attributes) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Attributes) -> None:
        values = {name: value or "" for name, value in attributes}
        self.tags.append((tag, values))
        self.links += [values[name] for name in ("src", "href") if name in values]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data
        elif self.tags[-1] == ("script", {"type": "application/json", "id": "rows"}):
            self.rows = json.loads(data)
            self.links += [row["csv"] for row in self.rows]


def report(tmp_path: Path, videos: list[VideoScores], protocol: Protocol = "true", **more: Any) -> tuple[Path, Page]:
    more = {"title": "A test", "facts": {"Checkpoint": "best.pt"}, "metrics": {}} | more
    index = write_report(tmp_path / "report", evaluate(videos, protocol), videos, **more)
    return index, Page(index.read_text(encoding="utf-8"))


# The folder


def test_the_page_shows_every_video_and_refers_to_files_of_its_folder_alone(tmp_path: Path) -> None:
    videos = [
        video("01_001", 0, anomalies=()),
        video("Abuse/Abuse028 x264", category="Abuse", fps=30.0),
        video("x#1", anomalies=None),
    ]
    index, page = report(tmp_path, videos)
    assert index == tmp_path / "report" / "index.html"
    assert [row["id"] for row in page.rows] == ["Abuse/Abuse028 x264", "x#1", "01_001"]  # abnormal first
    for row in page.rows:
        frames = read_csv(index.parent / "scores" / f"{row['id']}.csv")
        highest = max(float(frame["score"]) for frame in frames)
        assert row["score"] == pytest.approx(highest, abs=1e-6)  # six decimals on the page
    check_links(index, page, 3)
    html = index.read_text()
    assert "http:" not in html and "https:" not in html and "@import" not in html and "url(" not in html
    assert not list(index.parent.rglob("*.partial-*"))


def check_links(index: Path, page: Page, count: int) -> None:
    """Every link of the page is a file of its folder, or a part of the page."""
    files = [link for link in page.links if not link.startswith(("#", "data:,")) and link != "scores/"]
    assert len(files) == count
    for link in files:
        assert (index.parent / unquote(link)).is_file()


def test_the_headline_is_the_auc_in_words(tmp_path: Path) -> None:
    scores = np.array([0.1, 0.9, 0.4], dtype=np.float32)  # anomalous frames 16..29: 14 at 0.9, others lower
    videos = [make_scores("a", 1, "", 40, None, scores, 16, ((16, 32),)), video("n", 0, anomalies=())]
    percent = 100 * (evaluate(videos).auc or 0)
    _, page = report(tmp_path, videos)
    assert f"{percent:.2f}%" in page.text
    text = " ".join(page.text.split())
    assert f"outscores a random normal frame {percent:.1f}% of the time" in text
    assert "2 test videos (1 abnormal), 80 frames with ground truth (16 anomalous)" in text
    assert "true number of frames" in text


def test_reasons_and_warnings_are_shown(tmp_path: Path) -> None:
    unlabeled = [video("a", anomalies=None), video("n", 0, anomalies=(), seed=1)]
    _, page = report(tmp_path / "unlabeled", unlabeled)
    assert "peak score of a random abnormal video" in page.text and "no abnormal video has frame labels" in page.text
    assert "Undefined: no abnormal video has frame labels." in page.text
    _, page = report(tmp_path / "normal", unlabeled[1:])
    assert "The frame-level AUC is undefined: there are no abnormal videos." in page.text
    whole = [video("a", anomalies=((0, 40),), category="Arson"), unlabeled[1]]
    _, page = report(tmp_path / "whole", whole)
    assert "Undefined: all frames are anomalous." in page.text
    _, page = report(tmp_path / "overrun", [video("a", anomalies=((16, 99),)), unlabeled[1]], protocol="released")
    assert "lie beyond the 40 frames" in page.text and "repeating its last frame label" in page.text


def test_what_users_name_is_never_html(tmp_path: Path) -> None:
    videos = [video(f"a/{HOSTILE}", category=HOSTILE, anomalies=((16, 99),)), video("n'\"&", 0, anomalies=())]
    index, page = report(tmp_path, videos, title=HOSTILE, facts={HOSTILE: HOSTILE})
    assert [tag for tag, _ in page.tags].count("script") == 2  # the page's own, and its data
    assert HOSTILE not in index.read_text() and "<script>alert" not in index.read_text()
    assert page.text.count(HOSTILE) >= 4
    assert [row["id"] for row in page.rows] == [f"a/{HOSTILE}", "n'\"&"] and page.rows[0]["class"] == HOSTILE
    check_links(index, page, 2)


def test_videos_without_labels_get_no_metrics_and_no_filter_by_label(tmp_path: Path) -> None:
    unlabeled = [video("low", None, anomalies=None), make_scores("high", None, "", 9, 30.0, np.ones(1), 16)]
    page = Page(write_scores(tmp_path, unlabeled, title="t", facts={}).read_text(encoding="utf-8"))
    assert [row["id"] for row in page.rows] == ["high", "low"]
    assert page.rows[0]["flagged"] == 1.0 and page.rows[0]["error"] is None
    assert page.rows[0]["outcomes"] == ["event"]
    assert "AUC" not in page.text and "ground-truth" not in page.text and "Abnormal" not in page.text
    assert not (tmp_path / "metrics.json").exists()


def test_media_are_linked_by_their_place_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [video("a", fps=8.0), video("n", 0, anomalies=())]
    folder = tmp_path / "report"
    picture, player = folder / "overlays" / "a b#1.png", folder / "players" / "a.mp4"
    for path in (picture, player):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"content")
    media = Media([picture], player, [Event(1, 2, 1, 0.75), Event(2, 3, 2, 0.5)], [player, None])
    index, page = report(tmp_path, videos, media={"a": media})
    row = page.rows[0]
    assert (row["pictures"], row["player"]) == (["overlays/a%20b%231.png"], "players/a.mp4")
    assert row["events"] == [[16, "0:02 to 0:04", 0.75, True, "players/a.mp4"], [32, "0:04 to 0:05", 0.5, False, None]]
    assert page.rows[1]["pictures"] == [] and page.rows[1]["player"] is None
    monkeypatch.chdir(tmp_path)
    relative = Path(os.path.relpath(picture))
    media = Media(pictures=[relative])
    write_report(Path("report"), evaluate(videos), videos, title="t", facts={}, metrics={}, media={"a": media})
    assert "overlays/a%20b%231.png" in index.read_text()

    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(b"content")
    for media in (Media(pictures=[elsewhere]), Media(player=elsewhere)):
        with pytest.raises(UserError, match=r"elsewhere\.png is not a file in the report's folder"):
            report(tmp_path, videos, media={"a": media})
    with pytest.raises(UserError, match="of 'b', which is not among the 2 videos"):
        report(tmp_path, videos, media={"b": Media(pictures=[picture])})


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_metrics_and_scores_can_be_read_back_exactly(tmp_path: Path) -> None:
    videos = [video("a", num_frames=17, anomalies=((15, 17),)), video("n", 0, 33, None), video("u", 1, 16, None)]
    metrics = {**evaluate(videos).to_json(), "checkpoint": "best.pt"}
    index, _ = report(tmp_path, videos, metrics=metrics)
    assert json.loads((index.parent / "metrics.json").read_text()) == metrics
    for one, labels in zip(videos, (["0"] * 15 + ["1"] * 2, ["0"] * 33, [""] * 16), strict=True):
        rows = read_csv(index.parent / "scores" / f"{one.id}.csv")
        assert [int(row["frame"]) for row in rows] == list(range(one.num_frames))
        assert [row["label"] for row in rows] == labels
        assert [np.float32(row["score"]) for row in rows] == [one.scores[i // 16] for i in range(one.num_frames)]


def test_tiny_scores_keep_their_order_in_the_file() -> None:
    scores = np.array([1e-30, 1.1e-30, 0.99999994], dtype=np.float32)
    text = format_csv(make_scores("v", 0, "", 48, None, scores, 16, None))
    assert "e" not in text.removeprefix("frame,score,label,seconds")  # plain decimals
    assert len({line.split(",")[1] for line in text.splitlines()[1:]}) == 3


def test_the_script_finds_all_it_looks_for(tmp_path: Path) -> None:
    """What it asks for by id is there, but for the parts that a page without labels lacks."""
    index, page = report(tmp_path, [video("a"), video("n", 0, anomalies=())])
    present = {attributes.get("id") for _, attributes in page.tags}
    folder = files("ssrl.evaluate.report")
    scripts = [folder.joinpath(name).read_text(encoding="utf-8") for name in ("timeline.js", "script.js")]
    assert all(script in index.read_text(encoding="utf-8") for script in scripts)
    wanted = set(re.findall(r"getElementById\('(\w+)'\)", "".join(scripts)))
    assert len(wanted) > 5 and wanted <= present


def test_a_report_of_a_whole_test_set_stays_small() -> None:
    rng = np.random.default_rng(0)
    videos = []
    for index in range(60):
        scores = rng.random(4000).astype(np.float32)  # noise: the worst case for a picture
        anomalies = ((9, 99),) if index % 2 else ()
        videos.append(make_scores(f"v{index}", index % 2, "", 64_000, 30.0, scores, 16, anomalies))
    strips = sum(len(svg.draw_strip(one)) for one in videos)
    assert strips * 290 / 60 < 5e6  # bytes, of the 10 MB that a page of 290 videos may have


# What is said of each video


def outcome_of(scores: list[float], label: int | None, anomalies: Intervals | None, threshold: float = 0.5) -> Outcome:
    """Of a video of 8 frames a snippet, the last one half."""
    array = np.array(scores, dtype=np.float32)
    one = make_scores("v", label, "", 8 * len(scores) - 4, None, array, 8, anomalies)
    one = replace(one, threshold=threshold)
    return judge(one, find_events(one))


def test_outcomes_by_hand() -> None:
    high, low = 0.9, 0.1
    two = ((0, 16), (40, 48))  # of 60 frames
    hit = outcome_of([high, high, low, low, low, low, low, low], 1, two)
    assert hit.kinds == ("missed",) and hit.are_true == (True,)
    assert hit.error == pytest.approx((0 / 36 + 8 / 24) / 2)
    both = outcome_of([high, high, low, low, low, high, high, low], 1, two)
    assert both.kinds == ("detected",) and both.are_true == (True, True)
    assert both.error == pytest.approx((8 / 36 + 0) / 2)
    beside = outcome_of([low, low, low, high, high, low, low, low], 1, ((0, 16),))
    assert beside.kinds == ("missed", "false-alarm") and beside.error == pytest.approx((16 / 44 + 1) / 2)
    assert outcome_of([low, high, high, low], 0, None) == Outcome(16 / 28, ("false-alarm",), (False,))
    assert outcome_of([low, high, low, low], 0, None) == Outcome(8 / 28, ("quiet",), ())  # too short an event
    assert outcome_of([low, high, high, low], 1, None) == Outcome(None, ("detected",), (None,))
    assert outcome_of([low, low], 1, None).kinds == ("missed",)
    assert outcome_of([low, high, high], None, None).kinds == ("event",)
    assert outcome_of([low, high, high], None, None, threshold=0.95).kinds == ("quiet",)


def test_frames_are_counted_by_score_and_kind() -> None:
    one = make_scores("a", 1, "", 20, None, np.array([0.999, 0.5, 1.0]), 8, ((4, 18),))
    normal = make_scores("n", 0, "", 10, None, np.array([0.0, 0.019]), 8)
    unknown = make_scores("u", 1, "", 10, None, np.array([0.3, 0.3]), 8)
    counts = count_scores([one, normal, unknown])
    expected = {"normal": {49: 4 + 2, 0: 10}, "anomalous": {49: 4 + 2, 25: 8}}
    assert {kind: {int(i): int(count[i]) for i in np.flatnonzero(count)} for kind, count in counts.items()} == expected
    assert list(count_scores([make_scores("new", None, "", 10, None, np.array([0.3, 0.3]), 8)])) == ["all"]


def test_a_histogram_has_the_shares_on_a_log_axis() -> None:
    counts = np.zeros(50, dtype=int)
    counts[[0, 10, 49]] = 9890, 100, 10  # 98.9 %, 1 %, 0.1 %: three decades
    root = ElementTree.fromstring(figures.draw_distribution({"normal": counts}, 0.25))
    bars = next(path.attrib["d"] for path in root.iter("path") if path.get("class") == "bars normal")
    heights = [float(height) for height in re.findall(r"V([\d.]+)H", bars)]
    foot, top = figures.TOP + figures.HIGH, figures.TOP
    assert heights[10] == pytest.approx(foot - figures.HIGH / 3, abs=0.1) and heights[49] == foot
    assert heights[0] == pytest.approx(top, abs=0.5) and set(heights[1:10]) == {foot}
    threshold = next(path.attrib["d"] for path in root.iter("path") if path.get("class") == "threshold")
    assert threshold.startswith(f"M{figures.LEFT + figures.WIDE / 4:.1f} ")


# Two runs


def test_two_runs_are_side_by_side(tmp_path: Path) -> None:
    videos = [video("a"), video("n", 0, anomalies=(), seed=1)]
    others = [replace(one, scores=1 - one.scores) for one in videos]
    compared = Comparison("mine", HOSTILE, evaluate(others), others)
    index, page = report(tmp_path, videos, compared=compared)
    assert HOSTILE not in index.read_text() and HOSTILE in page.text
    for run in (evaluate(videos), evaluate(others)):
        assert f"{100 * (run.auc or 0):.2f}%" in page.text
    auc = evaluate(videos).auc or 0
    assert f"{100 * (2 * auc - 1):+.2f}".replace("-", "−") in page.text  # inverted scores have the AUC 1 - auc
    for one, row in zip(videos, page.rows, strict=True):
        assert row["change"] == pytest.approx(
            sum(abs(2 * float(score) - 1) * frames for score, frames in zip(one.scores, (16, 16, 8), strict=True)) / 40
        )
        root = ElementTree.fromstring(row["strip"])
        paths = {path.get("class"): path.get("d", "") for path in root.iter("path")}
        heights = [[int(height) for height in re.findall(r"V(\d+)H", paths[name])] for name in ("score", "other")]
        assert np.allclose(np.sum(heights, axis=0), 1000, atol=1)


# The drawings on the page


def steps_of(one: VideoScores) -> np.ndarray:
    """Height of a strip at every frame, from its path, as a browser reads it."""
    root = ElementTree.fromstring(svg.draw_strip(one))
    path = next(part for part in root.iter("path") if part.get("class") == "score").attrib["d"]
    heights, frame = np.full(one.num_frames, np.nan), 0
    for height, stop in re.findall(r"V(\d+)H(\d+)", path):
        heights[frame : int(stop)] = 1 - int(height) / 1000
        frame = int(stop)
    assert frame == one.num_frames
    return heights


@pytest.mark.parametrize("num_frames", [1, 16, 17, 400])
def test_a_strip_is_the_score_of_each_frame(num_frames: int) -> None:
    one = video("v", num_frames=num_frames, anomalies=())
    expected = [one.scores[frame // 16] for frame in range(num_frames)]
    assert np.allclose(steps_of(one), expected, atol=0.0005)  # drawn in thousandths


def test_a_long_strip_loses_neither_peak_nor_dip() -> None:
    scores = np.full(5000, 0.5, dtype=np.float32)
    scores[1234], scores[4001] = 1.0, 0.0
    one = make_scores("v", 0, "", 5000 * 16 - 3, None, scores, 16, None)
    drawn = steps_of(one)
    assert drawn.max() == 1.0 and drawn.min() == 0.0
    column = 16 * 5000 / 360  # frames a column
    assert abs(int(drawn.argmax()) - 1234 * 16) <= column
    assert abs(int(drawn.argmin()) - 4001 * 16) <= column
    assert np.count_nonzero(drawn != 0.5) <= 2 * column


def test_a_column_keeps_the_order_of_peak_and_dip() -> None:
    rising = np.resize(np.linspace(0, 1, 12, dtype=np.float32), 4320)  # 360 columns of 12 snippets, each rising
    for scores, first in ((rising, 0.0), (1 - rising, 1.0)):
        starts, shown = svg.merge_steps(make_scores("v", 0, "", 4320 * 16, None, scores, 16, None))
        assert np.array_equal(starts, np.arange(720) * 6 * 16)
        assert shown[::2].tolist() == [first] * 360 and shown[1::2].tolist() == [1 - first] * 360


def test_truth_is_cut_at_the_end_of_the_strip() -> None:
    root = ElementTree.fromstring(svg.draw_strip(video("v", num_frames=40, anomalies=((3, 5), (30, 99)))))
    bands = [(int(band.attrib["x"]), int(band.attrib["width"])) for band in root.iter("rect")]
    assert bands == [(3, 2), (30, 10)]


@pytest.mark.parametrize(
    ("num_frames", "ticks"),
    [(1, [0, 1]), (6, [0, 1, 2, 3, 4, 5, 6]), (7, [0, 2, 4, 6]), (265, [0, 50, 100, 150, 200, 250])],
)
def test_frame_ticks_are_round(num_frames: int, ticks: list[int]) -> None:
    assert svg.place_frame_ticks(num_frames) == ticks


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        (0.4, [0]),
        (11.0, [0, 2, 4, 6, 8, 10]),
        (104, [0, 15, 30, 45, 60, 75, 90]),
        (106, [0, 30, 60, 90]),
        (7300, [0, 1800, 3600, 5400, 7200]),
        (30 * 3600, [0, 5 * 3600, 10 * 3600, 15 * 3600, 20 * 3600, 25 * 3600, 30 * 3600]),
    ],
)
def test_second_ticks_are_those_of_a_clock(seconds: float, ticks: list[int]) -> None:
    assert svg.place_second_ticks(seconds) == ticks


# A figure from Python


def test_a_figure_shows_scores_and_ground_truth(tmp_path: Path) -> None:
    one = video("a/b_$x$", fps=20.0, category="Arson", anomalies=((3, 5), (30, 99)))
    figure = plot_scores(one)
    axes = figure.axes[0]
    values, edges, _ = [patch for patch in axes.patches if isinstance(patch, StepPatch)][-1].get_data()
    assert np.array_equal(values, one.scores) and edges.tolist() == [0, 16, 32, 40]
    bands = [patch.get_extents() for patch in axes.patches[:2]]
    spans = axes.transData.inverted().transform([(band.x0, 0) for band in bands] + [(band.x1, 0) for band in bands])
    assert spans[:, 0].round().tolist() == [3, 30, 5, 40]
    figure.savefig(tmp_path / "scores.png")
    assert np.asarray(Image.open(tmp_path / "scores.png").convert("RGB")).std() > 5  # not blank


# Heatmaps


def test_attention_mask_is_the_stretched_column_sum() -> None:
    attention = np.array(
        [
            [0.1, 0.2, 0.3, 0.4, 0.0, 0.0],
            [0.0, 0.5, 0.1, 0.4, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
            [0.0, 0.1, 0.1, 0.8, 0.0, 0.0],
            [0.5, 0.0, 0.0, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.1, 0.9, 0.0, 0.0],
        ]
    )  # columns sum to 0.6, 0.8, 0.6, 4.0, 0, 0
    expected = np.array([[0.15, 0.2, 0.15], [1.0, 0.0, 0.0]])
    assert np.allclose(compute_attention_mask(attention, 2, 3), expected, atol=1e-6)
    both = compute_attention_mask(np.stack([attention, attention[:, ::-1]]), 2, 3)
    assert np.allclose(both, [expected, expected[::-1, ::-1]], atol=1e-6)
    assert np.allclose(compute_attention_mask(attention - 0.3, 2, 3), expected, atol=1e-6)  # weights may be negative


@pytest.mark.parametrize(("patches", "rows", "cols"), [(1, 1, 1), (28, 4, 7)])
def test_even_attention_points_nowhere(patches: int, rows: int, cols: int) -> None:
    even = torch.softmax(torch.full((patches, patches), 3.0), dim=1).numpy()
    rounding = np.random.default_rng(0).uniform(-1e-7, 1e-7, even.shape).astype(np.float32)
    assert not compute_attention_mask(even + rounding, rows, cols).any()


def test_masks_grow_as_torch_interpolates() -> None:
    rng = np.random.default_rng(0)
    masks = {scale: rng.random(grid).astype(np.float32) for scale, grid in ((2, (2, 3)), (3, (3, 5)), (4, (4, 7)))}
    grown = [
        torch.nn.functional.interpolate(
            torch.from_numpy(mask)[None, None], size=(48, 84), mode="bilinear", align_corners=False
        )[0, 0].numpy()
        for mask in masks.values()
    ]
    mean = np.mean(grown, axis=0)
    combined = combine_masks(masks, 48, 84)
    assert combined.shape == (48, 84)
    assert np.allclose(combined, mean / mean.max(), atol=1e-5)
    assert not combine_masks({2: np.zeros((2, 3), dtype=np.float32)}, 48, 84).any()


def test_an_overlay_heats_where_the_mask_is_and_by_the_score() -> None:
    frame = np.full((240, 420, 3), 90, dtype=np.uint8)
    mask = combine_masks({4: np.eye(28, dtype=np.float32)[17].reshape(4, 7)}, 240, 420)  # row 2, column 3
    high, low = draw_overlay(frame, mask, 0.95), draw_overlay(frame, mask, 0.05)
    change_high, change_low = (np.abs(picture.astype(int) - frame).sum(axis=2) for picture in (high, low))
    assert high.shape == frame.shape and high.dtype == np.uint8
    assert change_high[150, 210] > change_low[150, 210] > 0
    assert change_high[mask == 0][30 * 420 :].sum() == 0  # below the score's plate, cold places stay as they are
    assert not np.array_equal(draw_overlay(frame, mask * 0, 0.95)[:30], frame[:30])  # the plate
    assert np.array_equal(frame, np.full_like(frame, 90))  # the input is left alone


def test_the_score_bar_grows_with_the_score_and_fits_small_frames() -> None:
    frame = np.zeros((240, 420, 3), dtype=np.uint8)
    cold = np.zeros((240, 420), dtype=np.float32)
    drawn = [draw_overlay(frame, cold, score).astype(int) for score in (0.0, 0.25, 0.5, 1.0)]
    lit = [int((image[..., 0] - image[..., 2] > 60).sum()) for image in drawn]
    assert lit[0] == 0 and lit == sorted(set(lit))
    assert draw_overlay(frame[:24, :32], cold[:24, :32], 0.5, "frame 3").shape == (24, 32, 3)


def test_masks_and_frames_that_do_not_fit_are_refused() -> None:
    frame, mask = np.zeros((24, 42, 3), dtype=np.uint8), np.zeros((24, 42), dtype=np.float32)
    with pytest.raises(UserError, match=r"2x3 grid has attention of shape \(\.\.\., 6, 6\)"):
        compute_attention_mask(np.ones((15, 15)), 2, 3)
    with pytest.raises(UserError, match="not finite"):
        compute_attention_mask(np.full((6, 6), np.nan), 2, 3)
    with pytest.raises(UserError, match="no mask"):
        combine_masks({}, 24, 42)
    with pytest.raises(UserError, match="uint8"):
        draw_overlay(frame.astype(np.float32), mask, 0.5)
    with pytest.raises(UserError, match="mask"):
        draw_overlay(frame, mask[:-1], 0.5)
    with pytest.raises(UserError, match=r"0\.\.1"):
        draw_overlay(frame, mask, 1.5)
