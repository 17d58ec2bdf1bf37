"""Figures show the numbers they are given, and the same numbers give the same bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_runs import CELL, make_dataset, write_study
from matplotlib.figure import Figure

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import StudyComparison
from cwjax.data.dataset import Dataset
from cwjax.report import class_plots, curves, disagreements, layout, plots, style
from cwjax.report.disagreements import Disagreement, draw_disagreements, find_disagreements
from cwjax.report.figures import Studio
from cwjax.report.page import ReportFigure
from cwjax.report.style import (
    ARM_COLORS,
    BASELINE_COLOR,
    INK,
    ON_DARK,
    ArmStyle,
    align,
    arm_styles,
    panels,
    shorten,
    styled,
    to_pdf,
    to_svg,
)
from cwjax.store.contents import CellContents, read_cell
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import compare

NASTY = ("<script>alert(1)</script>", "$x^$ é, |`*", "../a\nb\x07\x1b[31m\u202e")
METRIC = METRICS["balanced_accuracy"]

Loaded = tuple[CellContents, StudyComparison]


def load(path: Path) -> Loaded:
    directory = StudyDirectory(path)
    study = directory.known_study()
    return read_cell(directory, study, CELL, study.run_keys), compare(directory)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = tmp_path_factory.mktemp("results") / "study"
    effects = {"uniform": 0.0, "balanced": 0.9, "focal": 0.05}
    write_study(path, effects, null_control=True, smallest_effect=0.02)
    return load(path)


def styles_of(contents: CellContents) -> dict[str, ArmStyle]:
    return Studio(contents.arms, contents.baseline, with_pdf=False).styles


def report_figures(loaded: Loaded) -> list[ReportFigure]:
    return layout.cell_page(*loaded, with_pdf=False).figures


def texts(figure: Figure) -> Iterator[str]:
    root = ET.fromstring(to_svg(figure, "name"))
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        yield "".join(element.itertext())


def lines(figure: Figure, color: str) -> list[np.ndarray]:
    """Points of every line of a colour; an artist may hold several, a gap behind each."""
    drawn = [
        np.asarray(line.get_xydata())
        for axis in figure.axes
        for line in axis.lines
        if line.get_color() == color
    ]
    gaps = [np.flatnonzero(np.isnan(points[:, 0])) for points in drawn]
    parts = [part for each in map(np.split, drawn, gaps) for part in each]
    whole = [part[~np.isnan(part[:, 0])] for part in parts]
    return [part for part in whole if len(part)]


def test_an_arm_keeps_its_colour_and_no_two_look_alike() -> None:
    arms = ["uniform", *(f"arm{i}" for i in range(12)), "null_control"]
    styles = arm_styles(arms, "uniform", {"null_control"})
    assert styles["uniform"].color == styles["null_control"].color == BASELINE_COLOR
    assert len({(style.color, style.line, style.marker) for style in styles.values()}) == len(arms)
    assert [styles[f"arm{i}"].color for i in range(6)] == list(ARM_COLORS)
    assert arm_styles(arms[:4], "uniform")["arm2"] == styles["arm2"]  # more arms change nothing


def test_differences_show_every_seed_both_intervals_and_what_is_detectable(
    loaded: Loaded,
) -> None:
    contents, comparison = loaded
    entries = comparison.comparisons
    figure = plots.differences(entries, METRIC, 0.02, styles_of(contents))
    drawn = {tuple(np.round(line[:, 0], 9)) for line in lines(figure, ARM_COLORS[0])}
    first = entries[0]
    interval = first.judged.interval
    assert tuple(np.round([100 * d for d in first.differences], 9)) in drawn
    assert tuple(np.round([100 * interval.ci_low, 100 * interval.ci_high], 9)) in drawn
    assert (round(100 * first.estimates.difference, 9),) in drawn
    words = list(texts(figure))
    assert {"balanced", "focal", "null_control"} <= set(words)
    assert any("percentage points" in word and "better →" in word for word in words)
    assert any("grey: smaller than matters" in word for word in words)
    assert any("dotted lines: detectable difference" in word for word in words)
    band = figure.axes[0].patches[0].get_extents().transformed(figure.axes[0].transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-2, 2))


def test_slopes_join_the_pairs_of_a_seed(loaded: Loaded) -> None:
    contents, comparison = loaded
    scores = {
        arm: {seed: run.scores[METRIC.name] for seed, run in runs.items()}
        for arm, runs in contents.runs.items()
    }
    figure = plots.slopes(scores, comparison.comparisons, METRIC, styles_of(contents))
    drawn = {tuple(np.round(line[:, 1], 9)) for line in lines(figure, ARM_COLORS[0])}
    for seed in contents.seeds:
        pair = scores["uniform"][seed], scores["balanced"][seed]
        assert tuple(np.round([100 * score for score in pair], 9)) in drawn
    assert sum(text in ("balanced", "focal", "null_control") for text in texts(figure)) == 6


def test_recall_differences_are_means_over_seeds(loaded: Loaded) -> None:
    contents, _ = loaded
    figure = class_plots.recall_differences(contents, ["balanced"], styles_of(contents))
    (mean,) = (line for line in lines(figure, ARM_COLORS[0]) if len(line) == 3)
    expected = np.mean(
        [
            contents.runs["balanced"][seed].class_scores["recall"]
            - contents.runs["uniform"][seed].class_scores["recall"]
            for seed in contents.seeds
        ],
        axis=0,
    )
    np.testing.assert_allclose(mean[:, 0], 100 * expected)
    assert {"ant (n = 100)", "bee (n = 20)", "cat (n = 4)"} <= set(texts(figure))


def test_curves_show_every_run_and_the_mean(loaded: Loaded) -> None:
    contents, _ = loaded
    figure = curves.learning_curves(contents, styles_of(contents))
    drawn = lines(figure, ARM_COLORS[0])
    assert len(drawn) == len(contents.seeds)
    np.testing.assert_array_equal(drawn[0][:, 0], [1, 2, 3])
    history = contents.runs["balanced"][0].history["val_balanced_accuracy"]
    np.testing.assert_allclose(drawn[0][:, 1], 100 * history)
    means = lines(figure, INK)
    np.testing.assert_allclose(means[1][:, 1], np.mean([d[:, 1] for d in drawn], axis=0))
    differences = lines(curves.paired_curves(contents, styles_of(contents)), ARM_COLORS[0])
    baseline = contents.runs["uniform"][0].history["val_balanced_accuracy"]
    np.testing.assert_allclose(differences[0][:, 1], 100 * (history - baseline))


def test_disagreements_are_counted_over_arms_and_seeds(loaded: Loaded) -> None:
    contents, _ = loaded
    found = find_disagreements(contents)
    predictions = {
        arm: np.stack([run.test_logits.argmax(axis=1) for run in runs.values()])
        for arm, runs in contents.runs.items()
    }
    differ = {arm: predictions[arm] != predictions["uniform"] for arm in ("balanced", "focal")}
    total = sum(each.sum(axis=0) for each in differ.values())
    assert [one.num_total for one in found] == sorted(total, reverse=True)[: len(found)]
    assert len(found) >= min(disagreements.POOL, np.sum(total > 0))
    for one in found:
        mask = differ[one.arm][:, one.place]
        assert (one.num_runs, one.num_pairs) == (mask.sum(), 8)
        assert one.num_total == total[one.place]
        assert one.baseline_prediction != one.arm_prediction
        assert one.label == contents.examples.test_labels[one.place]
    sample = disagreements.draw_sample(found)
    words = list(texts(draw_disagreements(contents, sample)))
    assert words.count(f"in {sample[0].num_runs} of 8 seeds") >= 1
    assert f"is {contents.class_names[sample[0].label]}" in words


def test_disagreements_are_drawn_across_classes_and_as_often_right_as_all() -> None:
    def one(place: int, label: int, right: str) -> Disagreement:
        other = label + 1
        baseline, arm = {
            "baseline": (label, other), "arm": (other, label), "neither": (other, other + 1)
        }[right]  # fmt: skip
        return Disagreement(place, label, 8, "balanced", 8, 8, baseline, arm)

    kinds = ["baseline"] * 84 + ["arm"] * 42 + ["neither"] * 14  # all tie, class after class
    found = [one(place, place // 28, right) for place, right in enumerate(kinds)]
    sample = disagreements.draw_sample(found)
    assert len(sample) == disagreements.NUM_SHOWN
    assert Counter(each.right for each in sample) == {"baseline": 6, "arm": 3, "neither": 1}
    assert set(Counter(each.label for each in sample).values()) == {2}  # of five classes
    assert disagreements.draw_sample(found[:3]) == found[:3]


def test_the_caption_says_how_disagreements_were_drawn(loaded: Loaded) -> None:
    found = find_disagreements(loaded[0])
    figure = next(f for f in report_figures(loaded) if f.name == "disagreements")
    assert f"10 images of the {len(found)} test images on which arms differ" in figure.caption
    right = 100 * np.mean([one.right == "baseline" for one in found])
    assert f"uniform is right on {right:.0f}%" in figure.caption
    assert "drawn across classes and in the proportion of right and wrong" in figure.caption


def test_heat_map_has_a_value_and_a_verdict_in_each_cell(loaded: Loaded) -> None:
    entry = loaded[1].comparisons[0]
    figure = plots.heat_map(
        [[entry, None], [entry, entry]], ["a", "b"], ["10", "50"], METRIC, largest=0.5
    )
    words = list(texts(figure))
    assert words.count("better") == 3
    assert words.count(f"{100 * entry.estimates.difference:+.2f}") == 3
    assert {"a", "b", "10", "50", "imbalance factor"} <= set(words)


@pytest.mark.fault(63)
def test_names_are_text_in_every_figure(tmp_path: Path) -> None:
    dataset = make_dataset(NASTY, name=NASTY[0])
    write_study(tmp_path / "study", {"uniform": 0.0, "balanced": 0.9}, 3, dataset=dataset)
    found = ""
    for figure in report_figures(load(tmp_path / "study")):
        root = ET.fromstring(figure.svg)  # well-formed whatever the names hold
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        found += "".join(root.itertext())
        assert "\x1b" not in figure.alt + figure.caption
    for name in NASTY:
        assert shorten(name, 14) in found
    assert r"\u202e" in shorten(NASTY[2])
    assert "\u202e" not in found


def test_features_have_no_pictures(tmp_path: Path) -> None:
    images = make_dataset()
    values = images.inputs[:, :, 0, 0].astype(np.float32)
    dataset = Dataset("toy", values, images.labels, images.num_train, images.class_names)
    write_study(tmp_path / "study", {"uniform": 0.0, "balanced": 0.9}, 4, dataset=dataset)
    figures = {figure.name: figure for figure in report_figures(load(tmp_path / "study"))}
    assert "disagreements" not in figures
    classes = figures["classes"]
    assert "training images" not in classes.caption + classes.alt + classes.svg
    assert classes.alt.endswith("class weights of each arm.")


def test_a_run_that_failed_is_no_obstacle(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9, "focal": 0.05}
    failures = {("uniform", 0): "no memory", ("focal", 1): "no memory"}
    write_study(tmp_path / "study", effects, 4, failures=failures, diverged="drop-pair")
    assert len(report_figures(load(tmp_path / "study"))) == 8


def test_the_same_results_give_the_same_bytes_without_clock_or_address(
    loaded: Loaded,
) -> None:
    first, second = report_figures(loaded), report_figures(loaded)
    assert first == second
    assert len({figure.name for figure in first}) == len(first) == 8
    for figure in first:
        assert not re.search(r"<dc:|20\d\d-\d\d|<metadata", figure.svg)
        assert set(re.findall(r"https?://[^\"]+", figure.svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert figure.alt
        assert figure.caption


def test_ink_turns_light_on_a_dark_page() -> None:
    @styled
    def draw() -> Figure:
        figure, (panel,) = panels(1, height=1)
        panel.axis.set_title("title")
        panel.axis.plot([0, 1], color=INK)
        return figure

    svg = to_svg(draw(), "name")
    assert f"fill: {INK}" in svg
    assert f"stroke: {INK}" in svg
    rules = svg[svg.index("@media (prefers-color-scheme: dark)") : svg.index("</style>")]
    for kind in ("fill", "stroke"):
        assert f'[style*="{kind}: {INK}"]{{{kind}:{ON_DARK[INK]}!important}}' in rules


@pytest.mark.parametrize(
    ("names", "shape"), [([f"c{i}" for i in range(45)], (4, 4, 3)), (["a", "b"], (40, 40, 1))]
)
def test_many_classes_and_large_images(
    tmp_path: Path, names: list[str], shape: tuple[int, int, int]
) -> None:
    dataset = make_dataset(names, num_test_per_class=3, image_shape=shape)
    write_study(tmp_path / "study", {"uniform": 0.0, "balanced": 0.9}, 2, dataset=dataset)
    figures = report_figures(load(tmp_path / "study"))
    classes = next(figure for figure in figures if figure.name == "classes")
    assert ("20 of 45 classes are shown" in classes.caption) == (len(names) == 45)


def test_pdf_embeds_its_fonts_and_has_no_clock(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "abc")
    pdfs = [
        Studio(loaded[0].arms, "uniform", with_pdf=True).differences(loaded[1]).pdf
        for _ in range(2)
    ]
    assert pdfs[0] is not None
    assert pdfs[0].startswith(b"%PDF")
    assert pdfs[0] == pdfs[1]
    assert b"CreationDate" not in pdfs[0]
    assert b"DejaVuSans" in pdfs[0]
    assert os.environ["SOURCE_DATE_EPOCH"] == "abc"


@styled
def named(name: str) -> Figure:
    figure, (panel,) = panels(1, height=1)
    panel.axis.set_title(shorten(name))
    return figure


def test_characters_without_a_font_are_readers_business_in_svg_and_escapes_in_pdf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []

    def draw() -> Figure:
        figure = named("家 é")
        shown.append(figure.axes[0].get_title(loc="left"))
        return figure

    assert "家 é" in list(texts(draw()))  # no warning, and the reader's browser has a font
    monkeypatch.setattr(style, "_font_with", lambda c: None if c == "家" else "DejaVu Sans")
    to_pdf(draw)
    monkeypatch.setattr(style, "_font_with", lambda _: "DejaVu Sans")
    to_pdf(draw)
    assert shown == ["家 é", r"\u5bb6 é", "家 é"]


def test_fonts_are_looked_up_by_what_they_can_draw() -> None:
    assert style._font_with("é") == "DejaVu Sans"
    assert style._font_with("\U000e0fff") is None


USERS_OWN = """
import sys
from pathlib import Path
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import derive
derive(StudyDirectory(Path(sys.argv[1])))
import matplotlib
print(matplotlib.rcParams["lines.linewidth"])
"""


def test_the_users_matplotlibrc_and_backend_change_nothing(
    make_directory: Callable[..., Path], tmp_path: Path
) -> None:
    directory = make_directory({"uniform": 0.0, "balanced": 0.9}, 3)
    before = {path: path.read_bytes() for path in directory.rglob("*.*g") if path.is_file()}
    before[directory / "report.html"] = (directory / "report.html").read_bytes()
    for path in before:
        path.unlink()
    settings = "text.usetex: True\nlines.linewidth: 30\nfont.size: 40\nsavefig.bbox: tight\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    own = {"MPLBACKEND": "nonsense", "MATPLOTLIBRC": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USERS_OWN, str(directory)],
        env=os.environ | own | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "30.0\n"  # what the user asked for still holds outside
    assert {path: path.read_bytes() for path in before} == before


def test_a_matplotlibrc_that_is_no_text_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    done = subprocess.run(
        [sys.executable, "-c", "from cwjax.report.pages import load_matplotlib as load; load()"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(
        "cwjax.errors.ConfigError: figures cannot be drawn: matplotlib says UnicodeDecodeError"
    )


def test_panels_have_one_scale_and_labels_at_the_outer_ones_alone() -> None:
    _, made = panels(7, height=1.0)
    for place, panel in enumerate(made):
        panel.axis.plot([0, 1 + place], [-place, 10 * place])
        panel.axis.set_ylim(10 * place + 1, -place)  # upside down
    align(made, grid="y")
    assert {panel.axis.get_ylim() for panel in made} == {(61, -6)}
    assert {panel.axis.get_xlim() for panel in made} == {made[0].axis.get_xlim()}
    assert made[0].axis.get_xlim()[1] > 7
    assert [p.axis.yaxis.get_visible() for p in made] == [p.starts_row for p in made]
    assert [p.axis.xaxis.get_visible() for p in made] == [p.ends_column for p in made]
    ticks = [place for place in made[0].axis.get_yticks() if -6 <= place <= 61]
    for panel in made:
        lines = [line[0, 1] for c in panel.axis.collections for line in c.get_segments()]
        assert lines == ([] if panel.starts_row else ticks)
