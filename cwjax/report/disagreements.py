"""Test images on which arms disagree most often over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from cwjax.report.class_plots import paired_runs, to_picture
from cwjax.report.style import INK, MUTED, WIDTH, shorten, styled
from cwjax.store.contents import CellContents

NUM_SHOWN = 10
"""Images of the figure."""

POOL = 50
"""Images with the most disagreement, and all that tie with them, from which those are drawn."""

Right = Literal["baseline", "arm", "neither"]


@dataclass(frozen=True)
class Disagreement:
    """A test image on which arms differ."""

    place: int  # in Examples.test_images
    label: int
    num_total: int  # runs of any treatment that differ from the baseline's of their seed
    arm: str  # the treatment that differs most often
    num_runs: int  # of that treatment
    num_pairs: int
    baseline_prediction: int  # this and the next: the most frequent pair where the two differ
    arm_prediction: int

    @property
    def right(self) -> Right:
        """Which of the two predictions is right."""
        if self.baseline_prediction == self.label:
            return "baseline"
        return "arm" if self.arm_prediction == self.label else "neither"


def find_disagreements(contents: CellContents) -> list[Disagreement]:
    """The images on which arms differ from the baseline most often, over all arms and seeds.

    Returns:
        At least `POOL` where there are so many, with all that tie with the last of them.
    """
    indices = contents.examples.test_indices
    if not len(indices) or contents.cell.data.test_split == "per-seed":  # no images in common
        return []
    treatments = [arm for arm in contents.trained_as_they_are if arm != contents.baseline]
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
    order = np.argsort(-total, kind="stable")
    least = max(1, int(total[order[min(POOL, len(order)) - 1]]))
    found = []
    for place in order[total[order] >= least]:
        arm = list(predictions)[int(counts[:, place].argmax())]
        baseline, treatment = (runs[:, place] for runs in predictions[arm])
        differ = baseline != treatment
        votes = zip(baseline[differ].tolist(), treatment[differ].tolist(), strict=True)
        baseline_prediction, arm_prediction = _most_frequent(votes)
        found.append(
            Disagreement(
                place=int(place),
                label=int(contents.examples.test_labels[indices[place]]),
                num_total=int(total[place]),
                arm=arm,
                num_runs=int(differ.sum()),
                num_pairs=len(differ),
                baseline_prediction=baseline_prediction,
                arm_prediction=arm_prediction,
            )
        )
    return found


def _most_frequent(votes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The smallest of those that are equally frequent."""
    counted = Counter(votes)
    return min(counted, key=lambda vote: (-counted[vote], vote))


def draw_sample(found: Sequence[Disagreement]) -> list[Disagreement]:
    """At most `NUM_SHOWN` of them: who is right in the proportion of all, and class after class.

    Args:
        found: by `find_disagreements`.
    """
    number = min(NUM_SHOWN, len(found))
    groups: dict[Right, list[Disagreement]] = {"baseline": [], "arm": [], "neither": []}
    for one in found:
        groups[one.right].append(one)
    shares = {right: number * len(group) / max(1, len(found)) for right, group in groups.items()}
    places = {right: int(share) for right, share in shares.items()}
    by_rest = sorted(shares, key=lambda right: places[right] - shares[right])
    for right in by_rest[: number - sum(places.values())]:
        places[right] += 1
    shown: Counter[int] = Counter()  # images of each class
    sample = []
    for right, group in groups.items():
        left = list(group)
        for _ in range(places[right]):
            rarest = min(left, key=lambda one: shown[one.label])  # the first: most disagreement
            left.remove(rarest)
            shown[rarest.label] += 1
            sample.append(rarest)
    return sorted(sample, key=lambda one: (one.label, -one.num_total, one.place))


@styled
def draw_disagreements(contents: CellContents, sample: Sequence[Disagreement]) -> Figure:
    """The images with their label and both predictions, five in a row.

    Args:
        contents: for images and names.
        sample: by `draw_sample`, at least one.
    """
    per_row, side, text = 5, 1.1, 0.85
    pitch = WIDTH / per_row
    rows = -(-len(sample) // per_row)
    width, total = min(len(sample), per_row) * pitch, rows * (side + text)
    figure = Figure(figsize=(width, total))
    axis = figure.add_axes((0, 0, 1, 1))  # in inches, from the top left
    axis.axis("off")
    for index, one in enumerate(sample):
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
        for number, line in enumerate(_lines(contents, one)):
            below = y + side + 0.04 + 0.16 * number
            weight, color = "bold" if number == 0 else "normal", MUTED if number == 3 else INK
            axis.text(x, below, line, va="top", fontsize=8, weight=weight, color=color)
    axis.set_aspect("auto")
    axis.set_xlim(0, width)
    axis.set_ylim(total, 0)
    return figure


def _lines(contents: CellContents, one: Disagreement) -> list[str]:
    names = [shorten(name, 14) for name in contents.class_names]
    marks = {one.right: " (right)"}
    return [
        f"is {names[one.label]}",
        f"{shorten(contents.baseline, 20)}: {names[one.baseline_prediction]}"
        + marks.get("baseline", ""),
        f"{shorten(one.arm, 20)}: {names[one.arm_prediction]}" + marks.get("arm", ""),
        f"in {one.num_runs} of {one.num_pairs} seeds",
    ]
