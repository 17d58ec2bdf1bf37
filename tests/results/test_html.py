"""The page: the numbers of the comparison, names as text, and how a browser takes it."""

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
from cwjax.results.derive import derive
from cwjax.results.report import escape, markdown_table
from cwjax.results.store import Store
from cwjax.results.summary import headline
from drawn_runs import make_dataset, write_runs

from cwjax.analysis.metrics import METRICS

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
    directory = tmp_path_factory.mktemp("results") / "experiment"
    dataset = make_dataset((SCRIPT, "b & c", "é"), name=SCRIPT)
    write_runs(directory, ARMS, dataset=dataset, null_control=True, bad_runs=[("focal", 2)])
    derive(Store(directory))
    return directory


@pytest.fixture(scope="module")
def page(directory: Path) -> Page:
    return Page((directory / "report.html").read_text())


@pytest.fixture(scope="module")
def comparison(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "comparison.json").read_text())


def test_every_number_comes_from_the_comparison_and_the_scores(
    directory: Path, page: Page, comparison: dict[str, Any]
) -> None:
    title = "Difference from uniform in balanced accuracy, percentage points"
    shown = {row[0]: row for row in page.tables[title][1:]}
    for entry in comparison["comparisons"]:
        row = shown[entry["treatment"]]
        if entry["estimates"] is None:
            assert row[1:] == ["refused", "–", "–", "–", "–", "–", "0"]
            continue
        interval = entry["estimates"]["seed_interval"]
        assert row[2] == f"{100 * entry['estimates']['difference']:+.2f}"
        assert row[3] == f"{100 * interval['ci_low']:+.2f} to {100 * interval['ci_high']:+.2f}"
        assert row[4] == f"{entry['evidence']['p_holm']:.2g}"
        assert row[7] == str(len(entry["seeds"]))
    scores = pd.read_parquet(directory / "scores.parquet")
    raw = page.tables["Scores of every run; percent, but for the loss"]
    assert len(raw) - 1 == len(scores)
    for row, (_, run) in zip(raw[1:], scores.iterrows(), strict=True):
        assert row[:3] == [run["arm"], str(run["seed"]), run["status"]]
        for text, (name, metric) in zip(row[3:], METRICS.items(), strict=True):
            assert text == (metric.format(run[name]) if np.isfinite(run[name]) else "–")


def test_classes_are_those_of_the_stored_table(directory: Path, page: Page) -> None:
    stored = pd.read_parquet(directory / "class_scores.parquet")
    table = page.tables["Recall of each class, percent, mean ± standard deviation over seeds"]
    assert table[0][3:] == ["uniform", "balanced", "focal", "null_control"]
    for row in table[1:]:
        runs = stored[(stored.class_name == row[0]) & (stored.arm == "uniform")]
        assert row[1:3] == [str(runs.n_train.iloc[0]), str(runs.n_test.iloc[0])]
        assert row[3] == f"{100 * runs.recall.mean():.1f} ± {100 * runs.recall.std():.1f}"


@pytest.mark.fault(51)
def test_the_verdict_is_the_first_heading_and_bad_runs_are_named(
    directory: Path, comparison: dict[str, Any]
) -> None:
    text = (directory / "report.html").read_text()
    first = re.search(r"<h1>(.*?)</h1>", text)
    assert first
    assert html.unescape(first[1]) == headline(comparison)
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
    table = markdown_table([{"arm": "a|b\n*c*", "x": "`d` <b>"}])
    assert table.splitlines()[2] == r"| a\|b \*c\* | \`d\` \<b\> |"


def test_one_file_without_addresses_and_with_everything_to_do_it_again(
    directory: Path, page: Page
) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), tag
    text = (directory / "report.html").read_text()
    assert str(directory) not in text
    assert json.loads((directory / "config.json").read_text())["dataset"]["fingerprint"] in text
    assert "python -m experiments.compare --arms uniform balanced focal" in text


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


def test_the_same_results_give_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(directory, other, ignore=shutil.ignore_patterns("*.html", "*.md", "*.svg"))
    derive(Store(other))
    names = [
        "report.html",
        "report.md",
        *(f"figures/{p.name}" for p in (directory / "figures").iterdir()),
    ]
    for name in names:
        assert (other / name).read_bytes() == (directory / name).read_bytes()


@pytest.mark.slow
def test_twelve_arms_and_twenty_seeds_stay_below_three_megabytes(tmp_path: Path) -> None:
    names = ["uniform", "balanced", "effective_number", "focal", "logit_adjusted", "ldam", "mixup"]
    names += ["balanced_softmax", "label_smoothing", "class_balanced_sampling", "remix", "crt"]
    effects = dict(zip(names, np.linspace(0, 0.9, 12), strict=True))
    dataset = make_dataset([f"class {i}" for i in range(10)], image_shape=(28, 28, 1))
    write_runs(tmp_path / "big", effects, 20, dataset=dataset, num_epochs=40)
    derive(Store(tmp_path / "big"))
    assert (tmp_path / "big" / "report.html").stat().st_size < 3_000_000


def test_one_arm_alone_and_one_seed_alone(make_directory: Callable[..., Path]) -> None:
    alone = (make_directory({"uniform": 0.0}, 2) / "report.html").read_text()
    assert "there is nothing to compare it with" in alone
    once = (make_directory({"uniform": 0.0, "balanced": 0.9}, 1) / "report.html").read_text()
    assert "no spread to judge by (n = 1)" in once


@pytest.mark.fault(52)
def test_all_runs_diverged(make_directory: Callable[..., Path]) -> None:
    bad = [(arm, seed) for arm in ("uniform", "balanced") for seed in range(2)]
    directory = make_directory({"uniform": 0.0, "balanced": 0.9}, 2, bad_runs=bad)
    assert "No verdict: refused" in (directory / "report.html").read_text()


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
