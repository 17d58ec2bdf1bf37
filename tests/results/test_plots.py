"""Figures show the numbers they are given, and the same numbers give the same bytes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cwjax.results import class_plots, curves, plots
from cwjax.results.contents import Contents
from cwjax.results.disagreements import draw_disagreements, find_disagreements
from cwjax.results.figures import report_figures, styles_of
from cwjax.results.report import read_comparison
from cwjax.results.store import Store
from cwjax.results.style import (
    ARM_COLORS,
    BASELINE_COLOR,
    INK,
    ON_DARK,
    arm_styles,
    panels,
    shorten,
    styled,
    to_svg,
)
from drawn_runs import make_dataset
from matplotlib.figure import Figure

from cwjax.analysis.metrics import METRICS

NASTY = ("<script>alert(1)</script>", "$x^$ é, |`*", "../a\nb")
METRIC = METRICS["balanced_accuracy"]


@pytest.fixture
def loaded(make_directory: Callable[..., Path]) -> tuple[Contents, dict]:
    directory = make_directory(
        {"uniform": 0.0, "balanced": 0.9, "focal": 0.05}, null_control=True, smallest_effect=0.02
    )
    return read_comparison(Store(directory))


def texts(figure: Figure) -> Iterator[str]:
    root = ET.fromstring(to_svg(figure, "name"))
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        yield "".join(element.itertext())


def lines(figure: Figure, color: str) -> list[np.ndarray]:
    return [
        line.get_xydata()
        for axis in figure.axes
        for line in axis.lines
        if line.get_color() == color and len(line.get_xdata()) > 0
    ]


def test_an_arm_keeps_its_colour_and_no_two_look_alike() -> None:
    arms = ["uniform", *(f"arm{i}" for i in range(12)), "null_control"]
    styles = arm_styles(arms, "uniform", {"null_control"})
    assert styles["uniform"].color == styles["null_control"].color == BASELINE_COLOR
    assert len({(style.color, style.line, style.marker) for style in styles.values()}) == len(arms)
    assert [styles[f"arm{i}"].color for i in range(6)] == list(ARM_COLORS)
    assert arm_styles(arms[:4], "uniform")["arm2"] == styles["arm2"]  # more arms change nothing


def test_differences_show_every_seed_both_intervals_and_what_is_detectable(
    loaded: tuple[Contents, dict],
) -> None:
    contents, comparison = loaded
    entries = comparison["comparisons"]
    figure = plots.differences(entries, METRIC, styles_of(contents))
    drawn = {tuple(np.round(line[:, 0], 9)) for line in lines(figure, ARM_COLORS[0])}
    first = entries[0]
    interval = first["estimates"]["seed_interval"]
    assert tuple(np.round([100 * d for d in first["differences"]], 9)) in drawn
    assert tuple(np.round([100 * interval["ci_low"], 100 * interval["ci_high"]], 9)) in drawn
    assert (round(100 * first["estimates"]["difference"], 9),) in drawn
    words = list(texts(figure))
    assert {"balanced", "focal", "null_control"} <= set(words)
    assert any("percentage points" in word and "better →" in word for word in words)
    assert any("grey: smaller than matters" in word for word in words)
    band = figure.axes[0].patches[0].get_extents().transformed(figure.axes[0].transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-2, 2))


def test_slopes_join_the_pairs_of_a_seed(loaded: tuple[Contents, dict]) -> None:
    contents, comparison = loaded
    scores = {
        arm: {seed: run.scores[METRIC.name] for seed, run in runs.items()}
        for arm, runs in contents.runs.items()
    }
    figure = plots.slopes(scores, comparison["comparisons"], METRIC, styles_of(contents))
    drawn = {tuple(np.round(line[:, 1], 9)) for line in lines(figure, ARM_COLORS[0])}
    for seed in contents.seeds:
        pair = scores["uniform"][seed], scores["balanced"][seed]
        assert tuple(np.round([100 * score for score in pair], 9)) in drawn
    assert sum(text in ("balanced", "focal", "null_control") for text in texts(figure)) == 6


def test_recall_differences_are_means_over_seeds(loaded: tuple[Contents, dict]) -> None:
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


def test_curves_show_every_run_and_the_mean(loaded: tuple[Contents, dict]) -> None:
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


def test_disagreements_are_counted_over_arms_and_seeds(loaded: tuple[Contents, dict]) -> None:
    contents, _ = loaded
    found = find_disagreements(contents)
    predictions = {
        arm: np.stack([run.test_logits.argmax(axis=1) for run in runs.values()])
        for arm, runs in contents.runs.items()
    }
    differ = {arm: predictions[arm] != predictions["uniform"] for arm in ("balanced", "focal")}
    total = sum(each.sum(axis=0) for each in differ.values())
    assert total[found[0].place] == total.max()
    assert [total[one.place] for one in found] == sorted(total, reverse=True)[: len(found)]
    for one in found:
        mask = differ[one.arm][:, one.place]
        assert (one.num_runs, one.num_pairs) == (mask.sum(), 8)
        assert one.baseline_prediction != one.arm_prediction
        assert one.label == contents.examples.test_labels[one.place]
    words = list(texts(draw_disagreements(contents, found)))
    assert words.count(f"in {found[0].num_runs} of 8 seeds") >= 1
    assert f"is {contents.class_names[found[0].label]}" in words


def test_heat_map_has_a_value_and_a_verdict_in_each_cell(loaded: tuple[Contents, dict]) -> None:
    entry = loaded[1]["comparisons"][0]
    labels = {entry["verdict"]["key"]: "the verdict"}
    figure = plots.heat_map(
        [[entry, None], [entry, entry]], ["a", "b"], ["10", "50"], METRIC, labels, largest=0.5
    )
    words = list(texts(figure))
    assert words.count("the verdict") == 3
    assert words.count(f"{100 * entry['estimates']['difference']:+.2f}") == 3
    assert {"a", "b", "10", "50", "imbalance factor"} <= set(words)


@pytest.mark.fault(63)
def test_names_are_text_in_every_figure(make_directory: Callable[..., Path]) -> None:
    directory = make_directory(
        {"uniform": 0.0, "balanced": 0.9}, 3, dataset=make_dataset(NASTY, name=NASTY[0])
    )
    found = ""
    for figure in report_figures(*read_comparison(Store(directory))):
        root = ET.fromstring(figure.svg)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        found += "".join(root.itertext())
    for name in NASTY:
        assert shorten(name, 14) in found


def test_the_same_results_give_the_same_bytes_without_clock_or_address(
    loaded: tuple[Contents, dict],
) -> None:
    first, second = report_figures(*loaded), report_figures(*loaded)
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
    make_directory: Callable[..., Path], names: list[str], shape: tuple[int, int, int]
) -> None:
    dataset = make_dataset(names, num_test_per_class=3, image_shape=shape)
    directory = make_directory({"uniform": 0.0, "balanced": 0.9}, 2, dataset=dataset)
    comparison = json.loads((directory / "comparison.json").read_text())
    figures = report_figures(read_comparison(Store(directory))[0], comparison)
    classes = next(figure for figure in figures if figure.name == "classes")
    assert ("20 of 45 classes are shown" in classes.caption) == (len(names) == 45)
