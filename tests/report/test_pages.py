"""Pages: the numbers of the comparison, names as text, and how a browser takes them."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_runs import SWEEP, SWEEP_EFFECTS, make_dataset, write_study

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import StudyComparison
from cwjax.config import DataConfig
from cwjax.report import tables, words
from cwjax.report.markdown import escape, markdown_table
from cwjax.report.pages import side_by_side
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import RunKey
from cwjax.study.derive import compare, derive

SCRIPT = "<script>alert(1)</script>"
ARMS = {"uniform": 0.0, "balanced": 0.9, "focal": 0.05}


class Page(HTMLParser):
    """Headings, tables, links and ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._caption = ""
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th", "caption"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "caption") and self._cell is not None:
            text = "".join(self._cell).strip()
            if tag == "caption":
                self._caption = text
            else:
                self._rows[-1].append(text)
            self._cell = None
        if tag == "table":
            self.tables[self._caption] = self._rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("results") / "study"
    dataset = make_dataset((SCRIPT, "b & c", "é"), name=SCRIPT)
    write_study(directory, ARMS, dataset=dataset, null_control=True, bad_runs=[("focal", 2)])
    derive(StudyDirectory(directory))
    return directory


@pytest.fixture(scope="module")
def page(directory: Path) -> Page:
    return Page((directory / "report.html").read_text())


@pytest.fixture(scope="module")
def comparison(directory: Path) -> StudyComparison:
    return compare(StudyDirectory(directory))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells; in the first a run failed."""
    directory = tmp_path_factory.mktemp("results") / "sweep"
    failed = RunKey(SWEEP[0].name(), "focal", 3)
    write_study(directory, SWEEP_EFFECTS[:2], 9, data=SWEEP[:2], failures={failed: "<no> memory"})
    derive(StudyDirectory(directory))
    return directory


def test_steps_of_every_stage_and_which_are_too_few(tmp_path: Path) -> None:
    write_study(tmp_path / "out", {"uniform": 0.0, "crt": 0.5, "posthoc_logit_adjusted": 0.1}, 6)
    derive(StudyDirectory(tmp_path / "out"))
    text = (tmp_path / "out" / "report.html").read_text()
    (steps,) = (rows for caption, rows in Page(text).tables.items() if "steps of each" in caption)
    assert steps[1:] == [["uniform", "60", "60"], ["crt", "40, then 20", "60"]]
    assert "last stage of crt (20 steps) is shorter than 500 steps" in text


def test_every_number_comes_from_the_comparison_and_the_scores(
    directory: Path, page: Page, comparison: StudyComparison
) -> None:
    title = "Difference from uniform in balanced accuracy, percentage points"
    shown = {row[0]: row for row in page.tables[title][1:]}
    for entry in comparison.comparisons:
        row = shown[entry.pairing.treatment]
        if entry.estimates is None:
            assert (row[1], set(row[2:-1]), row[-1]) == ("refused", {"–"}, "0")
            continue
        interval = entry.judged.interval
        assert row[2] == f"{100 * entry.estimates.difference:+.2f}"
        assert row[3] == f"{100 * interval.ci_low:+.2f} to {100 * interval.ci_high:+.2f}"
        assert row[5] == f"{entry.judged.p:.2g}"
        assert row[-1] == str(len(entry.seeds))
    scores = pd.read_parquet(directory / "scores.parquet")
    raw = next(rows for name, rows in page.tables.items() if name.startswith("Scores of every run"))
    assert len(raw) - 1 == len(scores)
    for row, (_, run) in zip(raw[1:], scores.iterrows(), strict=True):
        assert row[:3] == [run["arm"], str(run["seed"]), run["status"]]
        for text, (name, metric) in zip(row[3:], METRICS.items(), strict=True):
            assert text == (words.score(metric, run[name]) if np.isfinite(run[name]) else "–")


def test_classes_are_those_of_the_stored_table(directory: Path, page: Page) -> None:
    stored = pd.read_parquet(directory / "class_scores.parquet")
    table = page.tables["Recall of each class, in percent, mean ± standard deviation over seeds"]
    assert table[0][3:] == ["uniform", "balanced", "focal", "null_control"]
    for row in table[1:]:
        runs = stored[(stored.class_name == row[0]) & (stored.arm == "uniform")]
        assert row[1:3] == [str(runs.n_train.iloc[0]), str(runs.n_test.iloc[0])]
        assert row[3] == f"{100 * runs.recall.mean():.1f} ± {100 * runs.recall.std():.1f}"


@pytest.mark.fault(51)
def test_the_verdict_is_the_first_heading_and_bad_runs_are_named(
    directory: Path, comparison: StudyComparison
) -> None:
    text = (directory / "report.html").read_text()
    first = re.search(r"<h1>(.*?)</h1>", text)
    assert first
    assert html.unescape(first[1]) == words.headline(comparison)
    assert "focal seed 2 (diverged)" in text


@pytest.mark.fault(63)
def test_names_come_out_as_text_everywhere(directory: Path, page: Page) -> None:
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert any(SCRIPT in row[0] for rows in page.tables.values() for row in rows if row)
    markdown = (directory / "report.md").read_text()
    assert SCRIPT not in markdown
    assert escape(SCRIPT) in markdown
    for figure in (directory / "figures").iterdir():
        assert "<script" not in figure.read_text()


@pytest.mark.fault(63)
def test_markdown_tables_hold_whatever_a_name_holds() -> None:
    table = tables.Table("", ("arm", "x"), (("a|b\n*c*", "`d` <b>"),))
    assert markdown_table(table).splitlines()[2] == r"| a\|b \*c\* | \`d\` \<b\> |"


def test_one_file_without_addresses_and_with_everything_to_do_it_again(
    directory: Path, page: Page
) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), tag
    text = (directory / "report.html").read_text()
    assert str(directory) not in text
    study = StudyDirectory(directory).known_study()
    assert all(cell.dataset.fingerprint in text for cell in study.cells.values())
    command = "cwjax compare --num-epochs 3 --arms uniform balanced focal --num-seeds 8"
    assert f"{command} --null-control --out results/again" in text


def test_structure_that_readers_rely_on(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 8
    assert all(attributes["alt"] for attributes in images)
    assert all(a.get("scope") in ("row", "col") for tag, a in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for tag, a in page.tags if tag == "a"}
    assert targets <= {f"#{each}" for each in ids}
    assert dict(page.tags)["html"]["lang"] == "en"


def test_colours_have_enough_contrast(directory: Path) -> None:
    style = (directory / "report.html").read_text()
    blocks = re.findall(r":root \{([^}]*--page[^}]*)\}", style)
    assert len(blocks) == 2
    for block in blocks:
        colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name in ("ink", "muted", "good", "bad", "link"):
            assert contrast(colors[name], colors["page"]) >= 4.5, name


def contrast(first: str, second: str) -> float:
    """WCAG 2: ratio of relative luminances."""

    def luminance(color: str) -> float:
        channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def test_the_colleagues_questions_are_answered_where_they_stand(
    page: Page, directory: Path
) -> None:
    text = html.unescape((directory / "report.html").read_text())
    opening = text[: text.index("<nav")]
    for answer in (
        "An arm is one way to train",
        "P(better): the share of seeds on which the arm wins; ties count half",
        "Which row to use? One whose verdict is better.",
        "Why two 95% intervals? The first allows for other seeds",
    ):
        assert answer in opening


def test_badges_claim_no_equality(directory: Path) -> None:
    badges = re.findall(
        r'<span class="badge [^>]*>([^<]*)', (directory / "report.html").read_text()
    )
    assert "no detectable difference" in badges
    assert "▲ better" in badges
    assert not any("=" in badge or "≈" in badge for badge in badges)


def test_the_same_results_give_the_same_bytes(directory: Path, sweep: Path, tmp_path: Path) -> None:
    for source in (directory, sweep):
        other = tmp_path / source.name
        ours = shutil.ignore_patterns("*.html", "*.md", "*.svg", "comparison.json")
        shutil.copytree(source, other, ignore=ours)
        (other / "comparison.json").write_text("believe me")  # it is only ever written
        derive(StudyDirectory(other))
        names = [p.relative_to(source) for p in source.rglob("*.*") if p.is_file()]
        assert {name.suffix for name in names} >= {".html", ".md", ".svg", ".json"}
        for name in names:
            assert (other / name).read_bytes() == (source / name).read_bytes(), name


@pytest.mark.slow
def test_twelve_arms_and_twenty_seeds_stay_below_three_megabytes(tmp_path: Path) -> None:
    names = ["uniform", "balanced", "effective_number", "focal", "logit_adjusted", "ldam", "mixup"]
    names += ["balanced_softmax", "label_smoothing", "class_balanced_sampling", "remix", "crt"]
    effects = dict(zip(names, np.linspace(0, 0.9, 12), strict=True))
    dataset = make_dataset([f"class {i}" for i in range(10)], image_shape=(28, 28, 1))
    write_study(tmp_path / "big", effects, 20, dataset=dataset, num_epochs=40)
    derive(StudyDirectory(tmp_path / "big"))
    assert (tmp_path / "big" / "report.html").stat().st_size < 3_000_000


def test_one_arm_alone_and_one_seed_alone(make_directory: Callable[..., Path]) -> None:
    alone = (make_directory({"uniform": 0.0}, 2) / "report.html").read_text()
    assert "there is nothing to compare it with" in alone
    once = (make_directory({"uniform": 0.0, "balanced": 0.9}, 1) / "report.html").read_text()
    assert "No verdict yet: 6 seeds needed, 1 run" in once


@pytest.mark.fault(52)
def test_all_runs_diverged(make_directory: Callable[..., Path]) -> None:
    bad = [(arm, seed) for arm in ("uniform", "balanced") for seed in range(2)]
    directory = make_directory({"uniform": 0.0, "balanced": 0.9}, 2, bad_runs=bad)
    assert "No verdict: refused" in (directory / "report.html").read_text()


def test_chosen_settings_are_shown(make_directory: Callable[..., Path]) -> None:
    directory = make_directory({"uniform": 0.0, "posthoc_logit_adjusted": 0.5}, 4)
    shown = Page((directory / "report.html").read_text())
    rows = shown.tables["Settings that each run chose on its validation examples"]
    assert rows[1:] == [["posthoc_logit_adjusted", "tau", "0.5 in 2 seeds, 0.75 in 1, 1 in 1"]]
    text = (directory / "report.html").read_text()
    assert "not trained: posthoc_logit_adjusted." in html.unescape(text)
    assert "0.5 in 2 seeds, 0.75 in 1, 1 in 1" in (directory / "report.md").read_text()


@pytest.mark.fault(63)
def test_control_and_bidirectional_characters_are_shown_as_escapes(
    make_directory: Callable[..., Path],
) -> None:
    names = ("bell\x07\x1b[31m", "ot\u202eher", "家 \U0001f600")
    directory = make_directory({"uniform": 0.0, "balanced": 0.9}, 2, dataset=make_dataset(names))
    for file in (directory / "report.html", directory / "report.md"):
        text = file.read_text()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert "家 \U0001f600" in text
        assert r"bell\x07\x1b" in text.replace("\\\\", "\\")


def test_the_overview_shows_every_cell_and_the_cells_have_pages(sweep: Path) -> None:
    comparison = compare(StudyDirectory(sweep))
    text = (sweep / "report.html").read_text()
    overview, markdown = Page(text), (sweep / "report.md").read_text()
    caption = "Difference from uniform in balanced accuracy, percentage points"
    assert len(overview.tables[caption]) == 1 + 4
    for entry in comparison.comparisons:
        if entry.estimates is not None:
            printed = f"{100 * entry.estimates.difference:+.2f}"
            assert printed in text
            assert printed in markdown
    assert text.count("<img ") == 2  # a heat map per arm
    assert sorted(path.name for path in (sweep / "figures").iterdir()) == [
        "heat_map_0.svg", "heat_map_1.svg"
    ]  # fmt: skip
    assert "The 4 comparisons are one family" in text
    assert "change per doubling" in text
    assert overview.tables["Runs that failed"][1] == [
        "mnist5k, long-tailed, imbalance factor 4", "focal seed 3", "<no> memory"
    ]  # fmt: skip
    links = [a["href"] for tag, a in overview.tags if tag == "a" and not a["href"].startswith("#")]
    assert links == [f"cells/{data.name()}/report.html" for data in SWEEP[:2]]
    for data, link in zip(SWEEP[:2], links, strict=True):
        cell = Page((sweep / link).read_text())
        back = [a["href"] for tag, a in cell.tags if tag == "a" and not a["href"].startswith("#")]
        assert back == ["../../report.html"]
        assert len(cell.tables[caption]) == 1 + 2
        assert (sweep / "cells" / data.name() / "report.md").is_file()
        assert (sweep / "cells" / data.name() / "figures" / "differences.svg").is_file()


def test_a_cell_without_a_single_run_has_no_page_and_no_link(tmp_path: Path) -> None:
    lost = SWEEP[1].name()
    failures = {RunKey(lost, arm, 0): "no memory" for arm in ("uniform", "balanced")}
    effects = [{"uniform": 0.0, "balanced": 0.5}] * 2
    write_study(tmp_path / "sweep", effects, 1, data=SWEEP[:2], failures=failures)
    derive(StudyDirectory(tmp_path / "sweep"))
    assert not (tmp_path / "sweep" / "cells" / lost).exists()
    assert f"cells/{lost}/" not in (tmp_path / "sweep" / "report.html").read_text()


def test_studies_stand_side_by_side(tmp_path: Path) -> None:
    studies = []
    for name, factor in (("one", 50.0), ("two", 10.0)):
        effects = {"uniform": 0.0, "balanced": 0.9}
        data = DataConfig(imbalance_factor=factor)
        study = write_study(tmp_path / name, effects, 6, data=data)
        studies.append((study, compare(StudyDirectory(tmp_path / name))))
    text = side_by_side(studies)
    shown = Page(text)
    assert "A: toy, long-tailed, imbalance factor 50" in text
    assert "B: toy, long-tailed, imbalance factor 10" in text
    assert text.count("<img") == 2
    assert shown.tables["Settings that differ"] == [
        ["setting", "A", "B"], ["imbalance_factor", "50.0", "10.0"]
    ]  # fmt: skip
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium and chromedriver: apt-get install chromium chromium-driver")
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield opened
    opened.quit()


def open_page(browser: Any, path: Path, scheme: str = "light") -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(path.as_uri())


def test_a_browser_finds_nothing_to_complain_of_and_asks_for_nothing(
    browser: Any, directory: Path
) -> None:
    open_page(browser, directory / "report.html")
    assert browser.get_log("browser") == []
    messages = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    requested = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    outside = [url for url in requested if not url.startswith(("data:", "file:", "chrome:"))]
    assert outside == []
    assert [url for url in requested if url.startswith("file:")] == [
        (directory / "report.html").as_uri()
    ]
    broken = "return [...document.images].filter(i => !i.complete || i.naturalWidth < 100).length"
    assert browser.execute_script(broken) == 0


def test_the_verdict_is_seen_without_scrolling(browser: Any, directory: Path) -> None:
    open_page(browser, directory / "report.html")
    for selector in ("h1", "main table"):
        box = f"return document.querySelector('{selector}').getBoundingClientRect().toJSON()"
        bounds = browser.execute_script(box)
        assert bounds["top"] >= 0
        assert bounds["bottom"] <= 800, selector
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1280


def test_pages_and_figures_turn_dark(browser: Any, directory: Path) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        open_page(browser, directory / "report.html", scheme)
        image = browser.find_element("css selector", "main img").screenshot_as_png
        brightness[scheme] = np.mean(read_png(image)), np.max(read_png(image))
    assert brightness["light"][0] > 200
    assert brightness["dark"][0] < 60
    assert brightness["dark"][1] > 200  # the ink is light then


def read_png(content: bytes) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(content)).convert("L"))
