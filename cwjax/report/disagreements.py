"""The test images on which arms disagree most often over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cwjax.results.class_plots import paired_runs, to_picture
from cwjax.results.contents import Contents
from cwjax.results.style import INK, MUTED, WIDTH, shorten, styled

NUM_SHOWN = 10
"""Images of the figure."""


@dataclass(frozen=True)
class Disagreement:
    """A test image on which arms differ."""

    place: int  # in Examples.test_images
    label: int
    num_runs: int  # of the treatment, whose prediction differs from the baseline's of that seed
    num_pairs: int
    arm: str  # the treatment that differs most often
    baseline_prediction: int  # this and the next: the most frequent pair where the two differ
    arm_prediction: int


def find_disagreements(contents: Contents) -> list[Disagreement]:
    """The images on which arms differ from the baseline most often, over all arms and seeds."""
    indices = contents.examples.test_indices
    treatments = [arm for arm in contents.config["arms"] if arm != contents.baseline]
    pairs = {arm: paired_runs(contents, arm) for arm in treatments}
    predictions = {
        arm: tuple(
            np.stack([run.test_logits[indices].argmax(axis=1) for run in runs]) for runs in both
        )
        for arm, both in pairs.items()
        if both[0]
    }
    if not predictions:
        return []
    counts = np.stack([np.sum(b != t, axis=0) for b, t in predictions.values()])
    total = counts.sum(axis=0)
    found = []
    for place in np.argsort(-total, kind="stable")[:NUM_SHOWN]:
        if total[place] == 0:
            break
        arm = list(predictions)[int(counts[:, place].argmax())]
        baseline, treatment = (runs[:, place] for runs in predictions[arm])
        differ = baseline != treatment
        votes = zip(baseline[differ].tolist(), treatment[differ].tolist(), strict=True)
        baseline_prediction, arm_prediction = _most_frequent(votes)
        found.append(
            Disagreement(
                place=int(place),
                label=int(contents.examples.test_labels[indices[place]]),
                num_runs=int(differ.sum()),
                num_pairs=len(differ),
                arm=arm,
                baseline_prediction=baseline_prediction,
                arm_prediction=arm_prediction,
            )
        )
    return found


def _most_frequent(votes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The smallest of those that are equally frequent."""
    counted = Counter(votes)
    return min(counted, key=lambda vote: (-counted[vote], vote))


@styled
def draw_disagreements(contents: Contents, found: Sequence[Disagreement]) -> Figure:
    """The images with their label and both predictions, five in a row.

    Args:
        contents: for images and names.
        found: by `find_disagreements`, at least one.
    """
    per_row, side, text = 5, 1.1, 0.85
    pitch = WIDTH / per_row
    rows = -(-len(found) // per_row)
    width, total = min(len(found), per_row) * pitch, rows * (side + text)
    figure = Figure(figsize=(width, total))
    axis = figure.add_axes((0, 0, 1, 1))  # in inches, from the top left
    axis.axis("off")
    for index, one in enumerate(found):
        row, column = divmod(index, per_row)
        x, y = column * pitch, row * (side + text)
        axis.imshow(
            to_picture(contents.examples.test_images[one.place], 200),
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="none",
            extent=(x, x + side, y + side, y),
        )
        for number, line in enumerate(_words(contents, one)):
            below = y + side + 0.04 + 0.16 * number
            weight, color = "bold" if number == 0 else "normal", MUTED if number == 3 else INK
            axis.text(x, below, line, va="top", fontsize=8, weight=weight, color=color)
    axis.set_aspect("auto")
    axis.set_xlim(0, width)
    axis.set_ylim(total, 0)
    return figure


def _words(contents: Contents, one: Disagreement) -> list[str]:
    names = [shorten(name, 14) for name in contents.class_names]
    return [
        f"is {names[one.label]}",
        f"{shorten(contents.baseline, 22)}: {names[one.baseline_prediction]}",
        f"{shorten(one.arm, 22)}: {names[one.arm_prediction]}",
        f"in {one.num_runs} of {one.num_pairs} seeds",
    ]
