"""Figures of training: every run over its epochs, and how the arms drift apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cwjax.report.style import INK, ArmStyle, Panel, align, draw_lines, panels, shorten, styled
from cwjax.store.contents import CellContents
from cwjax.store.examples import evenly

MAX_POINTS = 60
"""Points of a curve: of more epochs an even selection is drawn, with the first and the last."""


def trained_arms(contents: CellContents) -> tuple[str, ...]:
    """The arms with a history; post-hoc arms are computed from another arm's runs."""
    return tuple(arm for arm in contents.arms if _curves(contents, arm))


@styled
def learning_curves(contents: CellContents, styles: Mapping[str, ArmStyle]) -> Figure:
    """One panel per arm: balanced validation accuracy of its runs, their mean, the baseline's mean.

    Args:
        contents: with at least one trained arm.
        styles: of the arms.
    """
    arms = trained_arms(contents)
    figure, made = panels(len(arms), height=1.9)
    baseline = _curves(contents, contents.baseline)
    for panel, arm in zip(made, arms, strict=True):
        axis = panel.axis
        curves = list(_curves(contents, arm).values())
        _draw_runs(panel, curves, styles[arm])
        if arm != contents.baseline and baseline:
            mean = _mean(list(baseline.values()))
            style = styles[contents.baseline]
            axis.plot(np.arange(1, len(mean) + 1), 100 * mean, color=style.color, lw=1.6)
        _draw_mean(panel, curves)
        _label(panel, arm, "balanced validation\naccuracy, %")
    align(made, grid="y")
    return figure


@styled
def paired_curves(contents: CellContents, styles: Mapping[str, ArmStyle]) -> Figure:
    """One panel per arm: its runs minus the baseline's of the same seed, epoch by epoch.

    An effect of weighting that fades with training shows as a curve that returns to 0.

    Args:
        contents: with the baseline and at least one other trained arm.
        styles: of the arms.
    """
    baseline = _curves(contents, contents.baseline)
    arms = [arm for arm in trained_arms(contents) if arm != contents.baseline]
    figure, made = panels(len(arms), height=1.9)
    for panel, arm in zip(made, arms, strict=True):
        axis = panel.axis
        differences = []
        for seed, curve in _curves(contents, arm).items():
            if seed in baseline:
                shared = min(len(curve), len(baseline[seed]))  # a second stage adds epochs
                differences.append(curve[:shared] - baseline[seed][:shared])
        axis.axhline(0, color=styles[contents.baseline].color, linewidth=1.6)
        _draw_runs(panel, differences, styles[arm])
        if differences:
            _draw_mean(panel, differences)
        _label(panel, arm, "difference,\npercentage points")
    align(made, grid="y")
    return figure


def _draw_runs(panel: Panel, curves: Sequence[np.ndarray], style: ArmStyle) -> None:
    """A thin line per run; `curves` are fractions by epoch, drawn in percent."""
    lines = [_drawn(curve) for curve in curves]
    if lines:
        draw_lines(panel.axis, lines, style.color, alpha=0.65)


def _draw_mean(panel: Panel, curves: Sequence[np.ndarray]) -> None:
    """One thick line, the mean of `curves`."""
    mean = _mean(curves)
    panel.axis.plot(np.arange(1, len(mean) + 1), 100 * mean, color=INK, linewidth=1.8)


def _label(panel: Panel, arm: str, quantity: str) -> None:
    """Title and the labels of the outer axes."""
    axis = panel.axis
    axis.set_title(shorten(arm))
    if panel.ends_column:
        axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if panel.starts_row:
        axis.set_ylabel(quantity)


def final_mean(contents: CellContents, arm: str) -> float:
    """Mean balanced validation accuracy of a trained arm after its last epoch."""
    return float(_mean(list(_curves(contents, arm).values()))[-1])


def _curves(contents: CellContents, arm: str) -> dict[int, np.ndarray]:
    """Balanced validation accuracy by seed, `[num_epochs]`, of the runs that ended well."""
    return {
        record.key.seed: record.history["val_balanced_accuracy"]
        for record in contents.ok_runs(arm)
        if record.history
    }


def _mean(curves: Sequence[np.ndarray]) -> np.ndarray:
    mean: np.ndarray = np.mean(curves, axis=0)
    return mean


def _drawn(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, from 1, and values in percent: of a long curve those that are drawn."""
    epochs = evenly(np.arange(len(curve)), MAX_POINTS)
    return epochs + 1, 100 * curve[epochs]
