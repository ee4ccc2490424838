"""The pages in a real browser: no errors, no network; lists, timelines and players do what they say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from ssrl.evaluate.events import find_events
from ssrl.evaluate.metrics import evaluate
from ssrl.evaluate.protocol import VideoScores
from ssrl.evaluate.report.comparison import Comparison
from ssrl.evaluate.report.media import Media
from ssrl.evaluate.report.write import write_report, write_scores
from tests.browser import open_browser, open_page
from tests.media import write_h264
from tests.scores import make_scores

pytestmark = pytest.mark.slow

FPS, LENGTH, FRAMES = 25, 16, 250
MANY = 10_000
QUICK = 2.0  # seconds that opening, sorting or filtering a page of many videos may take
PAUSE = [*range(100), *range(350, 500)]  # in ticks of 1/25 s: ten seconds pass after the first hundred frames
HOSTILE = "</script><img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


def peak_at(start: int, stop: int, count: int = 16) -> np.ndarray:
    """Scores of 0.1, and 0.9 in the snippets [start, stop)."""
    scores = np.full(count, 0.1)
    scores[start:stop] = 0.9
    return scores


def make_videos() -> list[VideoScores]:
    def make(video_id: str, label: int, scores: np.ndarray, anomalies: Any = None, category: str = "") -> VideoScores:
        return make_scores(video_id, label, category, FRAMES, FPS, scores, LENGTH, anomalies)

    paused = make("paused", 1, peak_at(2, 4), ((32, 64),), "Fight")
    return [
        make("hit", 1, peak_at(4, 8), ((64, 128),), "Fight"),
        make("miss", 1, peak_at(0, 0), ((64, 128),), "Robbery"),
        make("alarm 10", 0, peak_at(3, 6)),
        make("alarm 9", 0, peak_at(3, 9)),
        make(f"calm {HOSTILE}", 0, peak_at(0, 0)),
        replace(paused, seconds=np.array(PAUSE) / FPS),
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos; two have players, one of them with a pause, one has a picture."""
    folder = tmp_path_factory.mktemp("report")
    videos = make_videos()
    hit = write_h264(folder / "hit #1.mp4", FRAMES, options={"g": "25"})
    paused = write_h264(folder / "paused.mp4", FRAMES, times=PAUSE, options={"g": "25"})
    Image.new("RGB", (80, 48)).save(folder / "picture.png")
    events = find_events(videos[0])
    media = {
        "hit": Media([folder / "picture.png"], hit, events, [hit] * len(events)),
        "paused": Media(player=paused),
    }
    others = [replace(video, scores=0.5 * video.scores) for video in videos]
    compared = Comparison("this", "the other", evaluate(others), others)
    facts = {"checkpoint": "/a/very/long/path/without/any/space/" + "x" * 60}
    return write_report(
        folder, evaluate(videos), videos, title="A test", facts=facts, metrics={}, media=media, compared=compared
    )


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    with open_page(browser, report) as page:
        yield page


def shown(page: Page) -> list[str]:
    return [name.split(" <")[0] for name in page.locator(".video h3").all_text_contents()]


def time_of(page: Page) -> float:
    """The seconds at which the player is, once it has moved there."""
    page.wait_for_function("(v => v && v.readyState >= 2 && !v.seeking)(document.querySelector('video'))")
    seconds: float = page.evaluate("document.querySelector('video').currentTime")
    return seconds


def playhead(page: Page) -> float:
    """Where the open timeline's playhead is, as a share of its width."""
    box, cursor = (page.locator(f".open {name}").bounding_box() for name in (".box", ".cursor"))
    assert box and cursor
    return (cursor["x"] + cursor["width"] / 2 - box["x"]) / box["width"]


def click_at(page: Page, video: str, share: float) -> None:
    box = page.locator(f".video[data-id='{video}'] .box")
    box.scroll_into_view_if_needed()
    size = box.bounding_box()
    assert size
    box.click(position={"x": share * size["width"], "y": size["height"] / 2})


# The list


def test_the_list_is_sorted_by_label_error_score_and_name(page: Page) -> None:
    assert shown(page) == ["hit", "miss", "paused", "alarm 9", "alarm 10", "calm"]
    page.select_option("#order", "error")  # 50 %, 96 and 48 of 250 frames; the others have none
    assert shown(page) == ["miss", "alarm 9", "alarm 10", "hit", "paused", "calm"]
    page.select_option("#order", "low")
    assert set(shown(page)[:2]) == {"miss", "calm"}
    page.select_option("#order", "change")
    assert set(shown(page)[-2:]) == {"miss", "calm"} and shown(page)[0] == "alarm 9"
    page.select_option("#order", "id")
    assert shown(page) == ["alarm 9", "alarm 10", "calm", "hit", "miss", "paused"]


def test_the_list_is_filtered_by_outcome_class_and_name(page: Page) -> None:
    def choose(name: str) -> list[str]:
        page.locator("#outcomes button", has_text=name).click()
        return shown(page)

    assert choose("Missed") == ["miss"] and choose("Detected") == ["hit", "paused"]
    assert choose("False alarm") == ["alarm 9", "alarm 10"] and choose("Quiet") == ["calm"]
    page.select_option("#kind", "label:abnormal")
    assert shown(page) == [] and page.locator("#nothing").is_visible()
    assert len(choose("All")) == 3
    page.select_option("#kind", "class:Fight")
    assert shown(page) == ["hit", "paused"] and page.locator("#shown").inner_text() == "2 of 6 videos"
    page.fill("#search", "AUS")
    assert shown(page) == ["paused"]


def test_names_are_text(page: Page) -> None:
    assert page.locator(".video h3").last.text_content() == f"calm {HOSTILE}"
    assert page.title() == "A test" and page.locator("img[src=x]").count() == 0


def test_rows_link_to_files_of_the_folder(page: Page, report: Path) -> None:
    for address in page.locator(".video a").evaluate_all("links => links.map(link => link.href)"):
        assert Path(unquote(urlsplit(address).path)).is_relative_to(report.parent)
        assert Path(unquote(urlsplit(address).path)).is_file()
    picture = page.locator(".pictures img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.pictures img').naturalWidth === 80")


# Timelines and players


@pytest.mark.parametrize(("video", "end"), [("hit", FRAMES / FPS), ("paused", (PAUSE[-1] + 1) / FPS)])
def test_a_click_on_a_timeline_moves_the_player_there(page: Page, video: str, end: float) -> None:
    """Over a pause, too: places are the video's own seconds."""
    for share in (0.61, 0.2, 0.9):
        click_at(page, video, share)
        assert time_of(page) == pytest.approx(share * end, abs=LENGTH / FPS / 2)
        assert playhead(page) == pytest.approx(share, abs=0.01)
    assert page.evaluate("document.querySelector('video').videoWidth") == 80  # it decodes


def test_the_playhead_follows_the_player(page: Page) -> None:
    click_at(page, "hit", 0.1)
    time_of(page)
    page.locator("video").evaluate("video => { video.currentTime = 7.5; }")
    page.wait_for_timeout(300)
    assert playhead(page) == pytest.approx(0.75, abs=0.01)


def test_a_timeline_obeys_the_keyboard(page: Page) -> None:
    box = page.locator(".video[data-id=hit] .box")
    box.focus()
    seconds = LENGTH / FPS
    for key, expected in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("Home", 0)):
        box.press(key)
        assert time_of(page) == pytest.approx(expected * seconds, abs=0.05)
        assert box.get_attribute("aria-valuenow") == str(expected * LENGTH)
    assert "frame 0 (0:00) score 0.10, other 0.05" in (box.get_attribute("aria-valuetext") or "")
    box.press(" ")
    page.wait_for_function(
        "!document.querySelector('video').paused && document.querySelector('video').currentTime > .3"
    )
    box.press(" ")
    assert page.evaluate("document.querySelector('video').paused")
    assert playhead(page) == pytest.approx(time_of(page) / (FRAMES / FPS), abs=0.02)
    page.locator("video").press("ArrowRight")  # the player itself obeys, too
    assert time_of(page) % seconds == pytest.approx(0, abs=0.05)


def test_an_event_moves_the_player_and_has_a_clip(page: Page) -> None:
    row = page.locator(".video[data-id=hit]")
    row.locator("summary").click()
    assert row.locator(".events li a").get_attribute("href") == "hit%20%231.mp4"
    row.locator(".events li button").click()
    assert time_of(page) == pytest.approx(64 / FPS, abs=0.05)


def test_a_video_without_a_player_tells_its_scores(page: Page) -> None:
    click_at(page, "miss", 0.5)
    assert page.locator("video").count() == 0
    assert page.locator(".readout:visible").inner_text() == "frame 125 (0:05) score 0.10, other 0.05"
    click_at(page, "paused", 0.4)  # of 20 s
    time_of(page)
    box = page.locator(".video[data-id=miss] .box")
    size = box.bounding_box()
    assert size
    box.hover(position={"x": size["width"] / 5, "y": 40})
    assert page.locator(".video[data-id=miss] .readout").inner_text() == "frame 50 (0:02) score 0.10, other 0.05"


def test_a_pause_is_told(page: Page) -> None:
    box = page.locator(".video[data-id=paused] .box")
    size = box.bounding_box()
    assert size
    box.hover(position={"x": size["width"] * 0.5, "y": 40})  # at 10 s; the pause is from 4 s to 14 s
    assert page.locator(".video[data-id=paused] .readout").inner_text() == "no recording (0:10)"


def test_everything_is_reached_with_the_tab_key(page: Page) -> None:
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or reached[-1] == ""
    assert {"skip", "search", "kind", "order", "box", "play"} <= set(reached)


# Looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper(browser: Browser, report: Path, scheme: Any) -> None:
    with open_page(browser, report, color_scheme=scheme) as page:
        style = "getComputedStyle(document.body)"
        ink, paper = (
            np.array([int(part) for part in page.evaluate(f"{style}.{name}")[4:-1].split(",")]).mean()
            for name in ("color", "backgroundColor")
        )
        assert (ink < 60 and paper > 200) if scheme == "light" else (ink > 200 and paper < 60)


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(browser: Browser, report: Path, width: int) -> None:
    with open_page(browser, report, width) as page:
        for summary in page.locator("summary").all():
            summary.click()
        click_at(page, "hit", 0.5)
        time_of(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for part in page.locator("main > :not(.wide)").all():  # tables scroll in themselves
            assert part.evaluate("part => part.scrollWidth <= Math.max(part.clientWidth, innerWidth)")


def test_without_scripts_the_page_says_where_the_scores_are(browser: Browser, report: Path) -> None:
    with open_page(browser, report, java_script_enabled=False) as page:
        assert "one table each" in page.locator("noscript").inner_text()
        assert page.locator(".histogram").is_visible() and page.locator(".tools").is_hidden()


def test_a_page_of_unlabeled_videos(browser: Browser, tmp_path: Path) -> None:
    videos = [
        make_scores(name, None, "", FRAMES, FPS, scores, LENGTH)
        for name, scores in (("calm", peak_at(0, 0)), ("gate", peak_at(3, 6)))
    ]
    player = write_h264(tmp_path / "gate.mp4", FRAMES, options={"g": "25"})
    index = write_scores(tmp_path, videos, title="Scores", facts={}, media={"gate": Media(player=player)})
    with open_page(browser, index, 360) as page:
        assert shown(page) == ["gate", "calm"]
        page.locator("#outcomes button", has_text="Quiet").click()
        assert shown(page) == ["calm"]
        page.locator("#outcomes button", has_text="With events").click()
        click_at(page, "gate", 0.5)
        assert time_of(page) == pytest.approx(FRAMES / FPS / 2, abs=LENGTH / FPS / 2)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#kind").count() == 0


# Many videos


def test_ten_thousand_videos_open_sort_and_filter_at_once(browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    videos = []
    for index in range(MANY):
        label, anomalies = index % 2, ((100, 300),) if index % 2 else None
        videos.append(make_scores(f"camera/{index:05d}", label, "", 480, FPS, rng.random(30) ** 2, LENGTH, anomalies))
    index_page = write_scores_of_many(tmp_path, videos)
    start = time.perf_counter()
    with open_page(browser, index_page) as page:
        page.wait_for_selector(".video")
        took = {"open": time.perf_counter() - start}
        worst = max(videos, key=lambda video: video.highest_score).id
        for name, action in (
            ("sort", lambda: page.select_option("#order", "high")),
            ("filter", lambda: page.fill("#search", "camera/0777")),
        ):
            start = time.perf_counter()
            action()
            page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")  # it is painted
            took[name] = time.perf_counter() - start
            first = page.locator(".video h3").first.text_content() or ""
            assert first == worst if name == "sort" else first.startswith("camera/0777")
        assert page.locator(".video").count() == 10
        page.fill("#search", "")
        for _ in range(4):  # more are drawn as they come into view
            page.locator(".video").last.scroll_into_view_if_needed()
            page.wait_for_timeout(100)
        assert 60 < page.locator(".video").count() < 1000
    print({name: round(seconds, 2) for name, seconds in took.items()}, f"{index_page.stat().st_size / 1e6:.1f} MB")
    assert max(took.values()) < QUICK


def write_scores_of_many(folder: Path, videos: list[VideoScores]) -> Path:
    """The report without its tables, which take their time to write."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ssrl.evaluate.report.write.format_csv", lambda video: "")
        patched.setattr("ssrl.evaluate.report.write.write_text", write_unsynced)
        return write_report(folder, evaluate(videos), videos, title="Many", facts={}, metrics={})


def write_unsynced(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
